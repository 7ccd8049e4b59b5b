// The papers of a run: its recipe, with what it changes in another one, and what its launcher is given.
import { download, get, Refusal } from '../api.js'
import { el, keyed, text } from '../dom.js'

export const inJson = (value) => (value === null || value === undefined ? '–' : JSON.stringify(value))

// A table of { pointer, from, to }.
export function differences(items, before = 'before', after = 'after') {
  const row = (one) => el('tr', {}, el('th', { scope: 'row' }, el('code', {}, one.pointer)), el('td', {}, el('code', { class: 'was' }, inJson(one.from))), el('td', {}, el('code', { class: 'now' }, inJson(one.to))))
  return el('div', { class: 'scroll', tabindex: 0, role: 'region', 'aria-label': 'Differences' }, el('table', { class: 'facts-table' }, el('thead', {}, el('tr', {}, el('th', { scope: 'col' }, 'field'), el('th', { scope: 'col' }, before), el('th', { scope: 'col' }, after))), el('tbody', {}, items.map(row))))
}

const copyable = (pre) =>
  navigator.clipboard ? el('button', { onclick: (event) => navigator.clipboard.writeText(pre.textContent).then(() => text(event.target, 'Copied'), () => text(event.target, 'Not allowed')) }, 'Copy') : null

export function recipePanel(id) {
  const pre = el('pre', { tabindex: 0, role: 'region', 'data-testid': 'recipe', 'aria-label': 'Recipe' })
  const against = el('select', { 'aria-label': 'Compare with', 'data-testid': 'diff-against' })
  const diff = el('div', { 'data-testid': 'diff' })
  const element = el(
    'div',
    {},
    el('section', { 'aria-label': 'Differences' }, el('h2', {}, 'What it changes'), el('div', { class: 'tools' }, el('label', { class: 'slide' }, 'Against', against)), diff),
    el('section', { 'aria-label': 'Recipe' }, el('div', { class: 'tools' }, el('h2', {}, 'Effective recipe'), copyable(pre), el('a', { class: 'button', href: `#/new?from=${id}` }, 'New run from this')), pre),
  )
  let done = false

  async function refresh(run) {
    if (done) return
    done = true
    text(pre, JSON.stringify(run.recipe, null, 2))
    const { items } = await get('/runs?limit=50')
    const others = items.filter((one) => one.id !== id && one.id !== run.parent?.run)
    const known = [...(run.parent ? [[run.parent.run, `its parent …${run.parent.run.slice(-6)}, step ${run.parent.step}`]] : [['', 'choose a run…']]), ...others.map((one) => [one.id, `${one.name} …${one.id.slice(-6)}`])]
    keyed(against, known, ([key]) => key, ([key, label]) => el('option', { value: key }, label))
    against.addEventListener('change', compare)
    await compare()
  }

  async function compare() {
    if (!against.value) return diff.replaceChildren(el('p', { class: 'quiet' }, 'It is no fork. Choose a run to compare its recipe with.'))
    try {
      const { items } = await get(`/runs/${id}/recipe:diff?against=${against.value}`)
      diff.replaceChildren(items.length === 0 ? el('p', { class: 'quiet' }, 'The two recipes are the same.') : differences(items, `in …${against.value.slice(-6)}`, 'here'))
    } catch (error) {
      diff.replaceChildren(el('p', { class: 'refused' }, error instanceof Refusal ? error.message : 'No answer came; choose it again.'))
    }
  }
  return { element, refresh }
}

export function manifestPanel(id) {
  const pre = el('pre', { tabindex: 0, role: 'region', 'data-testid': 'manifest', 'aria-label': 'Manifest' })
  const save = el('button', { onclick: () => download(`/runs/${id}/manifest`, `${id}-manifest.json`) }, 'Download')
  const element = el('section', { 'aria-label': 'Manifest' }, el('div', { class: 'tools' }, el('h2', {}, 'What the launcher is given'), copyable(pre), save), pre)
  let of
  async function refresh(run) {
    if (of === run.attempt) return
    text(pre, JSON.stringify(await get(`/runs/${id}/manifest`), null, 2))
    of = run.attempt
  }
  return { element, refresh }
}
