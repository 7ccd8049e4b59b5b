// Elements without innerHTML: what the server says is always text, never markup.

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue
    if (name.startsWith('on')) element.addEventListener(name.slice(2), value)
    else element.setAttribute(name, value === true ? '' : value)
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined))
  return element
}

export const el = (tag, attributes = {}, ...children) => fill(document.createElement(tag), attributes, children)
export const svg = (tag, attributes = {}, ...children) => fill(document.createElementNS('http://www.w3.org/2000/svg', tag), attributes, children)

export const part = (element, name) => element.querySelector(`[data-part="${name}"]`)

export function text(element, value) {
  if (element.textContent !== value) element.textContent = value
}

// Give `parent` one child for each key, in order. Those that stay are not touched, so that focus, scroll and loaded pictures survive, and
// nothing of theirs is laid out anew. Of items with the same key the first counts.
export function keyed(parent, items, keyOf, make, update) {
  const wanted = new Map()
  for (const item of items) {
    const key = String(keyOf(item))
    if (!wanted.has(key)) wanted.set(key, item)
  }
  const known = new Map()
  for (const child of [...parent.children]) {
    if (wanted.has(child.dataset.key)) known.set(child.dataset.key, child)
    else child.remove() // before the others are ordered: else each of them would be moved before it
  }
  let place = parent.firstElementChild
  for (const [key, item] of wanted) {
    let child = known.get(key)
    if (!child) {
      child = make(item)
      child.dataset.key = key
    }
    if (child === place) place = place.nextElementSibling
    else parent.insertBefore(child, place)
    update?.(child, item) // once it has its place, so that it can be measured and scrolled
  }
}

// One thing after another that can be chosen; `options`: [value, label].
export function choices(select, options, value) {
  keyed(select, options, ([key]) => key, ([key]) => el('option', { value: key }), (option, [, label]) => text(option, label))
  if (value !== undefined) select.value = value
}

let labels = 0
// A label above its control.
export function labelled(label, control, about = null) {
  control.id ||= `field-${(labels += 1)}`
  const hint = about === null ? null : el('small', { id: `${control.id}-about` }, about)
  if (hint) control.setAttribute('aria-describedby', hint.id)
  return el('div', { class: 'field' }, el('label', { for: control.id }, label), control, hint)
}
