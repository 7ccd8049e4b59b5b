// All runs, newest first.
import { get } from './api.js'
import { age, duration, el, keyed, number, part, text } from './dom.js'

const ACTIVE = ['queued', 'launching', 'running', 'pausing', 'cancelling']

export function listView() {
  const rows = el('ul', { class: 'runs' })
  const empty = el(
    'div',
    { class: 'empty', hidden: true },
    el('p', {}, 'No runs yet. Start one:'),
    el('pre', {}, 'make demo          # a small model learns to draw on this machine\ndayrun run demo    # the same recipe, once its data are there'),
  )
  const more = el('p', { class: 'quiet', hidden: true }, 'Older runs: ', el('code', {}, 'dayrun list --limit 1000'))
  const element = el('section', { 'aria-label': 'Runs' }, el('h1', {}, 'Runs'), rows, empty, more)

  async function refresh() {
    const page = await get('/runs?limit=100')
    keyed(rows, page.items, (run) => run.id, make, update)
    empty.hidden = page.items.length > 0
    more.hidden = page.next === null
    return page.items.some((run) => ACTIVE.includes(run.state))
  }
  return { element, refresh }
}

function make(run) {
  return el(
    'li',
    { 'data-testid': 'run-row' },
    el(
      'a',
      { href: `#/runs/${run.id}`, class: 'run' },
      el('span', { class: 'who' }, el('strong', {}, run.name), el('code', { class: 'quiet' }, run.id)),
      el('span', { 'data-part': 'state', 'data-testid': 'state', class: 'state' }),
      el('span', { class: 'how-far' }, el('progress', { max: 1, 'data-part': 'bar', 'data-testid': 'progress' }), el('span', { 'data-part': 'steps', class: 'quiet' })),
      fact('loss', 'loss'),
      fact('speed', 'images/s'),
      fact('left', 'left'),
      fact('cost', 'cost'),
      fact('age', 'age'),
    ),
  )
}

const fact = (name, label) => el('span', { class: 'fact' }, el('span', { 'data-part': name }), el('small', {}, label))

function update(row, run) {
  showState(part(row, 'state'), run)
  part(row, 'bar').value = run.progress.fraction
  text(part(row, 'steps'), `${run.progress.step.toLocaleString()} / ${run.progress.total_steps.toLocaleString()}`)
  text(part(row, 'loss'), number(run.progress.loss))
  text(part(row, 'speed'), number(run.progress.images_per_second))
  text(part(row, 'left'), duration(run.progress.eta_seconds))
  text(part(row, 'cost'), `$${run.cost.dollars.toFixed(2)}`)
  text(part(row, 'age'), age(run.created_at))
}

export function showState(element, run) {
  element.dataset.state = run.state
  text(element, run.cause && run.state !== 'running' ? `${run.state}: ${run.cause}` : run.state)
}
