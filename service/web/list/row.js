// One run in a list: what it is, where it stands, what it costs.
import { el, text } from '../dom.js'
import { clock, count, dollars, duration, number, since } from '../format.js'

const ACTIVE = ['queued', 'launching', 'running', 'pausing', 'cancelling']
export const FACTS = { loss: 'loss', speed: 'images/s', left: 'left', cost: 'cost', age: 'age' }

export const isActive = (run) => ACTIVE.includes(run.state)

export function makeRow(run, selected, choose) {
  const box = el('input', { type: 'checkbox', 'data-part': 'box', 'data-testid': 'select', onchange: (event) => choose(run.id, event.currentTarget.checked) })
  box.checked = selected.has(run.id)
  const row = el(
    'li',
    { 'data-testid': 'run-row', 'data-run': run.id },
    el('label', { class: 'pick' }, box),
    el(
      'a',
      { href: `#/runs/${run.id}`, class: 'run' },
      el('span', { class: 'who' }, el('strong', { 'data-part': 'name' }), el('span', { class: 'tags', 'data-part': 'tags' })),
      el('span', { class: 'is' }, el('span', { 'data-part': 'state', 'data-testid': 'state', class: 'state' })),
      el(
        'span',
        { class: 'how-far' },
        el('progress', { max: 1, value: 0, 'data-part': 'bar', 'data-testid': 'progress', 'aria-label': 'progress' }),
        el('span', { 'data-part': 'steps', class: 'quiet' }),
        el('span', { 'data-part': 'waits', 'data-testid': 'waiting', class: 'quiet' }),
      ),
      Object.entries(FACTS).map(([name, label]) => el('span', { class: 'fact', 'data-fact': name }, el('small', {}, label), ' ', el('span', { 'data-part': name, 'data-testid': name }))),
    ),
  )
  row.parts = Object.fromEntries([...row.querySelectorAll('[data-part]')].map((one) => [one.dataset.part, one])) // looked for once
  return row
}

export function updateRow(row, run, selected) {
  const p = run.progress
  const { state, bar, waits, steps, box } = row.parts
  showState(state, run)
  row.toggleAttribute('data-over', !isActive(run) && run.state !== 'paused')
  bar.value = p.fraction ?? 0
  waits.hidden = !run.waiting
  steps.hidden = Boolean(run.waiting)
  box.checked = selected.has(run.id)
  box.setAttribute('aria-label', `Select ${run.name} to compare`)
  waits.title = run.waiting ? `Waiting: ${run.waiting.because}` : ''
  const values = {
    name: run.name,
    tags: [`…${run.id.slice(-6)}`, run.project === 'default' ? null : run.project, ...Object.entries(run.labels).map(([key, value]) => `${key}=${value}`)].filter(Boolean).join('  ·  '),
    waits: waits.title,
    steps: `${count(p.step)} / ${count(p.total_steps)}`,
    loss: number(p.loss, 3, true),
    speed: number(p.images_per_second),
    left: duration(p.eta_seconds),
    cost: dollars(run.cost.dollars),
    age: duration(since(run.created_at)),
  }
  for (const [name, value] of Object.entries(values)) text(row.parts[name], value)
}

export function showState(element, run) {
  element.dataset.state = run.state
  text(element, run.cause && run.state !== 'running' ? `${run.state}: ${run.cause.replaceAll('_', ' ')}` : run.state)
}

// Why a queued run has not begun, with its place and the time when they are known.
export function waitingFor({ because, place, expected_start }) {
  const more = [place && `place ${count(place)} in the queue`, expected_start && `expected to begin ${clock(expected_start)}`].filter(Boolean)
  return [`Waiting: ${because}`, ...more].join(' · ')
}
