// Curves over steps as SVG: raw values faint, their running mean strong, axes with round numbers, the values under the pointer, zoom by
// dragging. Charts that share a `view` are zoomed and smoothed together. Drawn in the pixels of the page, so that text keeps its size.
import { el, keyed, svg, text } from './dom.js'
import { count, number, short } from './format.js'
import { logTicks, nearest, smoothed, ticks } from './series.js'

const HEIGHT = 224
const LEFT = 46
const RIGHT = 10
const TOP = 8
const BOTTOM = 24
const BESIDE = 90 // pixels between two steps on the axis
const LEAST_DRAG = 8

// What charts have in common: `range`, the steps in sight (null: all), and `smooth`, points of the mean to each side.
export function sharedView(smooth) {
  const drawn = new Set()
  return {
    range: null,
    smooth,
    draws: (draw) => drawn.add(draw),
    set(change) {
      Object.assign(this, change)
      for (const draw of drawn) draw()
    },
  }
}

export function chart(name, title, view, { logarithmic = false } = {}) {
  const drawing = svg('svg', { height: HEIGHT, role: 'img', tabindex: 0, 'aria-label': `${title} by step. Arrow keys read values, plus and minus zoom, Escape shows all.` })
  const readOut = el('output', { class: 'read-out quiet', 'aria-live': 'off' }) // it changes each second; read aloud only to who reads by keyboard
  const log = el('button', { class: 'chip small', 'aria-pressed': String(logarithmic), title: 'Logarithmic axis', onclick: () => toggle() }, 'log')
  const element = el('figure', { class: 'chart', 'data-testid': `chart-${name}` }, el('figcaption', {}, el('h2', {}, title), log, readOut), drawing)
  const hair = svg('g', { class: 'hair' })
  let lines = [] // { id, label, points, mean }
  let at = null // step that is read out; null: the last
  let x, y, drag, end

  function toggle() {
    logarithmic = !logarithmic
    log.setAttribute('aria-pressed', String(logarithmic))
    draw()
  }

  function seen(line) {
    const fit = line.points.filter(([, value]) => Number.isFinite(value) && (!logarithmic || value > 0))
    const all = view.smooth ? smoothed(fit, view.smooth, logarithmic) : fit
    if (view.range === null) return { ...line, fit, mean: all }
    const inside = ([step]) => step >= view.range[0] && step <= view.range[1]
    return { ...line, fit: fit.filter(inside), mean: all.filter(inside) }
  }

  let shown = []
  function draw() {
    const width = drawing.clientWidth
    drawing.replaceChildren()
    shown = lines.map(seen)
    const points = shown.flatMap((line) => line.fit)
    if (points.length > 0 && width > 0) {
      end = Math.max(1, ...lines.map((line) => line.points.at(-1)?.[0] ?? 0))
      const [first, last] = view.range ?? [0, end]
      let low = logarithmic ? Infinity : view.range ? Infinity : 0
      let high = -Infinity
      for (const [, value] of points) {
        low = Math.min(low, value)
        high = Math.max(high, value)
      }
      if (high <= low) high = low + (Math.abs(low) || 1)
      const scale = logarithmic ? Math.log10 : (value) => value
      x = (step) => LEFT + ((step - first) / (last - first || 1)) * (width - LEFT - RIGHT)
      y = (value) => TOP + ((scale(high) - scale(value)) / (scale(high) - scale(low))) * (HEIGHT - TOP - BOTTOM)
      for (const value of logarithmic ? logTicks(low, high) : ticks(low, high, 4)) {
        const level = Math.round(y(value)) + 0.5
        drawing.append(svg('line', { class: 'grid', x1: LEFT, x2: width - RIGHT, y1: level, y2: level }), svg('text', { x: LEFT - 8, y: level + 4, 'text-anchor': 'end' }, short(value)))
      }
      for (const step of ticks(first, last, Math.max(2, Math.floor(width / BESIDE)))) {
        const anchor = x(step) > width - 28 ? 'end' : 'middle'
        drawing.append(svg('text', { x: anchor === 'end' ? width - RIGHT : x(step), y: HEIGHT - 5, 'text-anchor': anchor }, short(step)))
      }
      const path = (line) => line.map(([step, value], i) => `${i ? 'L' : 'M'}${x(step).toFixed(1)} ${y(value).toFixed(1)}`).join('')
      shown.forEach((line, i) => {
        if (view.smooth) drawing.append(svg('path', { class: `raw of-${i}`, d: path(line.fit) }))
        drawing.append(svg('path', { class: `line of-${i}`, d: path(line.mean) }))
      })
      drawing.append(hair)
    }
    read()
  }

  function read() {
    hair.replaceChildren()
    const told = shown.filter((line) => line.mean.length > 0)
    if (told.length === 0) return readOut.replaceChildren(view.range ? 'nothing was measured here' : 'nothing measured yet')
    const many = lines.length > 1
    if (readOut.firstChild?.nodeType === Node.TEXT_NODE) readOut.replaceChildren()
    const found = shown.map((line) => (line.mean.length === 0 ? null : at === null ? line.mean.length - 1 : nearest(line.mean, at)))
    keyed(readOut, shown, (line) => line.id, (line) => el('span', { class: 'key' }, el('i', {}), el('span', {})), (key, line) => {
      const i = shown.indexOf(line)
      key.className = many ? `key of-${i}` : 'key single'
      key.title = line.label // the page has a legend
      if (found[i] === null) return text(key.lastChild, '–')
      const [step, value] = line.mean[found[i]]
      const raw = line.fit[found[i]]?.[1]
      const beside = view.smooth && raw !== undefined ? `, here ${number(raw, 4)}` : ''
      text(key.lastChild, many ? number(value, 4) : `step ${count(step)}: ${number(value, 4)}${beside}`)
    })
    if (at === null || !x) return
    shown.forEach((line, i) => {
      if (found[i] === null) return
      const [step, value] = line.mean[found[i]]
      if (i === 0) hair.append(svg('line', { x1: x(step), x2: x(step), y1: TOP, y2: HEIGHT - BOTTOM }))
      hair.append(svg('circle', { class: `of-${i}`, cx: x(step), cy: y(value), r: 3.5 }))
    })
    if (drag) hair.append(svg('rect', { x: Math.min(drag.from, drag.to), width: Math.abs(drag.to - drag.from), y: TOP, height: HEIGHT - TOP - BOTTOM }))
  }

  const pixel = (event) => event.clientX - drawing.getBoundingClientRect().left
  function stepAt(place) {
    const [first, last] = view.range ?? [0, end]
    return first + ((place - LEFT) / (drawing.clientWidth - LEFT - RIGHT)) * (last - first)
  }
  drawing.addEventListener('pointerdown', (event) => {
    if (!x || event.pointerType === 'touch') return
    drag = { from: pixel(event), to: pixel(event) }
    drawing.setPointerCapture(event.pointerId)
  })
  drawing.addEventListener('pointermove', (event) => {
    if (!x) return
    at = stepAt(pixel(event))
    if (drag) drag.to = pixel(event)
    read()
  })
  drawing.addEventListener('pointerup', () => {
    const was = drag
    drag = null
    if (!was || Math.abs(was.to - was.from) < LEAST_DRAG) return read()
    const [a, b] = [stepAt(was.from), stepAt(was.to)].sort((one, other) => one - other)
    view.set({ range: [Math.max(0, a), Math.min(end, b)] })
  })
  drawing.addEventListener('focus', () => readOut.setAttribute('aria-live', 'polite'))
  const leave = () => ((at = null), (drag = null), read())
  drawing.addEventListener('pointerleave', () => !drag && leave())
  drawing.addEventListener('blur', () => (readOut.setAttribute('aria-live', 'off'), leave()))
  drawing.addEventListener('dblclick', () => view.set({ range: null }))
  drawing.addEventListener('keydown', (event) => {
    const line = shown.find((one) => one.mean.length > 0)
    if (!line || !x) return
    const by = { ArrowLeft: -1, ArrowRight: 1, PageUp: -25, PageDown: 25 }[event.key]
    const i = at === null ? line.mean.length - 1 : nearest(line.mean, at)
    if (by) {
      at = line.mean[Math.min(line.mean.length - 1, Math.max(0, i + by))][0]
      read()
    } else if (event.key === '+' || event.key === '-') {
      const [first, last] = view.range ?? [0, end]
      const half = ((last - first) / 2) * (event.key === '+' ? 0.5 : 2)
      const range = [Math.max(0, line.mean[i][0] - half), Math.min(end, line.mean[i][0] + half)]
      view.set({ range: range[0] === 0 && range[1] === end ? null : range })
    } else if (event.key === 'Escape' && view.range) view.set({ range: null })
    else return
    event.preventDefault()
    event.stopPropagation()
  })
  view.draws(draw)
  new ResizeObserver(draw).observe(drawing)

  // `series`: [{ id, label, points: [[step, value], …] }]
  function update(series) {
    lines = series
    draw()
  }
  read()
  return { element, update }
}
