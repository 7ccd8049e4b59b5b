// Which of many things of one size are in sight, so that only these are drawn.

const BY = 4 // they come and go by so many, so that most frames of a scroll change nothing

// Numbers [first, end) of those that lie between `from` and `to` (pixels from the first one's edge), with at least `spare` more on each side.
export function inSight(from, to, size, count, spare) {
  const first = Math.max(0, Math.min(count, BY * Math.floor((from / size - spare) / BY)))
  const end = Math.max(first, Math.min(count, BY * Math.ceil((to / size + spare) / BY)))
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
