// What one looks at first: curves, what is drawn, what happened, the checkpoints.
import { get, grower } from '../api.js'
import { curvesView } from '../curves.js'
import { el, keyed } from '../dom.js'
import { bytes, clock, count, full } from '../format.js'
import { isActive } from '../list/row.js'
import { follow } from '../stream.js'
import { showEvents } from './events.js'
import { matrixView } from './matrix.js'

export function overviewPanel(id, look) {
  const curves = curvesView([{ id, label: 'this run' }])
  const matrix = matrixView()
  const events = el('ol', { class: 'events', tabindex: 0, 'aria-label': 'Events, newest first' })
  const checkpoints = el('tbody')
  const noCheckpoints = el('p', { class: 'quiet' }, 'None has been written yet.')
  const element = el(
    'div',
    {},
    curves.element,
    matrix.element,
    el(
      'div',
      { class: 'columns' },
      el('section', { 'aria-label': 'Events' }, el('h2', {}, 'Events'), events),
      el('section', { 'aria-label': 'Checkpoints' }, el('h2', {}, 'Checkpoints'), noCheckpoints, el('div', { class: 'scroll' }, el('table', { class: 'checkpoints' }, checkpoints))),
    ),
  )
  let pictures, told, seen
  let live = null

  function afresh() {
    pictures = grower(`/runs/${id}/samples?limit=1000`)
    told = grower(`/runs/${id}/events?limit=1000`)
    seen = { drawn: 0, event: null }
  }
  afresh()

  async function refresh(run) {
    // a new attempt may draw and measure again what the one before had; an ended one has written its last
    if (seen.state !== undefined && (seen.state !== run.state || seen.attempt !== run.attempt)) afresh()
    const [happened, drawn] = await Promise.all([told(), pictures()])
    showEvents(events, happened)
    if (drawn.length !== seen.drawn) matrix.update(drawn)
    await curves.refresh(`${run.progress.step} ${run.attempt}`)
    const last = happened.at(-1)?.sequence
    if (last !== seen.event) {
      showCheckpoints((await get(`/runs/${id}/checkpoints`)).items)
      await curves.list()
    }
    seen = { state: run.state, attempt: run.attempt, drawn: drawn.length, event: last }
    if (live === null && isActive(run)) live = follow(`/runs/${id}/events`, look, { last: String(last ?? 0), over: () => !isActive({ state: seen.state }) })
  }

  function showCheckpoints(found) {
    noCheckpoints.hidden = found.length > 0
    keyed(checkpoints, found.toReversed(), (one) => one.digest + one.step, (one) =>
      el(
        'tr',
        { 'data-testid': 'checkpoint', title: `${full(one.time)}, SHA-256 ${one.digest}` },
        el('th', { scope: 'row' }, `step ${count(one.step)}`),
        el('td', {}, bytes(one.bytes)),
        el('td', {}, `attempt ${one.attempt}`),
        el('td', {}, clock(one.time)),
        el('td', {}, el('a', { href: `#/new?fork=${id}&step=${one.step}`, 'aria-label': `Fork from step ${one.step}` }, 'fork')),
      ),
    )
  }
  const rest = () => (live?.stop(), (live = null))
  return { element, refresh, rest, close: () => (rest(), matrix.close()) }
}
