// One curve over steps as SVG: raw values faint, their running mean strong, axes with round numbers, the value under the pointer.
import { el, number, svg, text } from './dom.js'

const WIDTH = 560
const HEIGHT = 220
const LEFT = 52
const BOTTOM = 26
const TOP = 10
const RIGHT = 12

export function chart(name, title, { logarithmic = false, smooth = 0 } = {}) {
  const drawing = svg('svg', { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: 'img', 'aria-label': title, preserveAspectRatio: 'none' })
  const readOut = el('output', { class: 'quiet' })
  const element = el('figure', { class: 'chart', 'data-testid': `chart-${name}` }, el('figcaption', {}, el('span', {}, title), readOut), drawing)
  let points = []
  let place = null

  drawing.addEventListener('pointermove', (event) => {
    if (!place || points.length === 0) return
    const box = drawing.getBoundingClientRect()
    const step = place.stepAt(((event.clientX - box.left) / box.width) * WIDTH)
    const near = points.reduce((best, point) => (Math.abs(point[0] - step) < Math.abs(best[0] - step) ? point : best))
    text(readOut, `step ${near[0].toLocaleString()}: ${number(near[1], 4)}`)
  })
  drawing.addEventListener('pointerleave', showLast)

  function showLast() {
    const last = points.at(-1)
    text(readOut, last ? `step ${last[0].toLocaleString()}: ${number(last[1], 4)}` : 'nothing measured yet')
  }

  function update(series, lastStep) {
    points = series.filter(([, value]) => Number.isFinite(value) && (!logarithmic || value > 0))
    drawing.replaceChildren()
    showLast()
    if (points.length === 0) return
    const scale = logarithmic ? Math.log10 : (value) => value
    const values = points.map(([, value]) => value)
    let low = logarithmic ? Math.min(...values) : 0
    let high = Math.max(...values)
    if (high <= low) high = low + (Math.abs(low) || 1)
    const x = (step) => LEFT + (step / lastStep) * (WIDTH - LEFT - RIGHT)
    const y = (value) => TOP + ((scale(high) - scale(value)) / (scale(high) - scale(low))) * (HEIGHT - TOP - BOTTOM)
    place = { stepAt: (at) => ((at - LEFT) / (WIDTH - LEFT - RIGHT)) * lastStep }
    for (const value of logarithmic ? logTicks(low, high) : ticks(low, high, 4)) {
      drawing.append(
        svg('line', { class: 'grid', x1: LEFT, x2: WIDTH - RIGHT, y1: y(value), y2: y(value) }),
        svg('text', { x: LEFT - 8, y: y(value) + 4, 'text-anchor': 'end' }, number(value)),
      )
    }
    for (const step of ticks(0, lastStep, 5)) {
      drawing.append(svg('text', { x: x(step), y: HEIGHT - 7, 'text-anchor': 'middle' }, step >= 1e5 ? `${number(step / 1000)}k` : String(step)))
    }
    const path = (line) => line.map(([step, value], i) => `${i ? 'L' : 'M'}${x(step).toFixed(1)} ${y(value).toFixed(1)}`).join('')
    if (smooth) drawing.append(svg('path', { class: 'raw', d: path(points) }))
    drawing.append(svg('path', { class: 'line', d: path(smooth ? smoothed(points, smooth) : points) }))
  }
  showLast()
  return { element, update }
}

// Exponential mean over about `span` points, unbiased at the start.
function smoothed(points, span) {
  const keep = 1 - 1 / span
  let sum = 0
  let weight = 0
  return points.map(([step, value]) => {
    sum = keep * sum + (1 - keep) * value
    weight = keep * weight + (1 - keep)
    return [step, sum / weight]
  })
}

function ticks(low, high, about) {
  const rough = (high - low) / about
  const unit = 10 ** Math.floor(Math.log10(rough))
  const stride = [1, 2, 5, 10].map((m) => m * unit).find((s) => s >= rough) ?? unit
  const found = []
  for (let value = Math.ceil(low / stride) * stride; value <= high * (1 + 1e-9); value += stride) found.push(Number(value.toPrecision(12)))
  return found
}

function logTicks(low, high) {
  const found = []
  for (let power = Math.floor(Math.log10(low)); power <= Math.ceil(Math.log10(high)); power += 1) {
    for (const lead of [1, 2, 5]) {
      const value = lead * 10 ** power
      if (value >= low && value <= high) found.push(value)
    }
  }
  return found.length >= 2 ? found : ticks(low, high, 4)
}
