// One picture, large. The arrow keys go to its neighbours: left and right the step, up and down the prompt.
import { download } from '../api.js'
import { opened } from '../dialog.js'
import { el, text } from '../dom.js'
import { show } from '../pictures.js'
import { described } from './matrix.js'

// `at(row, column)`: the sample there, if there is one.
export function viewer(at) {
  function open(row, column) {
    let sample
    const image = el('img', { alt: '', 'data-testid': 'large' })
    const prompt = el('p', { class: 'prompt' })
    const facts = el('p', { class: 'quiet' })
    const close = el('button', { class: 'close', 'aria-label': 'Close', onclick: () => dialog.close() }, '×')
    const save = el('button', { class: 'link', onclick: () => download(sample.url, sample.url.split('/').slice(-2).join('-')) }, 'Download')
    const dialog = el('dialog', { class: 'viewer', 'data-testid': 'viewer', 'aria-label': 'Sample' }, close, image, prompt, facts, save, el('p', { class: 'quiet hint' }, '← → step   ↑ ↓ prompt'))

    function go(to, along) {
      const next = at(to, along)
      if (!next) return
      ;[sample, row, column] = [next, to, along]
      show(image, sample.url, { atOnce: true })
      image.alt = sample.prompt
      image.width = sample.width
      image.height = sample.height
      image.classList.toggle('pixels', sample.width < 512)
      text(prompt, sample.prompt)
      text(facts, `${described(sample)} · ${sample.width} × ${sample.height}`)
    }
    dialog.addEventListener('keydown', (event) => {
      const by = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] }[event.key]
      if (!by) return
      event.preventDefault()
      go(row + by[0], column + by[1])
    })
    go(row, column)
    opened(dialog)
  }
  return { open }
}
