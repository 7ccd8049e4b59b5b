// Pictures in `img` elements: fetched when they come into sight. Where a key is needed an `img` cannot ask by itself, so they become blobs,
// a few at a time, kept while there is room.
import { signed } from './api.js'
import { credentials } from './session.js'

const AT_ONCE = 6
const KEPT = 600
const NEAR = '300px'
const MOST_TRIES = 5
const kept = new Map() // address → blob's address, the least recently used first
const wanted = new WeakMap() // img → address that it is to show
const queue = []
let busy = 0

const near = new IntersectionObserver(
  (seen) => {
    for (const { target, isIntersecting } of seen) if (isIntersecting) begin(target)
  },
  { rootMargin: NEAR },
)

// Let `image` show `url`; when it is in sight, or at once.
export function show(image, url, { atOnce = false } = {}) {
  if (wanted.get(image) === url) return
  wanted.set(image, url)
  if (atOnce || kept.has(url)) return begin(image)
  near.unobserve(image) // observed anew, it is told anew whether it is in sight
  near.observe(image)
}

export function forget(image) {
  near.unobserve(image)
  wanted.delete(image)
}

function begin(image) {
  const url = wanted.get(image)
  near.unobserve(image)
  if (url === undefined) return
  if (credentials() === null) return void (image.src = url)
  if (kept.has(url)) {
    const blob = kept.get(url)
    kept.delete(url)
    kept.set(url, blob)
    return void (image.src = blob)
  }
  queue.push({ image, url, tries: 0 })
  work()
}

async function work() {
  if (busy >= AT_ONCE || queue.length === 0) return
  const one = queue.pop() // what came into sight last is looked at now
  if (wanted.get(one.image) !== one.url) return work()
  busy += 1
  try {
    const response = await fetch(one.url, { headers: signed() })
    if (response.status === 429 && one.tries < MOST_TRIES) {
      const seconds = Number(response.headers.get('Retry-After')) || 1
      setTimeout(() => (queue.push({ ...one, tries: one.tries + 1 }), work()), 1000 * seconds)
    } else if (response.ok) {
      keep(one.url, URL.createObjectURL(await response.blob()))
      if (wanted.get(one.image) === one.url) one.image.src = kept.get(one.url)
    }
  } catch {
    wanted.delete(one.image) // the next drawing of its view asks again
  }
  busy -= 1
  work()
}

function keep(url, blob) {
  kept.set(url, blob)
  for (const [old, address] of kept) {
    if (kept.size <= KEPT) break
    kept.delete(old)
    URL.revokeObjectURL(address)
  }
}

export const thumbnail = (url, side) => {
  const pixels = side * Math.min(2, devicePixelRatio || 1)
  const width = [64, 128, 256].find((one) => one >= pixels)
  return width ? `${url}?width=${width}` : url
}
