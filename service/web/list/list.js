// All runs, newest first, in a list of any length: only the rows in sight are drawn, and only their pages are asked again.
import { el, keyed, text } from '../dom.js'
import { count } from '../format.js'
import { eachFrame, inSight } from '../sight.js'
import { follow } from '../stream.js'
import { filterBar, queryOf } from './filters.js'
import { Pages } from './pages.js'
import { FACTS, isActive, makeRow, updateRow } from './row.js'

const SPARE = 8
const AHEAD = 60
const MOST_COMPARED = 4
const NEWS_MS = 250
const NEWS = new Set(['run_created', 'run_forked', 'run_changed', 'state_changed', 'attempt_started', 'ended'])

export function listView(filters, look) {
  const selected = new Set()
  let pages = new Pages(queryOf(filters))
  let loading = null
  let news = null
  const rows = el('ul', { class: 'runs', 'aria-label': 'Runs, newest first' })
  const titles = el('div', { class: 'titles', 'aria-hidden': 'true' }, el('span', {}), el('div', { class: 'run' }, ['run', 'state', 'progress', ...Object.values(FACTS)].map((name) => el('span', {}, name))))
  const table = el('div', { class: 'list', hidden: true }, titles, rows)
  const empty = el(
    'div',
    { class: 'empty', 'data-testid': 'empty', hidden: true },
    el('h2', {}, 'No runs yet'),
    el('p', {}, 'A run is a recipe being trained. ', el('a', { href: '#/new' }, 'Start one here'), ', or in a terminal:'),
    el('dl', {}, command('make demo', 'a small model learns to draw on this machine, in minutes'), command('dayrun run demo', 'the same recipe, once its data are there')),
  )
  const none = el(
    'div',
    { class: 'empty', 'data-testid': 'no-match', hidden: true },
    el('h2', {}, 'No run fits'),
    el('p', {}, 'Nothing matches these filters. ', el('button', { class: 'link', onclick: () => (location.hash = '#/') }, 'Show all runs')),
  )
  const end = el('p', { class: 'end quiet', 'data-testid': 'end' })
  const bar = filterBar(filters, () => {
    history.replaceState(null, '', filters.size ? `#/?${filters}` : '#/')
    pages = new Pages(queryOf(filters))
    loading = null
    scrollTo(0, 0)
    look()
  })
  const chosen = el('span')
  const compare = el('a', { class: 'button primary', 'data-testid': 'compare' }, 'Compare')
  const tray = el('div', { class: 'tray', hidden: true }, chosen, compare, el('button', { onclick: () => (selected.clear(), chose()) }, 'Clear'))
  const head = el('header', { class: 'head' }, el('h1', {}, 'Runs'), el('a', { class: 'button primary', href: '#/new', 'data-testid': 'new-run' }, 'New run'))
  const element = el('section', { 'aria-label': 'Runs' }, head, bar.element, table, empty, none, end, tray)

  const rowHeight = () => parseFloat(getComputedStyle(rows).getPropertyValue('--row'))

  function range() {
    const top = -rows.getBoundingClientRect().top
    return inSight(top, top + innerHeight, rowHeight(), pages.items.length, SPARE)
  }

  function draw() {
    const size = rowHeight()
    rows.style.height = `${pages.items.length * size}px`
    const [first, last] = range()
    const shown = pages.items.slice(first, last)
    keyed(rows, shown, (run) => run.id, (run) => makeRow(run, selected, choose), (row, run) => {
      const place = pages.items.indexOf(run, first)
      row.style.transform = `translateY(${place * size}px)`
      row.setAttribute('aria-posinset', place + 1)
      row.setAttribute('aria-setsize', pages.complete ? pages.items.length : -1)
      if (row.shown !== run) updateRow(row, run, selected)
      row.shown = run
    })
    const filtered = filters.size > 0
    table.hidden = pages.items.length === 0
    empty.hidden = pages.items.length > 0 || filtered || !pages.asked
    none.hidden = pages.items.length > 0 || !filtered || !pages.asked
    const many = pages.items.length
    text(end, many === 0 ? '' : pages.complete ? `${count(many)} ${many === 1 ? 'run' : 'runs'}` : `${count(many)} runs so far, older ones come as you scroll`)
    if (last + AHEAD >= many && pages.asked && !pages.complete) loadMore()
  }

  function loadMore() {
    if (loading !== null) return
    const mine = pages
    loading = mine.more().then(
      () => ((loading = null), mine === pages && draw()),
      () => (loading = null), // the next look says what is wrong
    )
  }

  async function refresh() {
    const mine = pages
    const [first, last] = mine.asked && !table.hidden ? range() : [0, 0]
    await mine.refresh(first, Math.max(first, last - 1))
    if (mine !== pages) return true
    draw()
    return mine.items.slice(first, last || undefined).some(isActive)
  }

  function choose(id, on) {
    if (on) selected.add(id)
    else selected.delete(id)
    chose()
  }

  function chose() {
    if (selected.size > MOST_COMPARED) selected.delete([...selected][0]) // the one that was chosen first gives way
    tray.hidden = selected.size === 0
    text(chosen, selected.size === 1 ? '1 run selected; select another to compare' : `${selected.size} runs selected`)
    compare.hidden = selected.size < 2
    compare.href = `#/compare/${[...selected].join(',')}`
    for (const row of rows.children) row.querySelector('input').checked = selected.has(row.dataset.key)
  }

  const scrolled = eachFrame(draw)
  addEventListener('scroll', scrolled, { passive: true })
  addEventListener('resize', scrolled)
  const live = follow('/events', ({ type }) => {
    if (!NEWS.has(type) || news !== null) return
    news = setTimeout(() => ((news = null), look()), NEWS_MS)
  })

  // j and k go through the rows, x selects, c compares.
  function key(event) {
    const at = document.activeElement?.closest('li[data-run]')
    const step = { j: 1, k: -1 }[event.key]
    if (step) {
      const next = at ? (step > 0 ? at.nextElementSibling : at.previousElementSibling) : rows.firstElementChild
      next?.querySelector('a').focus()
    } else if (event.key === 'x' && at) at.querySelector('input').click()
    else if (event.key === 'c' && selected.size > 1) location.hash = compare.hash
    else return false
    return true
  }

  function close() {
    removeEventListener('scroll', scrolled)
    removeEventListener('resize', scrolled)
    clearTimeout(news)
    live.stop()
  }
  return { element, refresh, close, key, search: bar.search, title: 'dayrun' }
}

const command = (line, what) => [el('dt', {}, el('code', {}, line)), el('dd', {}, what)]
