// The service, as this page asks it. Every refusal is an Error whose message is the problem's own sentence.

export class Refusal extends Error {
  constructor(status, message) {
    super(message)
    this.status = status
  }
}

async function send(path, options = {}) {
  const response = await fetch(path, { cache: 'no-store', ...options })
  const body = await response.json()
  if (response.ok) return body
  throw new Refusal(response.status, body.detail ?? response.statusText)
}

export const get = (path) => send(path)

export const post = (path) => send(path, { method: 'POST', headers: { 'Idempotency-Key': crypto.randomUUID?.() ?? String(Math.random()) } })

// Every page of a list.
export async function all(path) {
  const items = []
  let cursor = null
  do {
    const more = cursor === null ? '' : `${path.includes('?') ? '&' : '?'}cursor=${encodeURIComponent(cursor)}`
    const page = await get(path + more)
    items.push(...page.items)
    cursor = page.next
  } while (cursor !== null)
  return items
}
