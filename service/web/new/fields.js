// The form of a document, made from its schema. Every change is written into the document at once; `changed` is told.
import { el } from '../dom.js'
import { blank, kindOf, labelOf, resolved } from './schema.js'

// `context`: { root: the schema, changed() }. Each field has its JSON pointer in data-at, so that errors find it.
export function objectFields(schema, document, pointer, context) {
  const rows = Object.entries(schema.properties).map(([name, raw]) => field(name, raw, document, `${pointer}/${name}`, context, schema.required?.includes(name)))
  return el('div', { class: 'fields' }, rows)
}

function field(name, raw, parent, pointer, context, required) {
  const { root, changed } = context
  const { kind, schema, item, nullable } = kindOf(raw, root)
  if (kind === 'fixed') return null
  const about = resolved(raw, root).description ?? schema.description ?? ''
  const id = `at${pointer.replaceAll(/[^\w]/g, '-')}`
  const value = parent[name]
  const set = (next) => {
    parent[name] = next
    changed(pointer)
  }
  if (kind === 'object' || kind === 'list') return group(name, pointer, { kind, schema, item, nullable, about, value, set, context })

  const control = controlOf(kind, { id, schema, value, nullable, set, name })
  control.setAttribute('aria-describedby', `${id}-about`)
  if (required) control.setAttribute('aria-required', 'true')
  const label = el('label', { for: id }, labelOf(name), required ? el('span', { class: 'quiet' }, ' · needed') : null)
  return el('div', { class: `field ${kind}`, 'data-at': pointer, 'data-name': `${pointer} ${about}`.toLowerCase() }, label, control, el('small', { id: `${id}-about` }, about), el('p', { class: 'wrong', hidden: true }))
}

function controlOf(kind, { id, schema, value, nullable, set, name }) {
  const given = (event) => event.currentTarget.value
  if (kind === 'flag') {
    const box = el('input', { id, type: 'checkbox', onchange: (event) => set(event.currentTarget.checked) })
    box.checked = value === true
    return box
  }
  if (kind === 'choice') {
    const select = el('select', { id, onchange: (event) => set(given(event) === '' ? null : given(event)) }, nullable ? el('option', { value: '' }, 'none') : null, schema.enum.map((one) => el('option', { value: one }, one)))
    select.value = value ?? ''
    return select
  }
  if (kind === 'number' || kind === 'integer') {
    const input = el('input', { id, type: 'text', inputmode: kind === 'integer' ? 'numeric' : 'decimal', autocomplete: 'off', placeholder: nullable ? 'none' : null, oninput: (event) => set(numeric(given(event), nullable)) })
    input.value = value ?? ''
    return input
  }
  if (kind === 'lines') {
    const area = el('textarea', { id, rows: Math.min(8, Math.max(2, (value ?? []).length)), oninput: (event) => set(given(event).split('\n').map((line) => line.trim()).filter(Boolean)) })
    area.value = (value ?? []).join('\n')
    return area
  }
  if (kind === 'json') {
    const input = el('input', { id, type: 'text', spellcheck: 'false', autocomplete: 'off', class: 'code', oninput: (event) => set(parsed(given(event))) })
    input.value = value === undefined ? '' : JSON.stringify(value)
    return input
  }
  const input = el(name === 'description' ? 'textarea' : 'input', { id, type: name === 'description' ? null : 'text', rows: name === 'description' ? 2 : null, autocomplete: 'off', spellcheck: 'false', placeholder: nullable ? 'none' : null, oninput: (event) => set(given(event) === '' && nullable ? null : given(event)) })
  input.value = value ?? ''
  return input
}

// What cannot be read as a number goes as it is: the service says what is wrong with it, and what would be right.
const numeric = (text, nullable) => (text.trim() === '' && nullable ? null : text.trim() !== '' && Number.isFinite(Number(text)) ? Number(text) : text)
const parsed = (text) => {
  try {
    return JSON.parse(text)
  } catch {
    return text
  }
}

function group(name, pointer, { kind, schema, item, nullable, about, value, set, context }) {
  const body = el('div')
  const single = labelOf(name).replace(/s$/, '')
  const draw = (now) => {
    const inside = now === null || now === undefined ? [] : kind === 'object' ? [objectFields(schema, now, pointer, context)] : items(now)
    body.replaceChildren(...inside)
  }
  function items(list) {
    const one = (_, i) =>
      el(
        'fieldset',
        {},
        el('legend', {}, `${single} ${i + 1}`),
        el('button', { type: 'button', class: 'link', 'aria-label': `Remove ${single} ${i + 1}`, onclick: () => (list.splice(i, 1), set(list), draw(list)) }, 'Remove'),
        objectFields(item, list[i], `${pointer}/${i}`, context),
      )
    const add = el('button', { type: 'button', class: 'chip', onclick: () => (list.push(list.length > 0 ? structuredClone(list.at(-1)) : blank(item, context.root)), set(list), draw(list)) }, `Add a ${single}`)
    return [...list.map(one), add]
  }
  let head = null
  if (nullable) {
    const on = el('input', { type: 'checkbox', onchange: (event) => {
      const next = event.currentTarget.checked ? (kind === 'object' ? blank(schema, context.root) : []) : null
      set(next)
      draw(next)
    } })
    on.checked = value !== null && value !== undefined
    head = el('label', { class: 'check' }, on, `Use ${labelOf(name)}`)
  }
  draw(value)
  return el('details', { class: 'group', 'data-at': pointer, 'data-name': `${pointer} ${about}`.toLowerCase() }, el('summary', {}, labelOf(name), el('span', { class: 'changes quiet' })), about ? el('p', { class: 'quiet' }, about) : null, head, el('p', { class: 'wrong', hidden: true }), body)
}
