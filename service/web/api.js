// The service, as this page asks it. A refusal is an Error whose message is the problem's own sentence; silence is an Unreachable.

const PATIENCE_MS = 15_000

export class Unreachable extends Error {}

export class Refusal extends Error {
  constructor(status, problem) {
    const said = problem.detail ?? problem.title ?? `status ${status}`
    const nearest = (problem.errors ?? []).filter((one) => one.nearest?.length > 0 && !said.includes(one.nearest.join(' or ')))
    super([said, ...nearest.map((one) => `${one.pointer}: try ${one.nearest.join(' or ')}`)].join('; '))
    this.status = status
  }
}

async function send(path, options = {}) {
  let response, body
  try {
    response = await fetch(path, { cache: 'no-store', signal: AbortSignal.timeout(PATIENCE_MS), ...options })
    body = await response.json()
  } catch (error) {
    throw new Unreachable(`nothing that can be read came from ${path}`, { cause: error }) // also a proxy's HTML page
  }
  if (response.ok) return body
  throw new Refusal(response.status, body)
}

export const get = (path) => send(path)

// The same key on the second try: whether or not the first was heard, the service acts once.
export async function post(path) {
  const headers = { 'Idempotency-Key': crypto.randomUUID?.() ?? `page-${Date.now()}-${Math.random()}` } // randomUUID needs https or localhost
  try {
    return await send(path, { method: 'POST', headers })
  } catch (error) {
    if (!(error instanceof Unreachable)) throw error
    return await send(path, { method: 'POST', headers })
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
