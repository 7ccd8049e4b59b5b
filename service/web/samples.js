// What the model drew: prompts from top to bottom, steps from left to right; cells fill in as pictures come.
import { el, keyed, part, text } from './dom.js'

const FIRST = 12
const MANY = 24

export function samplesView() {
  const sets = el('div')
  const none = el('p', { class: 'quiet' }, 'Nothing has been drawn yet.')
  const element = el('section', { 'aria-label': 'Samples' }, el('h2', {}, 'Samples'), none, sets)
  const unfolded = new Set()

  function update(samples) {
    none.hidden = samples.length > 0
    const names = [...new Set(samples.map((sample) => sample.set))]
    keyed(sets, names, (name) => name, makeSet, (block, name) => showSet(block, samples.filter((sample) => sample.set === name), name))
  }

  function makeSet(name) {
    const again = () => {
      unfolded.add(name)
      block.dataset.unfolded = ''
      showSet(block, block.samples, name)
    }
    const block = el(
      'div',
      { class: 'set' },
      el('h3', {}, name),
      el('div', { class: 'scroll', tabindex: 0, role: 'region', 'aria-label': `pictures of ${name}` }, el('table', {}, el('thead', {}, el('tr', { 'data-part': 'steps' })), el('tbody', { 'data-part': 'rows' }))),
      el('button', { 'data-part': 'more', hidden: true, onclick: again }),
    )
    return block
  }

  function showSet(block, samples, name) {
    block.samples = samples
    const steps = [...new Set(samples.map((sample) => sample.step))].sort((a, b) => a - b)
    const rows = new Map()
    for (const sample of samples) {
      const key = `${sample.seed} ${sample.prompt}`
      if (!rows.has(key)) rows.set(key, { key, prompt: sample.prompt, cells: new Map() })
      rows.get(key).cells.set(sample.step, sample)
    }
    let shown = [...rows.values()]
    const more = part(block, 'more')
    more.hidden = shown.length <= MANY || unfolded.has(name)
    text(more, `Show all ${shown.length} prompts`)
    if (!more.hidden) shown = shown.slice(0, FIRST)
    keyed(part(block, 'steps'), ['', ...steps], (step) => step, (step) => el('th', { scope: 'col' }, step === '' ? 'prompt' : `step ${step}`))
    keyed(part(block, 'rows'), shown, (row) => row.key, (row) => el('tr', {}, el('th', { scope: 'row' }, row.prompt)), (line, row) => {
      const cells = [{ step: '' }, ...steps.map((step) => ({ step, sample: row.cells.get(step) }))]
      keyed(line, cells, (cell) => cell.step, (cell) => (cell.step === '' ? el('th', { scope: 'row' }, row.prompt) : el('td')), (box, cell) => {
        if (cell.sample && !box.firstChild) box.append(picture(cell.sample))
      })
    })
  }
  return { element, update }
}

const picture = (sample) =>
  el('img', {
    src: sample.url,
    alt: `${sample.prompt}, step ${sample.step}`,
    title: `${sample.prompt}\nstep ${sample.step}, seed ${sample.seed}, guidance ${sample.guidance}${sample.ema ? ', averaged weights' : ''}`,
    width: 96,
    height: Math.round((96 * sample.height) / sample.width),
    loading: 'lazy',
    'data-testid': 'sample',
  })
