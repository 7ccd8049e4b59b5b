// One curve over steps as SVG: raw values faint, their running mean strong, axes with round numbers, the value under the pointer.
// Drawn in the pixels of the page, so that text keeps its size at any width; drawn again when the width changes.
import { el, svg, text } from './dom.js'
import { count, number, short } from './format.js'

const HEIGHT = 232
const LEFT = 46
const RIGHT = 10
const TOP = 10
const BOTTOM = 24

export function chart(name, title, { logarithmic = false, smooth = 0 } = {}) {
  const drawing = svg('svg', { height: HEIGHT, role: 'img', 'aria-label': `${title} by step`, tabindex: 0 })
  const readOut = el('output', { class: 'quiet' })
  const element = el('figure', { class: 'chart', 'data-testid': `chart-${name}` }, el('figcaption', {}, el('h2', {}, title), readOut), drawing)
  const hair = svg('g', { class: 'hair' })
  const scale = logarithmic ? Math.log10 : (value) => value
  let points = []
  let mean = []
  let at = null // index of the point that is read out; the last one when null
  let x, y

  function draw() {
    const width = drawing.clientWidth
    drawing.replaceChildren()
    if (points.length > 0 && width > 0) {
      const values = points.map(([, value]) => value)
      const end = Math.max(points.at(-1)[0], 1)
      let low = logarithmic ? Math.min(...values) : 0
      let high = Math.max(...values)
      if (high <= low) high = low + (Math.abs(low) || 1)
      x = (step) => LEFT + (step / end) * (width - LEFT - RIGHT)
      y = (value) => TOP + ((scale(high) - scale(value)) / (scale(high) - scale(low))) * (HEIGHT - TOP - BOTTOM)
      for (const value of logarithmic ? logTicks(low, high) : ticks(low, high, 4)) {
        const level = Math.round(y(value)) + 0.5
        drawing.append(svg('line', { class: 'grid', x1: LEFT, x2: width - RIGHT, y1: level, y2: level }), svg('text', { x: LEFT - 8, y: level + 4, 'text-anchor': 'end' }, short(value)))
      }
      for (const step of ticks(0, end, Math.max(2, Math.floor(width / 110)))) {
        const anchor = x(step) > width - 28 ? 'end' : 'middle'
        drawing.append(svg('text', { x: anchor === 'end' ? width - RIGHT : x(step), y: HEIGHT - 5, 'text-anchor': anchor }, short(step)))
      }
      const path = (line) => line.map(([step, value], i) => `${i ? 'L' : 'M'}${x(step).toFixed(1)} ${y(value).toFixed(1)}`).join('')
      if (smooth) drawing.append(svg('path', { class: 'raw', d: path(points) }))
      drawing.append(svg('path', { class: 'line', d: path(mean) }), hair)
    }
    read()
  }

  function read() {
    hair.replaceChildren()
    if (points.length === 0) return text(readOut, 'nothing measured yet')
    const i = at ?? points.length - 1
    const [step, value] = points[i]
    text(readOut, `step ${count(step)}: ${number(value, 4)}${smooth ? `, mean ${number(mean[i][1], 4)}` : ''}`)
    if (at === null || !x) return
    hair.append(svg('line', { x1: x(step), x2: x(step), y1: TOP, y2: HEIGHT - BOTTOM }), svg('circle', { cx: x(step), cy: y(mean[i][1]), r: 3.5 }))
  }

  function point(event) {
    if (points.length === 0 || !x) return
    const pixel = event.clientX - drawing.getBoundingClientRect().left
    let best = 0
    for (let i = 1; i < points.length; i += 1) if (Math.abs(x(points[i][0]) - pixel) < Math.abs(x(points[best][0]) - pixel)) best = i
    at = best
    read()
  }
  const leave = () => ((at = null), read())
  drawing.addEventListener('pointermove', point)
  drawing.addEventListener('pointerdown', point)
  drawing.addEventListener('pointerleave', leave)
  drawing.addEventListener('blur', leave)
  drawing.addEventListener('keydown', (event) => {
    const by = { ArrowLeft: -1, ArrowRight: 1, PageUp: -25, PageDown: 25 }[event.key]
    if (!by || points.length === 0) return
    event.preventDefault()
    at = Math.min(points.length - 1, Math.max(0, (at ?? points.length - 1) + by))
    read()
  })
  new ResizeObserver(draw).observe(drawing)

  function update(series) {
    points = series.filter(([, value]) => Number.isFinite(value) && (!logarithmic || value > 0))
    mean = smooth ? smoothed(points, smooth, logarithmic) : points
    if (at !== null) at = Math.min(at, points.length - 1)
    draw()
  }
  read()
  return { element, update }
}

// Mean over `reach` points to each side, fewer at the ends: it lags behind nothing, and the newest values still move it.
// On a logarithmic axis the mean of the logarithms, so that the line runs through the middle of what is seen.
function smoothed(points, reach, logarithmic) {
  const [to, from] = logarithmic ? [Math.log, Math.exp] : [(value) => value, (value) => value]
  const sums = [0]
  for (const [, value] of points) sums.push(sums.at(-1) + to(value))
  return points.map(([step], i) => {
    const first = i - Math.min(reach, i)
    const last = Math.min(points.length - 1, i + Math.min(reach, i)) // as many after as before: the steep start stays steep
    return [step, from((sums[last + 1] - sums[first]) / (last + 1 - first))]
  })
}

function ticks(low, high, about) {
  const rough = (high - low) / about
  const unit = 10 ** Math.floor(Math.log10(rough))
  const stride = [1, 2, 5, 10].map((lead) => lead * unit).find((one) => one >= rough)
  const found = []
  for (let i = Math.ceil(low / stride); i * stride <= high * (1 + 1e-9); i += 1) found.push(Number((i * stride).toPrecision(12)))
  return found
}

function logTicks(low, high) {
  const found = []
  const leads = high / low > 1e3 ? [1] : [1, 2, 5]
  for (let power = Math.floor(Math.log10(low)); power <= Math.log10(high); power += 1) {
    for (const lead of leads) {
      const value = Number(`${lead}e${power}`)
      if (value >= low && value <= high) found.push(value)
    }
  }
  return found.length >= 2 ? found : ticks(low, high, 4)
}
