// What the model drew: prompts from top to bottom, steps from left to right; cells fill in as pictures come.
import { el, keyed, part, text } from './dom.js'
import { count } from './format.js'
import { viewer } from './viewer.js'

const FIRST = 12
const MANY = 24
const SIDE = 96

export function samplesView() {
  const sets = el('div')
  const none = el('p', { class: 'quiet' }, 'Nothing has been drawn yet.')
  const large = viewer()
  const element = el('section', { 'aria-label': 'Samples' }, el('h2', {}, 'Samples'), none, sets, large.element)

  function update(samples) {
    none.hidden = samples.length > 0
    const bySet = Map.groupBy(samples, (sample) => sample.set)
    keyed(sets, [...bySet.keys()], (name) => name, makeSet, (block, name) => block.show(bySet.get(name)))
  }

  function makeSet(name) {
    let samples = []
    let unfolded = false
    const more = el('button', { class: 'more', 'data-testid': 'show-all', hidden: true, onclick: () => ((unfolded = true), block.show(samples)) })
    const head = el('tr')
    const body = el('tbody')
    const scroll = el('div', { class: 'scroll', tabindex: 0, role: 'region', 'aria-label': `Samples of ${name}` }, el('table', {}, el('thead', {}, head), body))
    const block = el('div', { class: 'set', 'data-set': name }, el('h3', {}, name, ' ', el('span', { class: 'quiet', 'data-part': 'of' })), scroll, more)

    block.show = (drawn) => {
      samples = drawn
      const steps = [...new Set(drawn.map((sample) => sample.step))].sort((a, b) => a - b)
      const rows = [...Map.groupBy(drawn, (one) => JSON.stringify([one.prompt, one.seed, one.guidance, one.ema]))]
      const folded = rows.length > MANY && !unfolded
      text(part(block, 'of'), `${rows.length} ${rows.length === 1 ? 'prompt' : 'prompts'}, to step ${count(steps.at(-1))}`)
      text(more, `Show all ${rows.length} prompts`)
      more.hidden = !folded
      const atEnd = scroll.scrollLeft + scroll.clientWidth >= scroll.scrollWidth - SIDE / 2
      const before = head.childElementCount
      keyed(head, ['prompt', ...steps], (step) => step, (step) => el('th', { scope: 'col' }, step === 'prompt' ? step : count(step)))
      keyed(body, folded ? rows.slice(0, FIRST) : rows, ([key]) => key, () => el('tr'), showRow.bind(null, steps))
      if (head.childElementCount > before && atEnd) scroll.scrollLeft = scroll.scrollWidth // follow the newest, unless one looks at older ones
    }
    return block
  }

  function showRow(steps, line, [, drawn]) {
    const byStep = new Map(drawn.map((sample) => [sample.step, sample]))
    const newest = drawn.reduce((last, one) => Math.max(last, one.step), 0)
    const cells = ['prompt', ...steps]
    keyed(line, cells, (step) => step, (step) => (step === 'prompt' ? el('th', { scope: 'row' }, drawn[0].prompt) : el('td')), (box, step) => {
      const sample = byStep.get(step)
      if (!sample) return
      if (!box.firstChild) box.append(el('button', { class: 'cell', onclick: (event) => large.open(event.currentTarget, sample) }, picture(sample)))
      box.firstChild.tabIndex = step === newest ? 0 : -1 // one stop for the keyboard in a row: the arrows of the large view reach the others
    })
  }
  return { element, update }
}

function picture(sample) {
  return el('img', {
    src: sample.url,
    alt: `${sample.prompt}, step ${sample.step}`,
    title: `${sample.prompt}\nstep ${count(sample.step)}, seed ${sample.seed}, guidance ${sample.guidance}${sample.ema ? ', averaged weights' : ''}`,
    width: SIDE,
    height: Math.round((SIDE * sample.height) / sample.width),
    class: sample.width < SIDE ? 'pixels' : null,
    loading: 'lazy',
    'data-testid': 'sample',
    'data-step': sample.step,
  })
}
