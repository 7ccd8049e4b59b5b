// The same prompts at one step, with a slider over the steps; and a box that draws new prompts from a checkpoint.
import { grower } from '../api.js'
import { choices, el, keyed, text } from '../dom.js'
import { count } from '../format.js'
import { show, thumbnail } from '../pictures.js'
import { drawsView } from './draws.js'
import { described, sameDrawing } from './matrix.js'
import { viewer } from './viewer.js'

const SIDE = 176
const PLAY_MS = 600

export function samplesPanel(id, look) {
  let pictures = grower(`/runs/${id}/samples?limit=1000`)
  let samples = []
  let rows = []
  let steps = []
  let following = true // the newest step, until somebody looks at an older one
  let seen = {}
  let player = null
  const set = el('select', { 'aria-label': 'Set of prompts', onchange: () => arrange() })
  const slider = el('input', { type: 'range', min: 0, max: 0, value: 0, 'aria-label': 'Step', 'data-testid': 'step-slider' })
  const said = el('output', { class: 'step', 'data-testid': 'slider-step' })
  const play = el('button', { class: 'chip', 'aria-pressed': 'false', onclick: () => toggle() }, 'Play')
  const other = el('a', { class: 'button', 'data-testid': 'compare-samples' }, 'Compare with another run')
  const none = el('p', { class: 'quiet' }, 'Nothing has been drawn yet. Once there is a checkpoint, type a prompt below and draw from it.')
  const grid = el('ul', { class: 'grid' })
  const tools = el('div', { class: 'tools' }, set, el('label', { class: 'slide wide' }, 'Step', slider, said), play, other)
  const draws = drawsView(id, look)
  const element = el('div', {}, el('section', { 'aria-label': 'Samples by step' }, tools, none, grid), draws.element)
  const large = viewer((row, column) => rows[row]?.byStep.get(steps[column]))

  slider.addEventListener('input', () => {
    following = Number(slider.value) === steps.length - 1
    draw()
  })
  other.href = `#/compare/${id}`

  function toggle() {
    const on = player === null
    play.setAttribute('aria-pressed', String(on))
    text(play, on ? 'Stop' : 'Play')
    clearInterval(player)
    player = on ? setInterval(() => go((Number(slider.value) + 1) % steps.length), PLAY_MS) : null
  }

  function go(index) {
    slider.value = index
    following = index === steps.length - 1
    draw()
  }

  async function refresh(run) {
    if (seen.state !== undefined && (seen.state !== run.state || seen.attempt !== run.attempt)) pictures = grower(`/runs/${id}/samples?limit=1000`)
    const drawn = await pictures()
    if (drawn.length !== samples.length) {
      samples = drawn
      arrange()
    }
    seen = { state: run.state, attempt: run.attempt }
    await draws.refresh(run)
  }

  function arrange() {
    const sets = [...new Set(samples.map((one) => one.set))]
    choices(set, sets.map((name) => [name, name]), sets.includes(set.value) ? set.value : sets[0])
    set.hidden = sets.length < 2
    const mine = samples.filter((one) => one.set === set.value)
    steps = [...new Set(mine.map((one) => one.step))].sort((a, b) => a - b)
    rows = [...Map.groupBy(mine, sameDrawing)].map(([key, same]) => ({ key, first: same[0], byStep: new Map(same.map((one) => [one.step, one])) }))
    slider.max = Math.max(0, steps.length - 1)
    if (following) slider.value = slider.max
    draw()
  }

  function draw() {
    none.hidden = steps.length > 0
    tools.hidden = steps.length === 0
    play.hidden = steps.length < 2
    const column = Number(slider.value)
    text(said, steps.length ? count(steps[column]) : '')
    slider.setAttribute('aria-valuetext', `step ${steps[column]}`)
    keyed(grid, rows, (row) => row.key, makeFigure, (item, row) => {
      const sample = row.byStep.get(steps[column])
      const image = item.querySelector('img')
      image.dataset.step = steps[column]
      image.classList.toggle('missing', !sample)
      if (!sample) return
      image.alt = `${sample.prompt}, step ${sample.step}`
      show(image, sample.width <= 256 ? sample.url : thumbnail(sample.url, SIDE))
    })
  }

  const makeFigure = (row) =>
    el(
      'li',
      {},
      el('button', { class: 'cell', onclick: () => large.open(rows.findIndex((one) => one.key === row.key), Number(slider.value)) }, el('img', { class: row.first.width < SIDE ? 'pixels' : null, alt: '', width: SIDE, height: Math.round((SIDE * row.first.height) / row.first.width), 'data-testid': 'sample-at' })),
      el('span', { class: 'caption', title: described(row.first) }, row.first.prompt),
    )

  // , and . go a step back and on, as in a film.
  function key({ key }) {
    const by = { ',': -1, '.': 1 }[key]
    if (by === undefined || steps.length === 0) return false
    go(Math.max(0, Math.min(steps.length - 1, Number(slider.value) + by)))
    return true
  }
  const rest = () => player !== null && toggle()
  return { element, refresh, key, rest, close: rest }
}
