// What the model drew: prompts from top to bottom, steps from left to right; cells fill in as pictures come. Only what is in sight is drawn.
import { el, keyed, part, text } from '../dom.js'
import { count } from '../format.js'
import { show, thumbnail } from '../pictures.js'
import { eachFrame, inSight } from '../sight.js'
import { viewer } from './viewer.js'

const FIRST = 8
const SIDE = 96
const CELL = SIDE + 6
const SPARE = 2

export const sameDrawing = (one) => JSON.stringify([one.prompt, one.seed, one.guidance, one.ema])
export const described = (one) => `step ${count(one.step)} · seed ${one.seed} · guidance ${one.guidance}${one.ema ? ' · averaged weights' : ''}`

export function matrixView() {
  const sets = el('div')
  const none = el('p', { class: 'quiet' }, 'Nothing has been drawn yet. Pictures appear here by themselves; which prompts and how often is said by the recipe, under samples.')
  const element = el('section', { 'aria-label': 'Samples' }, el('h2', {}, 'Samples'), none, sets)
  const again = eachFrame(() => [...sets.children].forEach((block) => block.draw()))
  addEventListener('scroll', again, { passive: true })
  addEventListener('resize', again)

  function update(samples) {
    none.hidden = samples.length > 0
    const bySet = Map.groupBy(samples, (sample) => sample.set)
    keyed(sets, [...bySet.keys()], (name) => name, makeSet, (block, name) => block.take(bySet.get(name)))
  }
  return { element, update, close: () => (removeEventListener('scroll', again), removeEventListener('resize', again)) }
}

function makeSet(name) {
  let rows = [] // [key, { first, byStep }]
  let steps = []
  let unfolded = false
  let drawn = null // what part of it
  const more = el('button', { class: 'more', 'data-testid': 'show-all', hidden: true, onclick: () => ((unfolded = true), block.draw()) })
  const head = el('tr')
  const body = el('tbody')
  const table = el('table', { class: 'matrix' }, el('thead', {}, head), body)
  const scroll = el('div', { class: 'scroll', tabindex: 0, role: 'region', 'aria-label': `Samples of ${name}` }, table)
  const block = el('div', { class: 'set', 'data-set': name }, el('h3', {}, name, ' ', el('span', { class: 'quiet', 'data-part': 'of' })), scroll, more)
  const at = (row, column) => rows[row]?.[1].byStep.get(steps[column])
  const large = viewer(at)
  scroll.addEventListener('scroll', eachFrame(() => block.draw()), { passive: true })

  block.take = (samples) => {
    const atEnd = scroll.scrollLeft + scroll.clientWidth >= scroll.scrollWidth - SIDE / 2
    const before = steps.length
    steps = [...new Set(samples.map((sample) => sample.step))].sort((a, b) => a - b)
    rows = [...Map.groupBy(samples, sameDrawing)].map(([key, same]) => [key, { first: same[0], byStep: new Map(same.map((one) => [one.step, one])) }])
    text(part(block, 'of'), `${count(rows.length)} ${rows.length === 1 ? 'prompt' : 'prompts'}, to step ${count(steps.at(-1))}`)
    drawn = null
    block.draw()
    if (steps.length > before && atEnd) scroll.scrollLeft = scroll.scrollWidth // follow the newest, unless one looks at older ones
  }

  block.draw = () => {
    const folded = !unfolded && rows.length > FIRST
    text(more, `Show all ${count(rows.length)} prompts`)
    more.hidden = !folded
    const [left, right] = inSight(scroll.scrollLeft - (head.firstChild?.offsetWidth ?? 0), scroll.scrollLeft + (scroll.clientWidth || 1200), CELL, steps.length, SPARE)
    const top = -body.getBoundingClientRect().top
    const [first, last] = inSight(top, top + innerHeight, CELL, folded ? FIRST : rows.length, SPARE)
    const seen = [left, right, first, last, folded].join()
    if (seen === drawn) return
    drawn = seen
    const columns = steps.slice(left, right)
    const across = ['prompt', 'before', ...columns, 'after']
    const gaps = { before: left, after: steps.length - right }
    const fit = (box, step) => step in gaps && (box.style.width = `${gaps[step] * CELL}px`)
    const heading = (step) => (step in gaps ? el('td', { class: 'gap' }) : el('th', { scope: 'col' }, step === 'prompt' ? step : count(step)))
    keyed(head, across, (step) => step, heading, fit)
    const down = [['above'], ...rows.slice(first, last), ['below']]
    keyed(body, down, ([key]) => key, ([key, row]) => el('tr', { class: row ? null : 'gap', 'aria-hidden': row ? null : 'true' }), (line, [key, row]) => {
      if (!row) {
        const count = folded ? FIRST : rows.length
        line.style.height = `${(key === 'above' ? first : count - last) * CELL}px`
        return
      }
      const number = rows.findIndex(([other]) => other === key)
      const cell = (step) => (step === 'prompt' ? el('th', { scope: 'row', title: row.first.prompt }, el('span', { class: 'clamp' }, row.first.prompt)) : el('td', { class: step in gaps ? 'gap' : null }))
      keyed(line, across, (step) => step, cell, (box, step) => {
        if (step in gaps) return fit(box, step)
        if (step === 'prompt' || box.firstChild) return
        const sample = row.byStep.get(step)
        if (!sample) return
        const column = steps.indexOf(step)
        box.append(el('button', { class: 'cell', onclick: () => large.open(number, steps.indexOf(step)) }, picture(sample)))
        box.firstChild.tabIndex = column === steps.length - 1 ? 0 : -1 // one stop for the keyboard in a row: the large view's arrows reach the others
      })
    })
  }
  return block
}

function picture(sample) {
  const image = el('img', {
    alt: `${sample.prompt}, step ${sample.step}`,
    title: `${sample.prompt}\n${described(sample)}`,
    width: SIDE,
    height: Math.min(SIDE, Math.round((SIDE * sample.height) / sample.width)),
    class: sample.width < SIDE ? 'pixels' : null,
    'data-testid': 'sample',
    'data-step': sample.step,
  })
  show(image, sample.width <= 128 ? sample.url : thumbnail(sample.url, SIDE))
  return image
}
