// Several runs side by side: figures, curves in one chart each, what their recipes differ in, the same prompts drawn by each.
import { get, Refusal } from './api.js'
import { curvesView, legend } from './curves.js'
import { choices, el, keyed, text } from './dom.js'
import { count, dollars, duration, number } from './format.js'
import { isActive, showState } from './list/row.js'
import { show, thumbnail } from './pictures.js'
import { described } from './run/matrix.js'
import { differences } from './run/papers.js'
import { viewer } from './run/viewer.js'

const MOST = 4
const SIDE = 176
const labelOf = (run) => `${run.name} …${run.id.slice(-4)}`

export function compareView(ids) {
  const place = el('div', { class: 'compared' })
  const add = el('select', { 'aria-label': 'Add a run', 'data-testid': 'add-run', onchange: () => add.value && (location.hash = `#/compare/${[...ids, add.value].join(',')}`) })
  const element = el('article', {}, el('p', { class: 'back quiet' }, el('a', { href: '#/' }, 'Runs'), ' / compare'), el('header', { class: 'head' }, el('h1', {}, 'Compare runs'), add), place)
  let parts = null

  async function refresh() {
    const runs = (await Promise.all(ids.map((id) => get(`/runs/${id}`)))).map((run) => ({ ...run, label: labelOf(run) }))
    if (parts === null) await begin(runs)
    parts.figures(runs)
    await parts.curves?.refresh(runs.map((run) => `${run.progress.step}/${run.attempt}`).join())
    await parts.pictures?.refresh(runs)
    if (parts.curves && !parts.listed) await parts.curves.list()
    parts.listed = true
    return runs.some(isActive)
  }

  async function begin(runs) {
    const { items } = await get('/runs?limit=100')
    add.hidden = ids.length >= MOST
    choices(add, [['', 'Add a run…'], ...items.filter((one) => !ids.includes(one.id)).map((one) => [one.id, `${labelOf(one)} · ${one.state}`])], '')
    parts = { figures: () => {} }
    if (runs.length < 2) return place.replaceChildren(el('p', { class: 'quiet' }, `Choose another run above to compare ${runs[0].label} with.`))
    const body = el('tbody')
    const table = el('div', { class: 'scroll', tabindex: 0, role: 'region', 'aria-label': 'Figures' }, el('table', { class: 'facts-table' }, el('thead', {}, el('tr', {}, ['run', 'state', 'steps', 'loss', 'images/s', 'time', 'dollars', ''].map((name) => (name ? el('th', { scope: 'col' }, name) : el('td'))))), body))
    const curves = curvesView(runs)
    const pictures = pairs(runs)
    const changes = el('div')
    place.replaceChildren(table, curves.element, el('section', { 'aria-label': 'Samples' }, el('h2', {}, 'The same prompts'), pictures.element), el('section', { 'aria-label': 'Recipes' }, el('h2', {}, 'What their recipes differ in'), changes))
    parts = { figures: (now) => figures(body, now), curves, pictures }
    curves.element.querySelector('.tools').prepend(legend(runs))
    const found = await Promise.all(runs.slice(1).map((run) => get(`/runs/${run.id}/recipe:diff?against=${runs[0].id}`)))
    changes.replaceChildren(
      ...found.flatMap(({ items }, i) => [el('h3', {}, `${runs[0].label} → ${runs[i + 1].label}`), items.length === 0 ? el('p', { class: 'quiet' }, 'Nothing: the same recipe.') : differences(items, runs[0].label, runs[i + 1].label)]),
    )
  }

  function figures(body, runs) {
    keyed(body, runs, (run) => run.id, (run) => {
      const without = ids.filter((id) => id !== run.id)
      return el('tr', { 'data-testid': 'compared-run' }, el('th', { scope: 'row' }, el('span', { class: `key of-${ids.indexOf(run.id)}` }, el('i', {}), el('a', { href: `#/runs/${run.id}` }, run.label))), el('td', {}, el('span', { class: 'state' })), ...Array.from({ length: 5 }, () => el('td')), el('td', {}, el('a', { href: `#/compare/${without.join(',')}`, 'aria-label': `Leave ${run.label} out` }, '×')))
    }, (line, run) => {
      showState(line.querySelector('.state'), run)
      const seconds = run.started_at ? (Date.parse(run.ended_at ?? new Date().toISOString()) - Date.parse(run.started_at)) / 1000 : null
      const values = [`${count(run.progress.step)} / ${count(run.progress.total_steps)}`, number(run.progress.loss, 4, true), number(run.progress.images_per_second), duration(seconds), dollars(run.cost.dollars)]
      values.forEach((value, i) => text(line.children[i + 2], value))
    })
  }
  return { element, refresh, title: 'Compare · dayrun' }
}

