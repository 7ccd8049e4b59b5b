// What happened, as sentences. An event of a type that is not known here is still told: its type, then its data.
import { el, keyed } from './dom.js'
import { bytes, clock, count, full, number } from './format.js'

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
  stop_requested: (d) => `Told to stop (${d.signal})`,
  stop_sent: (d) => `Sent ${d.signal}`,
  stop_forced: (d) => `Stopped by force after ${number(d.waited_seconds)} s`,
  ended: (d) => [`Trainer ended: ${d.outcome}`, d.cause && ` (${words(d.cause)}`, d.cause && d.rank !== undefined && `, rank ${d.rank}`, d.cause && ')'],
}
const BAD = ['checkpoint_failed', 'checkpoint_rejected', 'bad_samples', 'stop_forced']

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
