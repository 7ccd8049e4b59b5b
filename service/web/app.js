// Which view is open, and when it asks the service again: each second while something trains, slower when nothing does, never unseen.
import { Refusal, Unreachable } from './api.js'
import { el } from './dom.js'
import { listView } from './list.js'
import { runView } from './run.js'

const SOON_MS = 1000
const LATER_MS = 5000
const page = document.getElementById('page')
const lost = document.getElementById('lost')
let poll = null

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
      if (!stopped && !tell(error)) stopped = true
    }
    busy = false
    if (!stopped) timer = setTimeout(look, again ? 0 : wait)
    again = false
  }
  return { look, stop: () => ((stopped = true), clearTimeout(timer)) }
}

// Say what went wrong; false when asking again would not help.
function tell(error) {
  if (error instanceof Refusal && error.status === 404) {
    lost.hidden = true
    page.replaceChildren(el('div', { class: 'empty' }, el('p', {}, error.message), el('p', {}, el('a', { href: '#/' }, 'All runs'))))
    return false
  }
  if (error instanceof Refusal && error.status === 401) {
    lost.hidden = true
    const how = 'This page cannot send a key yet. In a terminal, with DAYRUN_KEY set, `dayrun list` shows the runs.'
    page.replaceChildren(el('div', { class: 'empty', 'data-testid': 'no-key' }, el('p', {}, error.message), el('p', {}, how)))
    return false
  }
  if (error instanceof Unreachable) lost.textContent = 'Service unreachable, trying again. What you see is the last that it said.'
  else if (error instanceof Refusal) lost.textContent = `The service answers with an error, trying again: ${error.message}`
  else console.error(error) // ours: the console has the place
  lost.hidden = !(error instanceof Unreachable || error instanceof Refusal)
  return true
}

function open() {
  poll?.stop()
  const match = location.hash.match(/^#\/runs\/([\w-]+)$/)
  const view = match ? runView(match[1], () => poll.look()) : listView(() => poll.look())
  page.replaceChildren(view.element)
  if (!match) document.title = 'dayrun'
  lost.hidden = true
  scrollTo(0, 0)
  poll = polling(view.refresh)
  poll.look()
}

document.addEventListener('visibilitychange', () => poll.look())
addEventListener('online', () => poll.look())
addEventListener('hashchange', open)
open()
