// Which view is open, and when it asks the service again: each second while something trains, slower when nothing does, never unseen.
import { Refusal, Unreachable } from './api.js'
import { compareView } from './compare.js'
import { el } from './dom.js'
import { listView } from './list/list.js'
import { newView } from './new/new.js'
import { runView } from './run/run.js'
import { askOtherTabs, credentials, onChange, signOut } from './session.js'
import { shortcutsOn, showShortcuts, typing } from './shortcuts.js'
import { askForKey, finishProvider } from './sign-in.js'

const SOON_MS = 1000
const LATER_MS = 5000
const page = document.getElementById('page')
const lost = document.getElementById('lost')
const session = document.getElementById('session')
let poll = null
let view = null
let at = {}

// Calls `refresh` until stopped, one call at a time. `look` is "now, please": it also wakes a poll that slept while the tab was hidden.
function polling(refresh) {
  let timer, busy, again, stopped
  async function look() {
    clearTimeout(timer)
    if (stopped || document.hidden) return
    if (busy) return void (again = true)
    busy = true
    let wait = SOON_MS
    try {
      wait = (await refresh()) ? SOON_MS : LATER_MS
      if (!stopped) lost.hidden = true
    } catch (error) {
      if (error.retryAfterMs) wait = error.retryAfterMs
      if (!stopped && !tell(error)) wait = null
    }
    busy = false
    if (!stopped) page.removeAttribute('aria-busy')
    if (!stopped && wait !== null) timer = setTimeout(look, again ? 0 : wait)
    again = false
  }
  return { look, stop: () => ((stopped = true), clearTimeout(timer)) }
}

// Say what went wrong; false when asking again would not help.
function tell(error) {
  if (error instanceof Refusal && (error.status === 404 || error.status === 403)) {
    lost.hidden = true
    at = {} // whatever is opened next is made anew
    page.replaceChildren(el('div', { class: 'empty' }, el('h1', {}, error.status === 404 ? 'Not here' : 'Not for you'), el('p', {}, error.message), el('p', {}, el('a', { href: '#/' }, 'All runs'))))
    return false
  }
  if (error instanceof Refusal && error.status === 401) return false // the sign-in is open; once it is done, all is asked again
  if (error instanceof Unreachable) lost.textContent = 'Service unreachable, trying again. What you see is the last that it said.'
  else if (error instanceof Refusal) lost.textContent = `The service answers with an error, trying again: ${error.message}`
  else console.error(error) // ours: the console has the place
  lost.hidden = !(error instanceof Unreachable || error instanceof Refusal)
  return true
}

function place() {
  const [path, query] = location.hash.replace(/^#/, '').split('?')
  const [, kind = '', ids = '', tab = 'overview'] = path.split('/')
  return { kind, ids, tab, query: new URLSearchParams(query) }
}

function open({ anew = false } = {}) {
  const to = place()
  const look = () => poll?.look()
  if (!anew && to.kind === 'runs' && at.kind === 'runs' && to.ids === at.ids && view.show) {
    view.show(to.tab) // another part of the same run
    at = to
    return look()
  }
  at = to
  poll?.stop()
  view?.close?.()
  view = { runs: () => runView(to.ids, to.tab, look), compare: () => compareView(to.ids.split(',').filter(Boolean)), new: () => newView(to.query) }[to.kind]?.() ?? listView(to.query, look)
  page.replaceChildren(view.element)
  document.title = view.title
  lost.hidden = true
  scrollTo(0, 0)
  page.setAttribute('aria-busy', 'true')
  poll = polling(view.refresh)
  poll.look()
}

let isClosed = false // the service takes requests with a key only
function showSession() {
  const way = credentials() === null ? (isClosed ? el('button', { class: 'link', 'data-testid': 'ask-key', onclick: () => askForKey('Whoever works with this service has a key.') }, 'Sign in') : null) : el('button', { class: 'link', 'data-testid': 'sign-out', onclick: signOut }, 'Sign out')
  session.replaceChildren(...(way ? [way] : []))
}

document.addEventListener('visibilitychange', () => poll?.look())
document.addEventListener('dayrun:unauthorized', ({ detail }) => {
  isClosed = true
  showSession()
  askForKey(detail.message)
})
let before = credentials()
onChange(() => {
  showSession()
  const goesOn = before !== null && credentials() !== null // an ended session was taken up again: what was typed and shown stays
  before = credentials()
  if (goesOn) poll?.look()
  else open({ anew: true })
})
addEventListener('online', () => poll?.look())
addEventListener('hashchange', () => open())
addEventListener('unhandledrejection', (event) => {
  if (!(event.reason instanceof Unreachable || event.reason instanceof Refusal)) return
  event.preventDefault() // something that was pressed came to nothing
  lost.textContent = event.reason instanceof Unreachable ? 'No answer came; try again in a moment.' : event.reason.message
  lost.hidden = false
})
addEventListener('keydown', (event) => {
  if (event.key === 'Escape' && event.target === view.search) return view.search.blur()
  if (!shortcutsOn() || typing(event) || document.querySelector('dialog[open]')) return
  if (event.key === '?') showShortcuts()
  else if (event.key === '/' && view.search) view.search.focus()
  else if (event.key === 'n') location.hash = '#/new'
  else if (event.key === 'g') location.hash = '#/'
  else if (!view.key?.(event)) return
  event.preventDefault()
})
document.getElementById('keys').addEventListener('click', showShortcuts)
document.getElementById('skip').addEventListener('click', (event) => {
  event.preventDefault()
  page.focus()
})

askOtherTabs()
const refused = await finishProvider()
showSession()
if (at.kind === undefined) open()
if (refused) await askForKey(refused)
