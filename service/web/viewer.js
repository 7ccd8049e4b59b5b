// One picture, large. The arrow keys go to the neighbour in the table it was opened from: left and right the step, up and down the prompt.
import { el, text } from './dom.js'
import { count } from './format.js'

export function viewer() {
  const image = el('img', { alt: '' })
  const prompt = el('p')
  const facts = el('p', { class: 'quiet' })
  const close = el('button', { class: 'close', 'aria-label': 'Close', onclick: () => element.close() }, '×')
  const element = el('dialog', { class: 'viewer', 'data-testid': 'viewer', 'aria-label': 'Sample' }, close, image, prompt, facts)
  let cell = null

  function open(from, sample) {
    cell = from.closest('td')
    image.src = sample.url
    image.alt = sample.prompt
    image.classList.toggle('pixels', sample.width < 512)
    text(prompt, sample.prompt)
    text(facts, `step ${count(sample.step)} · seed ${sample.seed} · guidance ${sample.guidance}${sample.ema ? ' · averaged weights' : ''} · ${sample.width} × ${sample.height}`)
    if (!element.open) element.showModal()
  }

  element.addEventListener('keydown', (event) => {
    const next = {
      ArrowLeft: () => cell.previousElementSibling,
      ArrowRight: () => cell.nextElementSibling,
      ArrowUp: () => cell.parentElement.previousElementSibling?.children[cell.cellIndex],
      ArrowDown: () => cell.parentElement.nextElementSibling?.children[cell.cellIndex],
    }[event.key]
    if (!next) return
    event.preventDefault()
    next()?.querySelector('button')?.click()
  })
  element.addEventListener('click', (event) => event.target === element && element.close()) // beside the picture
  return { element, open }
}
