// Server-sent events by fetch: EventSource cannot send a key. A stream that breaks is taken up again after the last event that came.
// Streams rest while the tab is hidden: a browser has six connections to a host, for all its tabs.
import { signed } from './api.js'

const FIRST_WAIT_MS = 1000
const LONGEST_WAIT_MS = 15_000

// Calls `heard({ id, type, data })` for each event until stopped; `over()` says whether a stream that has ended is not to be taken up again.
export function follow(path, heard, { last = null, over = () => false } = {}) {
  let stopped = false
  let aborter = null
  let timer = null
  let wait = FIRST_WAIT_MS

  async function read() {
    if (stopped || aborter !== null || document.hidden) return
    clearTimeout(timer)
    aborter = new AbortController()
    const mine = aborter
    try {
      const headers = signed({ Accept: 'text/event-stream', ...(last === null ? {} : { 'Last-Event-ID': last }) })
      const response = await fetch(path, { headers, cache: 'no-store', signal: mine.signal })
      if (!response.ok) throw new Error(`status ${response.status}`)
      await parse(response.body, (event) => {
        if (stopped) return
        if (event.id !== null) last = event.id
        wait = FIRST_WAIT_MS
        heard(event)
      })
    } catch {
      // whoever needs the data asks for them as well, and says what is wrong
    }
    if (aborter === mine) aborter = null
    if (stopped || over() || document.hidden) return
    timer = setTimeout(read, wait)
    wait = Math.min(LONGEST_WAIT_MS, 2 * wait)
  }
  function seen() {
    if (document.hidden) rest()
    else read()
  }
  function rest() {
    clearTimeout(timer)
    aborter?.abort()
    aborter = null
  }
  document.addEventListener('visibilitychange', seen)
  read()
  return {
    stop() {
      stopped = true
      rest()
      document.removeEventListener('visibilitychange', seen)
    },
  }
}

async function parse(body, heard) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader()
  let rest = ''
  for (;;) {
    const { value, done } = await reader.read()
    if (done) return
    const blocks = (rest + value).replaceAll('\r\n', '\n').split('\n\n')
    rest = blocks.pop()
    for (const block of blocks) {
      const event = { id: null, type: 'message', data: [] }
      for (const line of block.split('\n')) {
        const [, name, text] = line.match(/^([^:]*):? ?(.*)$/s)
        if (name === 'id') event.id = text
        if (name === 'event') event.type = text
        if (name === 'data') event.data.push(text)
      }
      if (event.data.length > 0) heard({ ...event, data: event.data.join('\n') })
    }
  }
}
