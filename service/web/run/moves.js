// What can be asked of a run: pause, resume, cancel, fork. Each says first what it does.
import { post, Unreachable } from '../api.js'
import { confirmed } from '../dialog.js'
import { el, keyed, text } from '../dom.js'

const QUESTIONS = {
  pause: (run) => ({
    title: `Pause ${run.name}?`,
    text: 'It writes a checkpoint and lets its machines go. Nothing is lost; resume it any time, it goes on from there.',
    yes: 'Pause',
  }),
  resume: (run) => ({
    title: `Resume ${run.name}?`,
    text: 'It joins the queue, and goes on from its newest good checkpoint when there is room. It costs money again from then on.',
    yes: 'Resume',
  }),
  cancel: (run) => ({
    title: `Cancel ${run.name} for good?`,
    text: ['It stops and cannot be resumed. What it has made so far stays: checkpoints, samples, curves.', 'To stop it for now, pause it instead.'],
    yes: 'Cancel the run',
    no: 'Keep it',
    harmful: true,
  }),
}

export function movesOf(id, showRun, look) {
  const buttons = el('div', { class: 'moves', role: 'group', 'aria-label': 'Actions' })
  const refused = el('p', { class: 'refused', role: 'alert', 'data-testid': 'refused', hidden: true })

  async function ask(move, run, pressed) {
    if (!(await confirmed(QUESTIONS[move](run)))) return
    pressed.disabled = true
    try {
      showRun((await post(`/runs/${id}:${move}`)).body)
      refused.hidden = true
    } catch (error) {
      text(refused, error instanceof Unreachable ? `No answer came; whether the run was asked to ${move} shows when the service is back.` : `The run cannot ${move}: ${error.message}`)
      refused.hidden = false
    }
    pressed.disabled = false
    look()
  }

  let now
  function update(run) {
    now = run
    keyed(buttons, [...run.moves, 'fork'], (move) => move, (move) =>
      move === 'fork'
        ? el('a', { class: 'button', href: `#/new?fork=${id}`, 'data-testid': 'move-fork' }, 'Fork')
        : el('button', { 'data-testid': `move-${move}`, 'data-move': move, onclick: (event) => ask(move, now, event.currentTarget) }, move[0].toUpperCase() + move.slice(1)),
    )
  }
  return { buttons, refused, update }
}
