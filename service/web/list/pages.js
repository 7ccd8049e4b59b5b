// The runs of a list, as far as they were asked for: newest first, by pages whose cursors the service gave. New runs come in at the top,
// runs that no longer fit the filters go; a page that is asked again replaces just what lies between its first and its last run.
import { ask } from '../api.js'

const PAGE = 200

export class Pages {
  items = []
  #query
  #marks = [{ after: null, cursor: null, etag: null }] // where a page may begin: after the run of that id
  #next // cursor of what comes after the last item; undefined before anything was asked, null at the end

  constructor(query) {
    this.#query = query
  }

  get complete() {
    return this.#next === null
  }

  get asked() {
    return this.#next !== undefined
  }

  // The runs after those that are known.
  async more() {
    if (this.#next === undefined) return this.refresh(0)
    if (this.#next === null) return
    const cursor = this.#next
    const mark = { after: this.items.at(-1)?.id ?? null, cursor, etag: null }
    const { body, etag } = await ask(this.#address(cursor))
    if (this.#next !== cursor) return // another answer was faster
    this.#marks.push({ ...mark, etag })
    this.items.push(...body.items)
    this.#next = body.next
  }

  // Ask again for the pages that have the items `first` and `last`.
  async refresh(first, last = first) {
    const marks = new Set([first, last].map((index) => this.#markOf(this.items[index]?.id)))
    for (const mark of marks) if (this.#marks.includes(mark)) await this.#again(mark)
  }

  #markOf(id) {
    return this.#marks.findLast((one) => one.after === null || (id !== undefined && id < one.after))
  }

  async #again(mark) {
    const { body, etag } = await ask(this.#address(mark.cursor), mark.etag ? { headers: { 'If-None-Match': mark.etag } } : {})
    if (body === null) return
    const last = body.next === null ? null : body.items.at(-1).id
    const above = mark.after === null ? [] : this.items.filter((run) => run.id >= mark.after)
    const below = last === null ? [] : this.items.filter((run) => run.id < last)
    const newcomersOnly = mark.after === null && last !== null && this.items.length > 0 && this.items[0].id < last
    if (newcomersOnly) this.#marks = [mark] // more new runs than a page holds: what lies between is not known, so begin anew
    const end = newcomersOnly || below.length === 0
    this.items = newcomersOnly ? body.items : [...above, ...body.items, ...below]
    if (end) this.#next = body.next
    if (end) this.#marks = this.#marks.filter((one) => one === mark || one.after === null || one.after > (last ?? ''))
    mark.etag = etag
  }

  #address(cursor) {
    const query = new URLSearchParams(this.#query)
    query.set('limit', PAGE)
    if (cursor) query.set('cursor', cursor)
    return `/runs?${query}`
  }
}
