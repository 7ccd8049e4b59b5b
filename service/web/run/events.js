// What happened, as sentences. An event of a type that is not known here is still told: its type, then its data.
import { el, keyed } from '../dom.js'
import { bytes, clock, count, full, number } from '../format.js'

const SHOWN = 200
const SAID = {
  run_created: () => 'Run created',
  state_changed: (d) => [`${d.from} → ${d.to}`, d.cause && ` (${words(d.cause)})`],
  attempt_started: (d, event) => [`Attempt ${event.attempt} started`, d.world_size && `: ${d.world_size} × ${d.device ?? 'process'}`, d.host && ` on ${d.host}`],
  resumed: (d) => `Resumed from the checkpoint of step ${count(d.checkpoint)}`,
  stage_started: (d) => [`Stage ${d.stage} started`, d.pixels && `: ${d.pixels} px`, d.batch_size && `, batch of ${count(d.batch_size)}`],
  checkpoint_saved: (d) => `Checkpoint saved: ${bytes(d.bytes)} in ${number(d.seconds)} s`,
  checkpoint_failed: (d) => `Checkpoint failed: ${d.because}`,
  checkpoint_rejected: (d) => `Checkpoint of step ${count(d.checkpoint)} rejected: ${d.because}`,
  samples_drawn: (d) => `Samples drawn: ${d.images} of ${d.set} in ${number(d.seconds)} s`,
  bad_samples: (d) => [`Bad samples skipped: ${d.count}`, (d.first ?? []).map((one) => `; ${one.file} #${one.sample}: ${one.because}`)],
  step_skipped: (d) => [`Step skipped: loss ${d.loss}, gradient norm ${d.gradient_norm}`, (d.where ?? []).map((one) => `; rank ${one.rank}, samples ${one.samples.join(', ')}`)],
  loss_spike: (d) => `Loss spike: ${number(d.loss)}, lately at most ${number(d.usual)}`,
  rolled_back: (d) => `Back to the checkpoint of step ${count(d.checkpoint)}, with other data: ${d.because}`,
  straggler: (d) => `Rank ${d.rank} on ${d.host} is slow: ${number(d.seconds)} s a step, median ${number(d.median)} s`,
  straggler_over: (d) => `Rank ${d.rank} on ${d.host} is as fast as the others again`,
  hang: (d) => [`No step for ${number(d.seconds)} s`, d.ranks?.length > 0 && `: rank ${d.ranks.join(', ')}`, d.silent?.length > 0 && ' is silent'],
  evaluated: (d) => ['Measured', ...Object.entries(d.metrics ?? {}).map(([name, value], i) => `${i ? ', ' : ': '}${name} ${number(value)}`)],
  evaluation_failed: (d) => `Evaluation failed: ${d.because}`,
  samples_postponed: (d) => `Samples of ${d.set} put off: ${d.because}`,
  profiled: (d) => `Profile of ${d.steps} steps: ${d.file}`,
  stop_requested: (d) => `Told to stop (${d.signal})`,
  stop_sent: (d) => `Sent ${d.signal}`,
  stop_forced: (d) => `Stopped by force after ${number(d.waited_seconds)} s`,
  run_forked: (d) => `Forked from step ${count(d.checkpoint)} of ${d.parent}`,
  draw_requested: (d) => `Pictures asked for from step ${count(d.checkpoint)}`,
  draw_done: (d) => `Pictures drawn from step ${count(d.checkpoint)}`,
  draw_failed: (d) => `Pictures from step ${count(d.checkpoint)} could not be drawn: ${d.because}`,
  export_done: (d) => `Exported: step ${count(d.checkpoint)}`,
  cap_near: (d) => d.because,
  checkpoint_proved: (d) => `Checkpoint of step ${count(d.checkpoint)} read back: it can be resumed from`,
  estimate_compared: () => 'Plan compared with what it took',
  run_changed: (d) => ['Changed', ...Object.keys(d).map((name, i) => `${i ? ', ' : ': '}${name}`)],
  ended: (d) => [`Trainer ended: ${d.outcome}`, d.cause && ` (${words(d.cause)}`, d.cause && d.rank !== undefined && `, rank ${d.rank}`, d.cause && ')'],
}
const BAD = ['checkpoint_failed', 'draw_failed', 'checkpoint_rejected', 'bad_samples', 'stop_forced', 'step_skipped', 'rolled_back', 'straggler', 'hang', 'evaluation_failed']

const words = (name) => String(name).replaceAll('_', ' ')

function sentence(event) {
  const known = SAID[event.type]
  if (known) return [known(event.data, event)].flat(2).filter(Boolean).join('')
  const data = Object.entries(event.data).map(([name, value]) => `${words(name)} ${typeof value === 'object' ? JSON.stringify(value) : value}`)
  return [words(event.type), ...data].join(' · ')
}

// Newest first.
export function showEvents(list, events) {
  keyed(list, events.slice(-SHOWN).reverse(), (event) => event.sequence, (event) =>
    el(
      'li',
      { 'data-testid': 'event-row', 'data-type': event.type, 'data-bad': BAD.includes(event.type) || Boolean(event.data.cause) },
      el('time', { datetime: event.time, title: full(event.time), class: 'quiet' }, clock(event.time)),
      el('span', {}, sentence(event), event.type === 'state_changed' && event.data.evidence?.length > 0 ? el('code', { class: 'because' }, event.data.evidence.join('\n')) : null),
      el('span', { class: 'quiet' }, event.step === null ? null : `step ${count(event.step)}`),
    ),
  )
}
