// The service, as this page asks it. A refusal is an Error whose message is the problem's own sentence; silence is an Unreachable.
import { credentials } from './session.js'

const PATIENCE_MS = 15_000

export class Unreachable extends Error {}

export class Refusal extends Error {
  constructor(status, problem, retryAfter) {
    const said = problem.detail ?? problem.title ?? `status ${status}`
    const nearest = (problem.errors ?? []).filter((one) => one.nearest?.length > 0 && !said.includes(one.nearest.join(' or ')))
    super([said, ...nearest.map((one) => `${one.pointer}: try ${one.nearest.join(' or ')}`)].join('; '))
    this.status = status
    this.kind = String(problem.type ?? '').replace('urn:dayrun:problem:', '')
    this.errors = problem.errors ?? []
    this.retryAfterMs = 1000 * (Number(retryAfter) || 0)
  }
}

export function signed(headers = {}) {
  const secret = credentials()
  return secret === null ? headers : { Authorization: `Bearer ${secret}`, ...headers }
}

// The raw answer; 401 is also told to the page, whoever asked.
export async function fetched(path, options = {}) {
  let response
  const asWho = credentials()
  try {
    response = await fetch(path, { cache: 'no-store', signal: AbortSignal.timeout(PATIENCE_MS), ...options, headers: signed(options.headers) })
  } catch (error) {
    if (options.signal?.aborted) throw error
    throw new Unreachable(`nothing came from ${path}`, { cause: error })
  }
  if (response.ok || response.status === 304) return response
  let problem
  try {
    problem = await response.json()
  } catch (error) {
    throw new Unreachable(`nothing that can be read came from ${path}`, { cause: error }) // such as a proxy's HTML page
  }
  const refusal = new Refusal(response.status, problem, response.headers.get('Retry-After'))
  if (response.status === 401 && credentials() === asWho) document.dispatchEvent(new CustomEvent('dayrun:unauthorized', { detail: refusal }))
  throw refusal
}

// { body, etag }; the body is null for a 304.
export async function ask(path, { method = 'GET', headers = {}, body } = {}) {
  const sent = body === undefined ? {} : { body: JSON.stringify(body) }
  const kind = body === undefined ? {} : { 'Content-Type': 'application/json' }
  const response = await fetched(path, { method, headers: { ...kind, ...headers }, ...sent })
  const etag = response.headers.get('ETag')
  if (response.status === 304) return { body: null, etag }
  try {
    return { body: await response.json(), etag }
  } catch (error) {
    throw new Unreachable(`nothing that can be read came from ${path}`, { cause: error })
  }
}

export const get = async (path) => (await ask(path)).body

export const newKey = () => crypto.randomUUID?.() ?? `page-${Date.now()}-${Math.random()}` // randomUUID needs https or localhost

// The same key on the second try: whether or not the first was heard, the service acts once.
export async function post(path, { body, headers = {}, key = newKey() } = {}) {
  const sent = { method: 'POST', body, headers: { ...headers, 'Idempotency-Key': key } }
  try {
    return await ask(path, sent)
  } catch (error) {
    if (!(error instanceof Unreachable)) throw error
    return await ask(path, sent)
  }
}

// Lists that only grow: each call asks again for the last page seen and what came after it, and returns everything.
export function grower(path) {
  const full = []
  let cursor = null
  return async () => {
    for (;;) {
      const more = cursor === null ? '' : `${path.includes('?') ? '&' : '?'}cursor=${encodeURIComponent(cursor)}`
      const page = await get(path + more)
      if (page.next === null) return [...full, ...page.items]
      full.push(...page.items)
      cursor = page.next
    }
  }
}

// A file that a link could not fetch where a key is needed.
export async function download(path, name) {
  const url = URL.createObjectURL(await (await fetched(path)).blob())
  const link = Object.assign(document.createElement('a'), { href: url, download: name })
  link.click()
  setTimeout(() => URL.revokeObjectURL(url), 60_000)
}
