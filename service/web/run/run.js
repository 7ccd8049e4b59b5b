// One run: where it stands and what can be done, and below it one of several panels.
import { get } from '../api.js'
import { el, keyed, part, text } from '../dom.js'
import { clock, count, dollars, duration, NOTHING, number, since } from '../format.js'
import { isActive, showState, waitingFor } from '../list/row.js'
import { logsPanel } from './logs.js'
import { movesOf } from './moves.js'
import { overviewPanel } from './overview.js'
import { manifestPanel, recipePanel } from './papers.js'
import { planPanel } from './plan.js'
import { samplesPanel } from './samples.js'

const FACTS = ['spent', 'expected in all', 'ends', 'stage', 'loss', 'images/s', 'attempt', 'age']
const PANELS = { overview: overviewPanel, samples: samplesPanel, logs: logsPanel, recipe: recipePanel, plan: planPanel, manifest: manifestPanel }
const ESTIMATE_MS = 10_000

export function runView(id, tab, look) {
  const name = el('h1', {}, '…')
  const labels = el('ul', { class: 'labels' })
  const state = el('span', { class: 'state', 'data-testid': 'state' })
  const why = el('div', { class: 'why', 'data-testid': 'evidence', hidden: true }, el('p', { 'data-part': 'cause' }), el('code', { 'data-part': 'lines' }))
  const waits = el('p', { class: 'waits', 'data-testid': 'waiting', hidden: true })
  const bar = el('progress', { max: 1, value: 0, 'data-testid': 'progress', 'aria-label': 'progress' })
  const done = el('span', { 'data-testid': 'steps' })
  const left = el('span', { class: 'quiet', 'data-testid': 'left' })
  const facts = el('dl', { class: 'facts' }, FACTS.map((fact) => el('div', {}, el('dt', {}, fact), el('dd', { 'data-part': fact, 'data-testid': `fact-${fact.replaceAll(/\W+/g, '-')}` }, NOTHING))))
  const moves = movesOf(id, showRun, look)
  const tabs = el('nav', { class: 'tabs', 'aria-label': 'Parts of this run' }, Object.keys(PANELS).map((one) => el('a', { href: `#/runs/${id}${one === 'overview' ? '' : `/${one}`}`, 'data-tab': one, 'data-testid': `tab-${one}` }, one)))
  const place = el('div', { class: 'panel' })
  const element = el(
    'article',
    {},
    el('p', { class: 'back quiet' }, el('a', { href: '#/' }, 'Runs'), ' / ', el('code', {}, id)),
    el('header', { class: 'head' }, name, state, moves.buttons),
    labels,
    moves.refused,
    why,
    waits,
    el('div', { class: 'how-far large' }, el('p', {}, done, left), bar),
    facts,
    tabs,
    place,
  )
  const panels = new Map()
  let estimate = null
  let estimatedAt = 0
  let open
  const view = { element, refresh, show, close: () => panels.forEach((panel) => panel.close?.()), key: (event) => panels.get(open)?.key?.(event) ?? false, title: 'dayrun' }

  function show(next) {
    open = Object.hasOwn(PANELS, next) ? next : 'overview'
    panels.forEach((panel, other) => other !== open && panel.rest?.())
    if (!panels.has(open)) panels.set(open, PANELS[open](id, look))
    place.replaceChildren(panels.get(open).element)
    for (const link of tabs.children) link.toggleAttribute('aria-current', link.dataset.tab === open)
    tabs.querySelector('[aria-current]').setAttribute('aria-current', 'page')
  }

  async function refresh() {
    const run = await get(`/runs/${id}`)
    showRun(run)
    if (Date.now() - estimatedAt > ESTIMATE_MS || estimate?.state !== run.state) {
      estimate = { ...(await get(`/runs/${id}/estimate`)), state: run.state }
      estimatedAt = Date.now()
      showRun(run)
    }
    await panels.get(open).refresh(run, estimate)
    return isActive(run)
  }

  function showRun(run) {
    const p = run.progress
    const percent = `${Math.floor(100 * (p.fraction ?? 0))} %`
    view.title = document.title = `${isActive(run) ? percent : run.state} · ${run.name} · dayrun`
    text(name, run.name)
    showState(state, run)
    const shown = [...(run.project === 'default' ? [] : [['project', run.project]]), ...(run.priority ? [['priority', run.priority]] : []), ...Object.entries(run.labels)]
    keyed(labels, shown, ([key, value]) => `${key}=${value}`, ([key, value]) => el('li', {}, `${key}: ${value}`))
    moves.update(run)
    bar.value = p.fraction ?? 0
    bar.parentElement.toggleAttribute('data-over', !isActive(run) && run.state !== 'paused')
    text(done, `${count(p.step)} of ${count(p.total_steps)} steps`)
    text(left, p.eta_seconds === null ? percent : `${percent}, ${duration(p.eta_seconds)} left`)
    const values = { ...money(run), ends: ends(run), stage: p.stage ?? NOTHING, loss: number(p.loss, 4, true), 'images/s': number(p.images_per_second), attempt: run.attempt === 0 ? 'none yet' : `${run.attempt} of ${run.attempts_allowed}`, age: duration(since(run.created_at)) }
    for (const fact of FACTS) text(part(facts, fact), values[fact])
    part(facts, 'ends').previousSibling.textContent = run.ended_at ? 'ended' : 'ends'
    why.hidden = run.cause === null && run.evidence.length === 0
    const wait = run.next_attempt_at === null ? null : Math.max(0, -since(run.next_attempt_at))
    const heading = { failed: 'Failed', paused: 'Paused' }[run.state] ?? 'The last attempt ended'
    text(part(why, 'cause'), `${heading}: ${(run.cause ?? 'unknown').replaceAll('_', ' ')}.${wait === null ? '' : ` The next attempt begins in ${duration(wait)}.`}`)
    text(part(why, 'lines'), run.evidence.join('\n'))
    waits.hidden = !run.waiting
    text(waits, run.waiting ? waitingFor(run.waiting) : '')
  }

  function money(run) {
    const limit = run.recipe.limits?.dollars
    const inAll = isActive(run) || run.state === 'paused' ? (estimate?.renewed?.dollars ?? estimate?.predicted?.dollars) : null
    const between = inAll ? `${dollars(inAll.expected)}` : NOTHING
    return { spent: limit ? `${dollars(run.cost.dollars)} of ${dollars(limit)}` : dollars(run.cost.dollars), 'expected in all': between }
  }

  function ends(run) {
    if (run.ended_at) return clock(run.ended_at)
    if (estimate?.renewed) return clock(estimate.renewed.ends_at)
    return run.progress.eta_seconds === null ? NOTHING : clock(new Date(Date.now() + 1000 * run.progress.eta_seconds).toISOString())
  }

  show(tab)
  return view
}
