// A question before something happens: what will be, and two buttons. Escape and the page behind it mean no.
import { el } from './dom.js'

// True when it was confirmed.
export function confirmed({ title, text, yes, no = 'Go back', harmful = false }) {
  return new Promise((resolve) => {
    const close = (answer) => () => dialog.close(answer)
    const dialog = el(
      'dialog',
      { class: 'question', 'data-testid': 'confirm', 'aria-labelledby': 'question-title' },
      el('h2', { id: 'question-title' }, title),
      [text].flat().map((line) => el('p', {}, line)),
      el(
        'div',
        { class: 'buttons' },
        el('button', { onclick: close('no'), 'data-testid': 'confirm-no' }, no),
        el('button', { class: harmful ? 'harmful' : 'primary', onclick: close('yes'), 'data-testid': 'confirm-yes', autofocus: !harmful }, yes),
      ),
    )
    opened(dialog, () => resolve(dialog.returnValue === 'yes'))
  })
}

// Show a dialog until it is closed; focus returns to where it was.
export function opened(dialog, closed = () => {}) {
  const before = document.activeElement
  document.body.append(dialog)
  dialog.addEventListener('click', (event) => event.target === dialog && dialog.close()) // beside it
  dialog.addEventListener('close', () => {
    dialog.remove()
    before?.focus?.()
    closed()
  })
  dialog.showModal()
  return dialog
}
