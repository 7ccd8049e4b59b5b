// Who is signed in: a key or a token, kept for this tab alone (sessionStorage), and handed to other tabs of the same origin that ask.
const NAME = 'dayrun-key'
const WAITING = 'dayrun-sign-in'
const listeners = new Set()
const tabs = new BroadcastChannel('dayrun-session')
let secret = sessionStorage.getItem(NAME)

export const credentials = () => secret
export const onChange = (listener) => listeners.add(listener)

function keep(value) {
  secret = value
  if (value === null) sessionStorage.removeItem(NAME)
  else sessionStorage.setItem(NAME, value)
  for (const listener of listeners) listener()
}

export const signIn = (value) => keep(value)
export function signOut() {
  keep(null)
  tabs.postMessage({ out: true })
}

tabs.onmessage = ({ data }) => {
  if (data.ask && secret !== null) tabs.postMessage({ key: secret })
  if (data.key && secret === null) keep(data.key)
  if (data.out && secret !== null) keep(null)
}

// What another tab knows, for one that was just opened: the answer comes as a change, if one comes.
export function askOtherTabs() {
  if (secret === null) tabs.postMessage({ ask: true })
}

// Off to the OpenID provider (authorization code with PKCE); it sends the browser back to this page, with a code.
export async function goToProvider({ authorize, client, scope }) {
  const verifier = random()
  const state = random()
  const digest = await crypto.subtle.digest('SHA-256', new TextEncoder().encode(verifier))
  sessionStorage.setItem(WAITING, JSON.stringify({ verifier, state, hash: location.hash }))
  const wanted = { response_type: 'code', client_id: client, redirect_uri: home(), scope, state, code_challenge: base64url(digest), code_challenge_method: 'S256' }
  location.assign(`${authorize}${authorize.includes('?') ? '&' : '?'}${new URLSearchParams(wanted)}`)
}

// What the provider sent back, if it did: { code, verifier, redirect_uri } or { refused }; null when nobody comes from there.
export function comingBack() {
  const said = new URLSearchParams(location.search)
  if (!said.has('code') && !said.has('error')) return null
  const began = JSON.parse(sessionStorage.getItem(WAITING) ?? 'null')
  sessionStorage.removeItem(WAITING)
  history.replaceState(null, '', `${location.pathname}${began?.hash ?? ''}`)
  if (began === null || said.get('state') !== began.state) return { refused: 'this sign-in was not begun in this tab' }
  if (said.has('error')) return { refused: said.get('error_description') ?? said.get('error') }
  return { code: said.get('code'), verifier: began.verifier, redirect_uri: home() }
}

const home = () => `${location.origin}${location.pathname}`
const base64url = (bytes) => btoa(String.fromCharCode(...new Uint8Array(bytes))).replaceAll('+', '-').replaceAll('/', '_').replaceAll('=', '')
const random = () => base64url(crypto.getRandomValues(new Uint8Array(32)))
