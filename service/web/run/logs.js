// What the processes printed: one log at a time, by attempt and rank, live while the run goes on.
import { download, fetched, get } from '../api.js'
import { choices, el, text } from '../dom.js'
import { bytes, count } from '../format.js'
import { isActive } from '../list/row.js'
import { follow } from '../stream.js'

const MOST_LINES = 4000
const TAIL = 2000
const TAIL_BYTES = 256 * 1024

export function logsPanel(id) {
  let lines = []
  let live = null
  let reading = ''
  let active = true
  const which = el('select', { 'aria-label': 'Log', 'data-testid': 'log-of' })
  const search = el('input', { type: 'search', placeholder: 'Only lines with…', 'aria-label': 'Only lines with' })
  const stick = el('input', { type: 'checkbox', checked: true })
  const save = el('button', { onclick: () => download(`/runs/${id}/logs?${query()}`, `${id}-${which.value.replace('/', '-')}.log`) }, 'Download')
  const said = el('span', { class: 'quiet', role: 'status' })
  const view = el('pre', { class: 'log', role: 'log', tabindex: 0, 'aria-label': 'Log', 'data-testid': 'log' })
  const none = el('p', { class: 'quiet' }, 'Nothing has been launched yet.')
  const tools = el('div', { class: 'tools' }, which, search, el('label', { class: 'check' }, stick, 'Follow the end'), save, said)
  const element = el('section', { 'aria-label': 'Logs' }, tools, none, view)

  const query = () => new URLSearchParams({ attempt: which.value.split('/')[0], rank: which.value.split('/')[1] })

  function draw() {
    const wanted = search.value.toLowerCase()
    const shown = wanted ? lines.filter((line) => line.toLowerCase().includes(wanted)) : lines
    text(view, shown.join('\n'))
    text(said, wanted ? `${count(shown.length)} of ${count(lines.length)} lines` : lines.length >= TAIL ? `the last ${count(lines.length)} lines; Download has all` : '')
    if (stick.checked) view.scrollTop = view.scrollHeight
  }
  let frame = false
  function soon() {
    if (frame) return
    frame = true
    requestAnimationFrame(() => ((frame = false), draw()))
  }

  async function open() {
    rest()
    const mine = (reading = which.value)
    lines = []
    draw()
    const [attempt, rank] = mine.split('/')
    const newest = which.options[0]?.value.split('/')[0] === attempt
    if (active && newest && rank !== 'launcher') return followFrom(Number(attempt), rank)
    const log = await (await fetched(`/runs/${id}/logs?${query()}&tail=${TAIL}`)).text()
    if (mine !== reading) return
    add(log)
    draw()
  }

  function followFrom(attempt, rank) {
    const from = Math.max(0, (sizes.get(`${attempt}/${rank}`) ?? 0) - TAIL_BYTES)
    let cut = from > 0 // the first line is then but the end of one
    let of = attempt
    live = follow(`/runs/${id}/logs?rank=${rank}`, ({ data }) => {
      const said = JSON.parse(data)
      if (said.attempt !== of) add(`— attempt ${(of = said.attempt)} —`)
      add(cut ? said.text.slice(said.text.indexOf('\n') + 1) : said.text)
      cut = false
      soon()
    }, { last: `${attempt}:${from}`, over: () => !active })
  }

  function add(printed) {
    lines.push(...printed.replace(/\n$/, '').split('\n'))
    if (lines.length > MOST_LINES) lines = lines.slice(-MOST_LINES)
  }

  let sizes = new Map()
  async function refresh(run) {
    active = isActive(run)
    const { items } = await get(`/runs/${id}/ranks`)
    sizes = new Map(items.map((one) => [`${one.attempt}/${one.rank}`, one.bytes]))
    const order = (rank) => (rank === 'launcher' ? Infinity : Number(rank))
    const sorted = items.toSorted((a, b) => b.attempt - a.attempt || order(a.rank) - order(b.rank))
    const before = which.value
    const newest = which.options[0]?.value
    choices(which, sorted.map((one) => [`${one.attempt}/${one.rank}`, `attempt ${one.attempt}, ${one.rank === 'launcher' ? 'launcher' : `rank ${one.rank}`} (${bytes(one.bytes)})`]))
    none.hidden = items.length > 0
    tools.hidden = view.hidden = items.length === 0
    if (items.length === 0) return
    const stays = sizes.has(before) && before !== newest
    which.value = stays || before === which.options[0].value ? before : which.options[0].value
    if (which.value !== reading || (live === null && active && reading === '')) await open()
  }

  which.addEventListener('change', open)
  search.addEventListener('input', draw)
  const rest = () => (live?.stop(), (live = null), (reading = ''))
  return { element, refresh, rest, close: rest }
}
