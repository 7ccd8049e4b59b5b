// Pictures in `img` elements: fetched when they come into sight and stay there, few at a time, what came last first. Where a key is needed an
// `img` cannot ask by itself, so they become blobs, kept while there is room.
import { signed } from './api.js'
import { credentials } from './session.js'

const AT_ONCE = 6
const KEPT = 600
const NEAR = '300px'
const MOST_TRIES = 5
const SETTLE_MS = 100
const kept = new Map() // address → blob's address, the least recently used first
const wanted = new WeakMap() // img → address that it is to show
const given = new WeakMap() // img → address that it was given
const inSight = new WeakSet()
const queue = [] // { image, url, due, tries }
let busy = 0
let moved = -Infinity // when a picture last came into sight
let later = null

const near = new IntersectionObserver(
  (seen) => {
    const now = performance.now()
    const due = now - moved < SETTLE_MS ? now + SETTLE_MS : now // while one scrolls on, what flies by is not fetched
    for (const { target, isIntersecting } of seen) {
      inSight[isIntersecting ? 'add' : 'delete'](target)
      if (!isIntersecting || wanted.get(target) === given.get(target)) continue
      moved = now
      ask(target, due)
    }
  },
  { rootMargin: NEAR, scrollMargin: NEAR },
)

// Let `image` show `url`: when it is in sight, or at once.
export function show(image, url, { atOnce = false } = {}) {
  if (wanted.get(image) === url) return
  wanted.set(image, url)
  if (atOnce) inSight.add(image)
  if (kept.has(url)) give(image, url)
  else if (inSight.has(image)) ask(image, 0)
  else near.observe(image)
}

function ask(image, due) {
  queue.push({ image, url: wanted.get(image), due, tries: 0 })
  work()
}

function work() {
  const now = performance.now()
  let next = Infinity
  for (let i = queue.length - 1; i >= 0 && busy < AT_ONCE; i -= 1) {
    const one = queue[i]
    if (one.due > now) {
      next = Math.min(next, one.due)
      continue
    }
    queue.splice(i, 1)
    if (wanted.get(one.image) === one.url && inSight.has(one.image)) load(one)
  }
  clearTimeout(later)
  if (next < Infinity && busy < AT_ONCE) later = setTimeout(work, next - now)
}

async function load(one) {
  const { image, url, tries } = one
  busy += 1
  try {
    if (credentials() === null) await fetched(image, url)
    else {
      const response = await fetch(url, { headers: signed() })
      if (response.status === 429 && tries < MOST_TRIES) {
        const seconds = Number(response.headers.get('Retry-After')) || 1
        queue.push({ ...one, due: performance.now() + 1000 * seconds, tries: tries + 1 })
      } else if (response.ok) {
        keep(url, URL.createObjectURL(await response.blob()))
        if (wanted.get(image) === url) give(image, url)
      }
    }
  } catch {
    given.delete(image)
    if (wanted.get(image) === url) wanted.delete(image) // the next drawing of its view asks again
  }
  busy -= 1
  work()
}

// The browser fetches it for the image. Ends, too, once the image was told to show another.
function fetched(image, url) {
  const listening = new AbortController() // an image of the slider is told many
  const { signal } = listening
  return new Promise((resolve, reject) => {
    image.addEventListener('load', resolve, { signal })
    image.addEventListener('error', reject, { signal })
    given.set(image, url)
    image.src = url
  }).finally(() => listening.abort())
}

function give(image, url) {
  const blob = kept.get(url)
  kept.delete(url) // and put back as the one that was used last
  kept.set(url, blob)
  given.set(image, url)
  image.src = blob
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
