// The plan a run was accepted with, beside what it came to: intervals as bars, the actual figure as a mark.
import { el, svg } from '../dom.js'
import { bytes, clock, count, dollars, duration, number } from '../format.js'

const WIDTH = 220
const HEIGHT = 22

// A figure in the unit that the service names.
export function figure(value, unit) {
  if (value === null || value === undefined) return '–'
  if (unit === '$' || unit === 'dollars') return dollars(value)
  if (unit === 'h' || unit === 'hours') return duration(3600 * value)
  if (unit === 's' || unit === 'seconds') return value < 60 ? `${number(value)} s` : duration(value)
  if (unit === 'B' || unit === 'bytes') return bytes(value)
  return `${number(value)} ${unit}`
}

export const between = (interval, unit) => `${figure(interval.expected, unit)} (${figure(interval.low, unit)} to ${figure(interval.high, unit)})`

function bar({ predicted, actual, inside }) {
  const most = Math.max(predicted.high, actual) * 1.08 || 1
  const x = (value) => (value / most) * WIDTH
  return svg(
    'svg',
    { class: `interval ${inside ? 'inside' : 'outside'}`, width: WIDTH, height: HEIGHT, 'aria-hidden': 'true' },
    svg('line', { x1: 0, x2: WIDTH, y1: HEIGHT / 2, y2: HEIGHT / 2, class: 'grid' }),
    svg('rect', { x: x(predicted.low), width: Math.max(2, x(predicted.high) - x(predicted.low)), y: 6, height: HEIGHT - 12, rx: 3 }),
    svg('line', { x1: x(predicted.expected), x2: x(predicted.expected), y1: 4, y2: HEIGHT - 4, class: 'expected' }),
    svg('circle', { cx: x(actual), cy: HEIGHT / 2, r: 4.5 }),
  )
}

const head = (...names) => el('thead', {}, el('tr', {}, names.map((name) => el('th', { scope: 'col' }, name))))
const scroll = (label, table) => el('div', { class: 'scroll', tabindex: 0, role: 'region', 'aria-label': label }, table)

export function stagesTable(estimate) {
  const row = (stage) =>
    el('tr', {}, el('th', { scope: 'row' }, stage.name), ...[`${stage.pixels} px`, `${count(stage.steps)} × ${count(stage.batch_size)}`, `${number(stage.steps_per_second.expected)} /s`, between(stage.hours, 'h'), between(stage.dollars, '$'), bytes(stage.memory.peak_bytes.expected)].map((value) => el('td', {}, value)))
  return scroll('Stages', el('table', { class: 'facts-table' }, head('stage', 'side', 'steps × images', 'steps', 'time', 'dollars', 'memory a process'), el('tbody', {}, estimate.stages.map(row))))
}

export function planPanel() {
  const now = el('div')
  const compared = el('div', { 'data-testid': 'compared' })
  const predicted = el('div')
  const element = el('div', {}, el('section', { 'aria-label': 'Now' }, now), el('section', { 'aria-label': 'Plan against actual' }, el('h2', {}, 'Plan against actual'), compared), el('section', { 'aria-label': 'Plan' }, el('h2', {}, 'The plan it was accepted with'), predicted))
  let shown

  async function refresh(run, estimate) {
    const key = JSON.stringify([estimate.renewed, estimate.comparison, Boolean(estimate.predicted)])
    if (key === shown) return
    shown = key
    const { renewed, comparison } = estimate
    now.replaceChildren(
      renewed
        ? el('dl', { class: 'facts' }, fact('ends', clock(renewed.ends_at)), fact('at the earliest', clock(renewed.ends_at_earliest)), fact('at the latest', clock(renewed.ends_at_latest)), fact('left', between(renewed.remaining_hours, 'h')), fact('dollars in all', between(renewed.dollars, '$')), fact('against the plan', `${number(renewed.slower_than_planned, 3)} × the time`))
        : '',
    )
    compared.replaceChildren(
      comparison.length === 0
        ? el('p', { class: 'quiet' }, 'Nothing was measured yet. The first figures come with the first steps.')
        : scroll('Plan against actual', el('table', { class: 'facts-table' }, head('figure', 'predicted', '', 'actual', 'actual / expected'), el('tbody', {}, comparison.map(row)))),
      comparison.length === 0 ? '' : el('p', { class: 'quiet' }, 'The bar is the predicted interval, its line the expected value, the dot what it came to. Of honest intervals nine in ten hold.'),
    )
    predicted.replaceChildren(
      estimate.predicted
        ? el('div', {}, el('dl', { class: 'facts' }, fact('time', between(estimate.predicted.hours, 'h')), fact('dollars', between(estimate.predicted.dollars, '$')), fact('memory a process', between(estimate.predicted.peak_bytes_per_process, 'B')), fact('parameters', count(estimate.predicted.parameters)), fact('on', `${estimate.predicted.processes} × ${estimate.predicted.accelerator}`)), stagesTable(estimate.predicted))
        : el('p', { class: 'quiet' }, 'This run is from before there were plans.'),
    )
  }
  const row = (one) => el('tr', {}, el('th', { scope: 'row' }, one.name), el('td', {}, between(one.predicted, one.unit)), el('td', {}, bar(one)), el('td', {}, figure(one.actual, one.unit)), el('td', { class: one.inside ? 'good' : 'bad' }, one.ratio === null ? '–' : `${number(one.ratio)} ×`, one.inside ? '' : ' (outside)'))
  return { element, refresh }
}

export const fact = (name, value) => el('div', {}, el('dt', {}, name), el('dd', {}, value))
