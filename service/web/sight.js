// Which of many things of one size are in sight, so that only these are drawn.

// Numbers [first, end) of those that lie between `from` and `to` (pixels from the first one's edge), with `spare` more on each side.
export function inSight(from, to, size, count, spare) {
  const first = Math.max(0, Math.min(count, Math.floor(from / size) - spare))
  const end = Math.max(first, Math.min(count, Math.ceil(to / size) + spare))
  return [first, end]
}

// Calls `draw` at most once a frame, however often it is asked.
export function eachFrame(draw) {
  let asked = false
  return () => {
    if (asked) return
    asked = true
    requestAnimationFrame(() => {
      asked = false
      draw()
    })
  }
}
