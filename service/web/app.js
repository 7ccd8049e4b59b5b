// Which view is open, and when it asks the service again: each second while something trains, slower when nothing does, never unseen.
import { Refusal } from './api.js'
import { el } from './dom.js'
import { listView } from './list.js'
import { runView } from './run.js'

const page = document.getElementById('page')
const lost = document.getElementById('lost')
const SOON = 1000
const LATER = 5000
let turn = 0

async function open() {
  const mine = ++turn
  const match = location.hash.match(/^#\/runs\/([\w-]+)$/)
  const view = match ? runView(match[1]) : listView()
  page.replaceChildren(view.element)
  document.title = match ? `${match[1]} · dayrun` : 'dayrun'
  while (mine === turn) {
    let again = SOON
    if (!document.hidden) {
      try {
        again = (await view.refresh()) ? SOON : LATER
        lost.hidden = true
      } catch (error) {
        if (error instanceof Refusal && error.status === 404) {
          if (mine === turn) page.replaceChildren(el('p', { class: 'empty' }, error.message, ' ', el('a', { href: '#/' }, 'All runs')))
          return
        }
        lost.hidden = false
        if (!(error instanceof TypeError)) console.error(error) // a TypeError is what fetch throws when nothing answers
      }
    }
    await Promise.race([new Promise((done) => setTimeout(done, again)), seenAgain()])
  }
}

function seenAgain() {
  return new Promise((done) => document.addEventListener('visibilitychange', done, { once: true }))
}

addEventListener('hashchange', open)
open()
