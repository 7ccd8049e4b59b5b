// One run: where it stands, its curves, its pictures, what happened.
import { get, grower, post, Unreachable } from './api.js'
import { chart } from './chart.js'
import { el, keyed, part, text } from './dom.js'
import { showEvents } from './events.js'
import { bytes, clock, count, dollars, duration, full, NOTHING, number, since } from './format.js'
import { isActive, showState, waitingFor } from './list.js'
import { samplesView } from './samples.js'

const POINTS = 600
const FACTS = ['stage', 'loss', 'images/s', 'cost', 'accelerator-hours', 'attempt', 'age']
const SURE = { cancel: 'Cancel this run for good? What it has made so far stays.' }

export function runView(id, look) {
  const loss = chart('loss', 'Loss', { logarithmic: true, smooth: 10 })
  const speed = chart('speed', 'Images per second')
  const samples = samplesView()
  const name = el('h1', {}, '…')
  const labels = el('ul', { class: 'labels' })
  const state = el('span', { class: 'state', 'data-testid': 'state' })
  const moves = el('div', { class: 'moves' })
  const refused = el('p', { class: 'refused', role: 'alert', 'data-testid': 'refused', hidden: true })
  const why = el('div', { class: 'why', 'data-testid': 'evidence', hidden: true }, el('p', { 'data-part': 'cause' }), el('code', { 'data-part': 'lines' }))
  const waits = el('p', { class: 'waits', 'data-testid': 'waiting', hidden: true })
  const bar = el('progress', { max: 1, value: 0, 'data-testid': 'progress', 'aria-label': 'progress' })
  const done = el('span', { 'data-testid': 'steps' })
  const left = el('span', { class: 'quiet', 'data-testid': 'left' })
  const facts = el('dl', { class: 'facts' }, FACTS.map((fact) => el('div', {}, el('dt', {}, fact), el('dd', { 'data-part': fact }, NOTHING))))
  const events = el('ol', { class: 'events', tabindex: 0, 'aria-label': 'Events, newest first' })
  const checkpoints = el('tbody')
  const noCheckpoints = el('p', { class: 'quiet' }, 'None has been written yet.')
  const logs = el('ul', { class: 'logs' })
  const recipe = el('pre', { tabindex: 0, 'data-testid': 'recipe' })
  const element = el(
    'article',
    {},
    el('p', { class: 'back quiet' }, el('a', { href: '#/' }, '← All runs'), el('code', {}, id)),
    el('header', { class: 'head' }, name, state, moves),
    labels,
    refused,
    why,
    waits,
    el('div', { class: 'how-far large' }, el('p', {}, done, left), bar),
    facts,
    el('div', { class: 'charts' }, loss.element, speed.element),
    samples.element,
    el(
      'div',
      { class: 'columns' },
      el('section', {}, el('h2', {}, 'Events'), events),
      el('section', {}, el('h2', {}, 'Checkpoints'), noCheckpoints, el('div', { class: 'scroll' }, el('table', { class: 'checkpoints' }, checkpoints)), el('h2', {}, 'Logs'), logs),
    ),
    el('details', {}, el('summary', {}, 'Recipe'), recipe, el('p', {}, el('a', { href: `/runs/${id}/manifest` }, 'What the launcher is given'))),
  )

  let pictures, told, seen
  function afresh() {
    pictures = grower(`/runs/${id}/samples?limit=1000`)
    told = grower(`/runs/${id}/events?limit=1000`)
    seen = { drawn: 0 }
  }
  afresh()

  async function refresh() {
    const run = await get(`/runs/${id}`)
    // a new attempt may draw and measure again what the one before had; an ended one has written its last
    if (seen.state !== undefined && (seen.state !== run.state || seen.attempt !== run.attempt)) afresh()
    showRun(run)
    const [happened, drawn] = await Promise.all([told(), pictures()])
    showEvents(events, happened)
    if (drawn.length !== seen.drawn) samples.update(drawn)
    if (run.progress.step !== seen.step) {
      const { series } = await get(`/runs/${id}/metrics?names=loss,images_per_second&points=${POINTS}`)
      loss.update(series.loss ?? [])
      speed.update(series.images_per_second ?? [])
    }
    if (happened.at(-1)?.sequence !== seen.event) showCheckpoints((await get(`/runs/${id}/checkpoints`)).items)
    seen = { state: run.state, attempt: run.attempt, step: run.progress.step, drawn: drawn.length, event: happened.at(-1)?.sequence }
    return isActive(run)
  }

  function showRun(run) {
    const p = run.progress
    const percent = `${Math.floor(100 * (p.fraction ?? 0))} %`
    document.title = `${isActive(run) ? percent : run.state} · ${run.name} · dayrun`
    text(name, run.name)
    showState(state, run)
    keyed(labels, Object.entries(run.labels), ([key, value]) => `${key}=${value}`, ([key, value]) => el('li', {}, `${key}: ${value}`))
    keyed(moves, run.moves, (move) => move, button)
    bar.value = p.fraction ?? 0
    text(done, `${count(p.step)} of ${count(p.total_steps)} steps`)
    text(left, p.eta_seconds === null ? percent : `${percent}, ${duration(p.eta_seconds)} left`)
    const values = [
      p.stage ?? NOTHING,
      number(p.loss, 4, true),
      number(p.images_per_second),
      dollars(run.cost.dollars),
      number(run.cost.accelerator_hours),
      run.attempt === 0 ? 'none yet' : `${run.attempt} of ${run.attempts_allowed}`,
      duration(since(run.created_at)),
    ]
    FACTS.forEach((fact, i) => text(part(facts, fact), values[i]))
    why.hidden = run.cause === null && run.evidence.length === 0
    const wait = run.next_attempt_at === null ? null : Math.max(0, -since(run.next_attempt_at))
    const heading = { failed: 'Failed', paused: 'Paused' }[run.state] ?? 'The last attempt ended'
    text(part(why, 'cause'), `${heading}: ${(run.cause ?? 'unknown').replaceAll('_', ' ')}.${wait === null ? '' : ` The next attempt begins in ${duration(wait)}.`}`)
    text(part(why, 'lines'), run.evidence.join('\n'))
    waits.hidden = !run.waiting
    text(waits, run.waiting ? waitingFor(run.waiting) : '')
    const attempts = Array.from({ length: run.attempt }, (_, i) => run.attempt - i)
    keyed(logs, attempts, (attempt) => attempt, (attempt) => el('li', {}, `attempt ${attempt}: `, logLink(attempt, '0', 'rank 0'), ' · ', logLink(attempt, 'launcher', 'launcher')))
    if (run.attempt === 0) keyed(logs, ['none'], (none) => none, () => el('li', { class: 'quiet' }, 'Nothing has been launched yet.'))
    text(recipe, JSON.stringify(run.recipe, null, 2))
  }

  const logLink = (attempt, rank, label) => el('a', { href: `/runs/${id}/logs?attempt=${attempt}&rank=${rank}`, 'data-testid': 'log' }, label)

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
      ),
    )
  }

  const button = (move) => el('button', { 'data-testid': `move-${move}`, 'data-move': move, onclick: (event) => ask(move, event.currentTarget) }, move[0].toUpperCase() + move.slice(1))

  async function ask(move, pressed) {
    if (SURE[move] && !confirm(SURE[move])) return
    pressed.disabled = true
    try {
      showRun(await post(`/runs/${id}:${move}`))
      refused.hidden = true
    } catch (error) {
      text(refused, error instanceof Unreachable ? `No answer came; whether the run was asked to ${move} shows when the service is back.` : `The run cannot ${move}: ${error.message}`)
      refused.hidden = false
    }
    pressed.disabled = false
    look()
  }
  return { element, refresh }
}
