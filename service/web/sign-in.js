// Signing in: a key in a dialog, or the way to the OpenID provider where the service has one.
import { ask, get, Refusal } from './api.js'
import { opened } from './dialog.js'
import { el, labelled, text } from './dom.js'
import { comingBack, credentials, goToProvider, onChange, signIn } from './session.js'

let shown = null
onChange(() => credentials() !== null && shown?.close()) // another tab knew a key

// Ask who is there; `because` is the service's own sentence. Once, however many requests were refused.
export async function askForKey(because) {
  if (shown) return
  const expired = credentials() !== null
  const key = el('input', { type: 'password', autocomplete: 'current-password', spellcheck: 'false', placeholder: 'dayrun_…', 'data-testid': 'key', required: true })
  const wrong = el('p', { class: 'refused', role: 'alert', 'data-testid': 'key-refused', hidden: true })
  const button = el('button', { class: 'primary', type: 'submit', 'data-testid': 'sign-in' }, 'Sign in')
  const provided = el('div', { class: 'provided', hidden: true })
  const form = el('form', { method: 'dialog' }, provided, labelled('Key', key), wrong, el('div', { class: 'buttons' }, button))
  const dialog = el(
    'dialog',
    { class: 'question sign-in', 'data-testid': 'no-key', 'aria-labelledby': 'sign-in-title' },
    el('h2', { id: 'sign-in-title' }, expired ? 'Your session has ended' : 'Sign in'),
    el('p', { class: 'quiet' }, because),
    form,
    el('p', { class: 'quiet' }, 'No key yet? An admin of your project makes one: ', el('code', {}, 'dayrun keys create NAME --project PROJECT')),
  )
  form.addEventListener('submit', async (event) => {
    event.preventDefault()
    button.disabled = true
    try {
      await ask('/runs?limit=1', { headers: { Authorization: `Bearer ${key.value.trim()}` } })
      signIn(key.value.trim())
    } catch (error) {
      text(wrong, error instanceof Refusal ? error.message : 'No answer came; try again in a moment.')
      wrong.hidden = false
      key.select()
    }
    button.disabled = false
  })
  shown = opened(dialog, () => (shown = null))
  key.focus()
  try {
    const { provider } = await get('/web/sign-in.json')
    if (!provider) return
    provided.append(el('button', { type: 'button', class: 'primary', 'data-testid': 'sign-in-provider', onclick: () => goToProvider(provider) }, `Sign in at ${new URL(provider.issuer).host}`), el('p', { class: 'quiet' }, 'or with a key'))
    provided.hidden = false
  } catch {
    // a key works without it
  }
}

// Take what the provider sent back. Returns a sentence when it came to nothing, else null.
export async function finishProvider() {
  const back = comingBack()
  if (back === null) return null
  if (back.refused) return `Nobody was signed in: ${back.refused}.`
  try {
    const { body } = await ask('/web/token', { method: 'POST', body: back })
    signIn(body.token)
    return null
  } catch (error) {
    return `Nobody was signed in: ${error.message}.`
  }
}
