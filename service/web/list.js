// All runs, newest first.
import { get } from './api.js'
import { el, keyed, part, text } from './dom.js'
import { clock, count, dollars, duration, number, since } from './format.js'

const ACTIVE = ['queued', 'launching', 'running', 'pausing', 'cancelling']
const PAGE = 50
const MOST = 1000
const FACTS = { loss: 'loss', speed: 'images/s', left: 'left', cost: 'cost', hours: 'acc.-hours', age: 'age' }

export const isActive = (run) => ACTIVE.includes(run.state)

export function listView(look) {
  let limit = PAGE
  const rows = el('ul', { class: 'runs' })
  const titles = el('div', { class: 'titles', 'aria-hidden': 'true' }, ['run', 'state', 'progress', ...Object.values(FACTS)].map((name) => el('span', {}, name)))
  const empty = el(
    'div',
    { class: 'empty', 'data-testid': 'empty', hidden: true },
    el('p', {}, 'No runs yet. Start one in a terminal:'),
    el('dl', {}, command('make demo', 'a small model learns to draw on this machine, in minutes'), command('dayrun run demo', 'the same recipe, once its data are there')),
  )
  const more = el('button', { class: 'more', hidden: true, onclick: () => ((limit = MOST), look()) }, 'Show older runs')
  const table = el('div', { class: 'list', hidden: true }, titles, rows)
  const element = el('section', {}, el('h1', {}, 'Runs'), table, empty, more)

  async function refresh() {
    const page = await get(`/runs?limit=${limit}`)
    keyed(rows, page.items, (run) => run.id, make, update)
    table.hidden = page.items.length === 0
    empty.hidden = !table.hidden
    more.hidden = page.next === null || limit === MOST
    return page.items.some(isActive)
  }
  return { element, refresh }
}

const command = (line, what) => [el('dt', {}, el('code', {}, line)), el('dd', {}, what)]

function make(run) {
  return el(
    'li',
    { 'data-testid': 'run-row', 'data-run': run.id },
    el(
      'a',
      { href: `#/runs/${run.id}`, class: 'run' },
      el('span', { class: 'who' }, el('strong', { 'data-part': 'name' }), el('code', { class: 'quiet' }, run.id)),
      el('span', {}, el('span', { 'data-part': 'state', 'data-testid': 'state', class: 'state' })),
      el('span', { class: 'how-far' }, el('progress', { max: 1, value: 0, 'data-part': 'bar', 'data-testid': 'progress', 'aria-label': 'progress' }), el('span', { 'data-part': 'steps', class: 'quiet' }), el('span', { 'data-part': 'waits', 'data-testid': 'waiting', class: 'quiet' })),
      Object.entries(FACTS).map(([name, label]) => el('span', { class: 'fact', 'data-fact': name }, el('small', {}, label), ' ', el('span', { 'data-part': name, 'data-testid': name }))),
    ),
  )
}

function update(row, run) {
  const p = run.progress
  showState(part(row, 'state'), run)
  part(row, 'bar').value = p.fraction ?? 0
  part(row, 'waits').hidden = !run.waiting
  const values = {
    name: run.name,
    waits: run.waiting ? `Waiting: ${run.waiting.because}` : '',
    steps: `${count(p.step)} / ${count(p.total_steps)}`,
    loss: number(p.loss, 3, true),
    speed: number(p.images_per_second),
    left: duration(p.eta_seconds),
    cost: dollars(run.cost.dollars),
    hours: run.cost.accelerator_hours.toFixed(run.cost.accelerator_hours < 10 ? 2 : 1),
    age: duration(since(run.created_at)),
  }
  for (const [name, value] of Object.entries(values)) text(part(row, name), value)
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
