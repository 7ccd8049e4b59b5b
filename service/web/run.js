// One run: where it stands, its curves, its pictures, what happened.
import { all, get, post } from './api.js'
import { chart } from './chart.js'
import { bytes, clock, duration, el, keyed, number, part, text } from './dom.js'
import { showState } from './list.js'
import { samplesView } from './samples.js'

const OVER = ['cancelled', 'succeeded', 'failed', 'paused']
const POINTS = 800

export function runView(id) {
  const loss = chart('loss', 'Loss', { logarithmic: true, smooth: 25 })
  const speed = chart('speed', 'Images per second')
  const samples = samplesView()
  const moves = el('div', { class: 'moves' })
  const said = el('p', { class: 'said', role: 'alert', hidden: true })
  const evidence = el('ul', { class: 'evidence', 'data-testid': 'evidence' })
  const events = el('ol', { class: 'events' })
  const checkpoints = el('ul', { class: 'checkpoints' })
  const recipe = el('pre')
  const facts = el('dl', { class: 'facts' }, ['steps', 'stage', 'loss', 'images/s', 'left', 'cost', 'attempt'].map((name) => el('div', {}, el('dt', {}, name), el('dd', { 'data-part': name }, '–'))))
  const heading = el('h1', {}, el('span', { 'data-part': 'name' }, '…'))
  const state = el('span', { class: 'state', 'data-testid': 'state' })
  const bar = el('progress', { max: 1, value: 0, 'data-testid': 'progress', 'aria-label': 'progress' })
  const element = el(
    'article',
    {},
    el('p', { class: 'quiet back' }, el('a', { href: '#/' }, '← all runs'), ' ', el('code', {}, id)),
    el('div', { class: 'head' }, heading, state, moves),
    said,
    evidence,
    bar,
    facts,
    el('div', { class: 'charts' }, loss.element, speed.element),
    samples.element,
    el('div', { class: 'columns' }, el('section', {}, el('h2', {}, 'Events'), events), el('section', {}, el('h2', {}, 'Checkpoints'), checkpoints)),
    el('details', {}, el('summary', {}, 'Recipe'), recipe),
    el('p', {}, el('a', { href: `/runs/${id}/logs` }, 'log of rank 0'), ' · ', el('a', { href: `/runs/${id}/logs?rank=launcher` }, 'log of the launcher'), ' · ', el('a', { href: `/runs/${id}/manifest` }, 'manifest')),
  )
  let lastEvent = 0
  const told = []

  async function refresh() {
    const [run, metrics, drawn, fresh, kept] = await Promise.all([
      get(`/runs/${id}`),
      get(`/runs/${id}/metrics?names=loss,images_per_second&points=${POINTS}`),
      all(`/runs/${id}/samples?limit=1000`),
      all(`/runs/${id}/events?limit=500&cursor=${lastEvent}`),
      get(`/runs/${id}/checkpoints`),
    ])
    text(part(heading, 'name'), run.name)
    showState(state, run)
    keyed(evidence, run.evidence, (line) => line, (line) => el('li', {}, line))
    bar.value = run.progress.fraction
    const p = run.progress
    const values = {
      steps: `${p.step.toLocaleString()} of ${p.total_steps.toLocaleString()}`,
      stage: p.stage ?? '–',
      loss: number(p.loss, 4),
      'images/s': number(p.images_per_second),
      left: duration(p.eta_seconds),
      cost: `$${run.cost.dollars.toFixed(2)} (${number(run.cost.accelerator_hours)} accelerator-hours)`,
      attempt: `${run.attempt} of ${run.attempts_allowed}`,
    }
    for (const [name, value] of Object.entries(values)) text(part(facts, name), value)
    keyed(moves, run.moves, (move) => move, (move) => el('button', { 'data-testid': `move-${move}`, onclick: () => ask(move) }, move))
    loss.update(metrics.series.loss ?? [], p.total_steps)
    speed.update(metrics.series.images_per_second ?? [], p.total_steps)
    samples.update(drawn)
    told.push(...fresh)
    lastEvent = told.at(-1)?.id ?? 0
    keyed(events, told.slice(-200).reverse(), (event) => event.id, eventLine)
    keyed(checkpoints, kept.items.toReversed(), (one) => one.step, (one) => el('li', {}, `step ${one.step.toLocaleString()}`, el('span', { class: 'quiet' }, ` ${bytes(one.bytes)}, attempt ${one.attempt}, ${clock(one.time)}`)))
    if (!recipe.firstChild) text(recipe, JSON.stringify(run.recipe, null, 2))
    return !OVER.includes(run.state)
  }

  async function ask(move) {
    if (move === 'cancel' && !confirm('Cancel this run for good? What it made so far stays.')) return
    try {
      await post(`/runs/${id}:${move}`)
      said.hidden = true
    } catch (error) {
      text(said, error.message)
      said.hidden = false
    }
    await refresh()
  }
  return { element, refresh }
}

function eventLine(event) {
  const data = Object.entries(event.data)
    .filter(([, value]) => value !== null && value !== '' && !(Array.isArray(value) && value.length === 0))
    .map(([name, value]) => `${name.replaceAll('_', ' ')} ${typeof value === 'object' ? JSON.stringify(value) : value}`)
  return el(
    'li',
    { 'data-testid': 'event-row', 'data-type': event.type },
    el('time', { datetime: event.time, class: 'quiet' }, clock(event.time)),
    el('span', {}, event.type.replaceAll('_', ' ')),
    el('span', { class: 'quiet' }, [event.step === null ? null : `step ${event.step}`, ...data].filter(Boolean).join(' · ')),
  )
}
