// Prompts that a person types, drawn from a checkpoint: asked for, watched, shown.
import { get, post, Refusal } from '../api.js'
import { choices, el, keyed, labelled, part, text } from '../dom.js'
import { clock, count } from '../format.js'
import { show, thumbnail } from '../pictures.js'
import { viewer } from './viewer.js'

const SIDE = 144
const CHECK_MS = 5000 // the service looks into the run's folder for its checkpoints
const WORKING = ['queued', 'drawing']

export function drawsView(id, look) {
  let asked = 0
  let checkedIn
  let checkedAt = 0
  const prompts = el('textarea', { rows: 3, placeholder: 'a red apple on a blue background', 'data-testid': 'prompts', required: true, maxlength: 20_000 })
  const step = el('select', { 'data-testid': 'draw-step' })
  const seed = el('input', { type: 'number', min: 0, value: 0, step: 1, inputmode: 'numeric' })
  const guidance = el('input', { type: 'number', min: 0, max: 50, step: 'any', placeholder: 'the run’s own', inputmode: 'decimal' })
  const button = el('button', { class: 'primary', type: 'submit', 'data-testid': 'draw' }, 'Draw')
  const refused = el('p', { class: 'refused', role: 'alert', hidden: true })
  const waits = el('p', { class: 'quiet' }, 'There is no checkpoint to draw from yet; the first one comes as the recipe says, under checkpoints.')
  const form = el(
    'form',
    { class: 'draw card', hidden: true },
    labelled('Prompts, one a line', prompts),
    el('div', { class: 'row' }, labelled('From step', step), labelled('Seed', seed), labelled('Guidance', guidance), button),
    refused,
  )
  const list = el('ol', { class: 'draws' })
  const element = el('section', { 'aria-label': 'Draw' }, el('h2', {}, 'Draw your own'), waits, form, list)

  form.addEventListener('submit', async (event) => {
    event.preventDefault()
    const lines = prompts.value.split('\n').map((line) => line.trim()).filter(Boolean)
    if (lines.length === 0) return prompts.focus()
    button.disabled = true
    refused.hidden = true
    try {
      const body = { prompts: lines, seed: Number(seed.value) || 0 }
      if (step.value) body.step = Number(step.value)
      if (guidance.value !== '') body.guidance = Number(guidance.value)
      await post(`/runs/${id}/samples`, { body })
      asked += 1
      look()
    } catch (error) {
      text(refused, error instanceof Refusal ? error.message : 'No answer came; whether it is drawn shows below when the service is back.')
      refused.hidden = false
    }
    button.disabled = false
  })

  let draws = []
  let known = -1
  async function refresh(run) {
    if (run.state !== checkedIn || Date.now() - checkedAt > CHECK_MS) {
      checkedIn = run.state
      checkedAt = Date.now()
      const { items } = await get(`/runs/${id}/checkpoints`)
      form.hidden = items.length === 0
      waits.hidden = items.length > 0
      const kept = step.value
      choices(step, [['', 'newest'], ...items.toReversed().map((one) => [String(one.step), count(one.step)])], items.some((one) => String(one.step) === kept) ? kept : '')
    }
    if (known !== asked || draws.some((one) => WORKING.includes(one.state))) {
      const mine = asked
      draws = (await get(`/runs/${id}/draws?limit=20`)).items
      known = mine
      keyed(list, draws, (one) => one.id, makeDraw, updateDraw)
    }
  }

  function makeDraw() {
    return el('li', { 'data-testid': 'draw-row' }, el('p', {}, el('span', { class: 'state', 'data-part': 'state' }), ' ', el('span', { class: 'quiet', 'data-part': 'about' }), ' ', el('button', { class: 'link', 'data-part': 'stop' }, 'Cancel')), el('p', { class: 'refused', 'data-part': 'because', hidden: true }), el('ul', { class: 'grid small', 'data-part': 'pictures' }))
  }

  function updateDraw(item, draw) {
    const state = part(item, 'state')
    state.dataset.state = { drawing: 'running', done: 'succeeded' }[draw.state] ?? draw.state
    text(state, draw.state)
    text(part(item, 'about'), `step ${count(draw.step)} · ${draw.pictures.length} of ${draw.request.prompts.length} · asked ${clock(draw.created_at)}`)
    const stop = part(item, 'stop')
    stop.hidden = !WORKING.includes(draw.state)
    stop.onclick = () => post(`/runs/${id}/draws/${draw.id}:cancel`).then(look, look) // the next look shows what came of it
    part(item, 'because').hidden = !draw.error
    text(part(item, 'because'), draw.error?.because ?? '')
    const large = viewer((row, column) => (row === 0 && draw.pictures[column] ? { ...draw.pictures[column], step: draw.step } : undefined))
    keyed(part(item, 'pictures'), draw.pictures, (one) => one.url, (one) => {
      const image = el('img', { alt: `${one.prompt}, step ${draw.step}`, width: SIDE, height: Math.round((SIDE * one.height) / one.width), class: one.width < SIDE ? 'pixels' : null, 'data-testid': 'drawn' })
      show(image, one.width <= 256 ? one.url : thumbnail(one.url, SIDE))
      return el('li', {}, el('button', { class: 'cell', onclick: () => large.open(0, draw.pictures.findIndex((other) => other.url === one.url)) }, image), el('span', { class: 'caption' }, one.prompt))
    })
  }
  return { element, refresh }
}