// What the runs drew of the same prompts from the same noise, at a step that a slider chooses.
function pairs(runs) {
  const slider = el('input', { type: 'range', min: 0, max: 0, value: 0, 'aria-label': 'Step', 'data-testid': 'compare-slider' })
  const said = el('output', { class: 'step' })
  const head = el('tr')
  const body = el('tbody')
  const none = el('p', { class: 'quiet' }, 'They have not drawn the same prompts yet.')
  const table = el('div', { class: 'scroll', tabindex: 0, role: 'region', 'aria-label': 'The same prompts' }, el('table', { class: 'pairs' }, el('thead', {}, head), body))
  const tools = el('div', { class: 'tools', hidden: true }, el('label', { class: 'slide wide' }, 'Step', slider, said))
  const element = el('div', {}, none, tools, table)
  let steps = []
  let found = null
  let drawnAt = null
  const large = viewer((row, column) => found?.pairs[row]?.samples[column])

  async function refresh(now) {
    const at = now.map((run) => run.progress.step).join()
    if (at === drawnAt) return
    drawnAt = at
    const every = await Promise.all(now.map((run) => stepsOf(run.id)))
    const before = steps.length
    const follow = Number(slider.value) >= before - 1
    steps = [...new Set(every.flat())].sort((a, b) => a - b)
    slider.max = Math.max(0, steps.length - 1)
    if (follow) slider.value = slider.max
    await draw()
  }

  let asked = 0
  async function draw() {
    tools.hidden = steps.length === 0
    if (steps.length === 0) return
    const step = steps[Number(slider.value)]
    text(said, count(step))
    const mine = (asked += 1)
    const answer = await get(`/samples:compare?runs=${runs.map((run) => run.id).join(',')}&step=${step}`)
    if (mine !== asked) return
    found = { ...answer, pairs: answer.pairs.filter((pair) => pair.samples.filter(Boolean).length > 1) }
    none.hidden = found.pairs.length > 0
    table.hidden = found.pairs.length === 0
    keyed(head, ['prompt', ...runs.map((run) => run.id)], (key) => key, () => el('th', { scope: 'col' }), (cell, key) => {
      const i = runs.findIndex((run) => run.id === key)
      text(cell, i < 0 ? 'prompt' : `${runs[i].label}, step ${count(found.steps[i])}`)
    })
    keyed(body, found.pairs, (pair) => `${pair.set} ${pair.prompt} ${pair.seed}`, (pair) => el('tr', { 'data-testid': 'pair' }, el('th', { scope: 'row' }, pair.prompt), runs.map(() => el('td'))), (line, pair) => {
      pair.samples.forEach((sample, i) => {
        const cell = line.children[i + 1]
        if (!sample) return cell.replaceChildren()
        if (!cell.firstChild) cell.append(el('button', { class: 'cell', onclick: () => large.open([...body.children].indexOf(line), i) }, el('img', { width: SIDE, height: Math.round((SIDE * sample.height) / sample.width), class: sample.width < SIDE ? 'pixels' : null, 'data-testid': 'pair-picture' })))
        const image = cell.querySelector('img')
        image.alt = `${pair.prompt}, ${runs[i].label}, step ${sample.step}`
        image.title = described(sample)
        show(image, sample.width <= 256 ? sample.url : thumbnail(sample.url, SIDE))
      })
    })
  }
  slider.addEventListener('input', () => draw().catch((error) => error instanceof Refusal || console.error(error)))
  return { element, refresh }
}

// The steps at which a run has drawn something: its pages of samples hold them.
async function stepsOf(id) {
  const steps = new Set()
  let cursor = ''
  for (;;) {
    const page = await get(`/runs/${id}/samples?limit=1000${cursor}`)
    for (const sample of page.items) steps.add(sample.step)
    if (page.next === null) return [...steps]
    cursor = `&cursor=${encodeURIComponent(page.next)}`
  }
}
