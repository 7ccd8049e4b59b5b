// A plan, to be decided by: what it takes and costs, what stands against it, and values that would work, one press away.
import { el } from '../dom.js'
import { count } from '../format.js'
import { between, fact, stagesTable } from '../run/plan.js'

const WORDS = { no: 'No', unsure: 'May not', ok: 'Fits', note: 'Note' }

// Of the recipe's values only: others are the cluster's, which no form changes.
function nearest({ at, value }, use) {
  const said = `${at} = ${JSON.stringify(value)}`
  return at.startsWith('/') ? el('button', { type: 'button', class: 'chip small', onclick: () => use(at, value) }, said) : el('code', {}, ` ${said}`)
}

// `use(pointer, value)` writes a value that works into the form.
export function planCard({ estimate, verdicts, manifest, can_start }, use) {
  const order = ['no', 'unsure', 'note', 'ok']
  const sorted = verdicts.toSorted((a, b) => order.indexOf(a.level) - order.indexOf(b.level))
  return el(
    'section',
    { class: 'card plan', 'data-testid': 'plan', 'data-can-start': String(can_start), 'aria-label': 'Plan' },
    el('h2', {}, can_start ? 'The plan' : 'This cannot start yet'),
    el('dl', { class: 'facts' }, fact('time', between(estimate.hours, 'h')), fact('dollars', between(estimate.dollars, '$')), fact('memory a process', between(estimate.peak_bytes_per_process, 'B')), fact('parameters', count(estimate.parameters)), fact('on', `${count(estimate.processes)} × ${estimate.accelerator}`)),
    el('ul', { class: 'verdicts' }, sorted.map((one) => el('li', { 'data-level': one.level }, el('strong', {}, WORDS[one.level]), ' ', one.at ? [el('code', {}, one.at), ': '] : null, one.because, ' ', one.nearest.map((change) => nearest(change, use))))),
    el('details', {}, el('summary', {}, 'Stages'), stagesTable(estimate)),
    manifest ? el('details', {}, el('summary', {}, 'What the launcher would be given'), el('pre', { tabindex: 0 }, JSON.stringify(manifest, null, 2))) : null,
  )
}
