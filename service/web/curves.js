// Curves of one run or of several: which are shown, smoothed how much, zoomed where. Used by a run's page and by comparisons.
import { get } from './api.js'
import { chart, sharedView } from './chart.js'
import { choices, el, keyed, text } from './dom.js'

const POINTS = 800
const ZOOMED_POINTS = 20_000
const LIST_MS = 60_000
const SHARE = 10
const REACH = [0, 2, 5, 10, 20, 40, 80]
const TITLES = {
  loss: 'Loss',
  images_per_second: 'Images per second',
  gradient_norm: 'Gradient norm',
  learning_rate: 'Learning rate',
  validation_loss: 'Validation loss',
}
const LOGARITHMIC = /loss|norm/
const FIRST = ['loss', 'images_per_second']

const titleOf = (name) => TITLES[name] ?? name.replaceAll('_', ' ').replace(/^./, (first) => first.toUpperCase())

// `runs`: [{ id, label }]; the ids must not change, labels may.
export function curvesView(runs) {
  const view = sharedView(REACH[3])
  const chosen = new Map() // name → chart
  const charts = el('div', { class: 'charts' })
  const smooth = el('input', { type: 'range', min: 0, max: REACH.length - 1, value: 3, 'aria-label': 'Smoothing', 'data-testid': 'smoothing' })
  const reach = el('span', { class: 'quiet' }, `mean of ${2 * REACH[3] + 1}`)
  smooth.addEventListener('input', () => {
    const points = REACH[Number(smooth.value)]
    text(reach, points ? `mean of ${2 * points + 1}` : 'raw')
    view.set({ smooth: points })
  })
  const whole = el('button', { class: 'chip', hidden: true, 'data-testid': 'zoom-out', onclick: () => view.set({ range: null }) }, 'Show all steps')
  const more = el('select', { 'aria-label': 'Add a curve', 'data-testid': 'add-curve', hidden: true })
  more.addEventListener('change', () => {
    if (more.value) add(more.value)
    choose()
    refresh(true)
  })
  const tools = el('div', { class: 'tools' }, el('label', { class: 'slide' }, 'Smoothing', smooth, reach), whole, more)
  const element = el('section', { class: 'curves', 'aria-label': 'Curves' }, tools, charts)
  let names = []
  let fetchedAt = null
  let zoomed = false
  let listedAt = 0
  let restsUntil = 0

  function add(name) {
    const made = chart(name, titleOf(name), view, { logarithmic: LOGARITHMIC.test(name) })
    if (!FIRST.includes(name)) {
      const away = el('button', { class: 'chip small', 'aria-label': `Remove ${titleOf(name)}`, onclick: () => (chosen.delete(name), made.element.remove(), choose()) }, '×')
      made.element.querySelector('output').before(away)
    }
    chosen.set(name, made)
    charts.append(made.element)
  }

  function choose() {
    const left = names.filter((name) => !chosen.has(name))
    more.hidden = left.length === 0
    choices(more, [['', 'Add a curve…'], ...left.map((name) => [name, titleOf(name)])], '')
  }

  view.draws(() => {
    whole.hidden = view.range === null
    if (view.range === null || zoomed) return
    zoomed = true // finer points, once they can be told apart
    refresh(true)
  })
  for (const name of FIRST) add(name)

  // `at`: anything that changes with the curves; nothing is asked for while it stays.
  async function refresh(at) {
    if (at !== true && (at === fetchedAt || Date.now() < restsUntil)) return
    const began = Date.now()
    const wanted = [...chosen.keys()]
    const points = zoomed ? ZOOMED_POINTS : POINTS
    const found = await Promise.all(runs.map(({ id }) => get(`/runs/${id}/metrics?names=${wanted.map(encodeURIComponent).join(',')}&points=${points}`)))
    restsUntil = Date.now() + SHARE * (Date.now() - began) // long series take long to read: the service is to have other things to do
    if (at !== true) fetchedAt = at
    for (const name of wanted) {
      chosen.get(name)?.update(runs.map(({ id, label }, i) => ({ id, label, points: found[i].series[name] ?? [] })))
    }
  }

  // Which curves there are besides: the service reads every series for it, so it is asked seldom.
  async function list() {
    if (Date.now() - listedAt < LIST_MS) return
    listedAt = Date.now()
    const found = await Promise.all(runs.map(({ id }) => get(`/runs/${id}/metrics?points=2`)))
    names = [...new Set(found.flatMap(({ series }) => Object.keys(series)))].sort()
    choose()
  }
  return { element, refresh, list }
}

// Which colour is which run.
export function legend(runs) {
  const list = el('ul', { class: 'legend' })
  keyed(list, runs, (run) => run.id, (run) => el('li', { class: `key of-${runs.indexOf(run)}` }, el('i', {}), el('a', { href: `#/runs/${run.id}` }, run.label)))
  return list
}
