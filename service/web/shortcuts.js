// Single keys, for who wants them: they can be turned off, and never act while somebody types.
import { opened } from './dialog.js'
import { el } from './dom.js'

const OFF = 'dayrun-no-shortcuts'
const KEYS = [
  ['/', 'search'],
  ['n', 'new run'],
  ['g', 'list of runs'],
  ['j k', 'next, previous run'],
  ['x', 'select the run for a comparison'],
  ['c', 'compare what is selected'],
  [', .', 'samples: a step back, on'],
  ['← →', 'on a curve: read its values; in a picture: step'],
  ['+ − Esc', 'on a curve: zoom, show all'],
  ['?', 'this list'],
]

export const shortcutsOn = () => localStorage.getItem(OFF) === null

export function showShortcuts() {
  const box = el('input', { type: 'checkbox', onchange: (event) => (event.currentTarget.checked ? localStorage.removeItem(OFF) : localStorage.setItem(OFF, '1')) })
  box.checked = shortcutsOn()
  const dialog = el(
    'dialog',
    { class: 'question', 'data-testid': 'shortcuts', 'aria-labelledby': 'shortcuts-title' },
    el('h2', { id: 'shortcuts-title' }, 'Keys'),
    el('dl', { class: 'keys' }, KEYS.map(([key, what]) => [el('dt', {}, key.split(' ').map((one) => el('kbd', {}, one))), el('dd', {}, what)])),
    el('label', { class: 'check' }, box, 'Single keys act'),
    el('div', { class: 'buttons' }, el('button', { class: 'primary', onclick: () => dialog.close() }, 'Close')),
  )
  opened(dialog)
}

export const typing = (event) => event.target.closest?.('input:not([type=checkbox], [type=range]), textarea, select, dialog') || event.ctrlKey || event.metaKey || event.altKey
