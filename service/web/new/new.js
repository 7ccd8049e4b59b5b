// A new run: a recipe to begin with, a form of everything in it, the plan, and then the run. Also a fork, which begins at a checkpoint.
import { ask, get, newKey, post, Refusal, Unreachable } from '../api.js'
import { choices, el, keyed, labelled, text } from '../dom.js'
import { count } from '../format.js'
import { objectFields } from './fields.js'
import { mergePatch, put } from './schema.js'
import { planCard } from './verdicts.js'

const PLAIN = ['name', 'description', 'seed', 'stages', 'samples', 'limits'] // what is asked first, and open
const WEIGHTS = [['all', 'go on: optimizer and place in the data too'], ['ema', 'a fresh run from the averaged weights'], ['model', 'a fresh run from the trained weights']]

export function newView(query) {
  const parent = query.get('fork')
  const source = parent ?? query.get('from')
  let base = null // as the service has it
  let draft = null
  let plan = null // { body, etag, key, sent }
  const name = el('select', { 'data-testid': 'recipe-choice', onchange: () => (location.hash = `#/new?recipe=${encodeURIComponent(name.value)}`) })
  const about = el('p', { class: 'quiet' })
  const project = el('select', { onchange: stale })
  const labels = el('textarea', { rows: 2, placeholder: 'team=vision', oninput: stale, spellcheck: 'false' })
  const step = el('select', { onchange: stale, 'data-testid': 'fork-step' })
  const weights = el('select', { onchange: stale }, WEIGHTS.map(([value, label]) => el('option', { value }, label)))
  const find = el('input', { type: 'search', placeholder: 'Find a field, e.g. learning rate', 'aria-label': 'Find a field', oninput: narrow })
  const form = el('form', { novalidate: true, class: 'recipe-form' })
  const changes = el('pre', { class: 'patch', 'data-testid': 'patch', role: 'region', tabindex: 0, 'aria-label': 'Changes as a JSON Merge Patch' })
  const wrong = el('div', { class: 'refused', role: 'alert', 'data-testid': 'wrong', hidden: true })
  const planned = el('div', { 'aria-live': 'polite' }, el('p', { class: 'quiet' }, 'Plan says what the run takes and costs, and what stands against it. Nothing starts and nothing is stored before you press the other button.'))
  const outdated = el('p', { class: 'outdated', hidden: true }, 'The form has changed since this plan: plan again.')
  const planIt = el('button', { type: 'button', 'data-testid': 'plan-it', onclick: makePlan }, 'Plan')
  const start = el('button', { type: 'button', class: 'primary', disabled: true, 'data-testid': 'start', title: 'Plan first', onclick: submit }, parent ? 'Fork' : 'Start run')
  const top = el('div', { class: 'card begin' })
  const aside = el('aside', { 'aria-label': 'Plan and start' }, el('div', { class: 'buttons' }, planIt, start), wrong, outdated, planned, el('details', {}, el('summary', {}, 'What this form changes'), changes))
  const element = el(
    'article',
    {},
    el('p', { class: 'back quiet' }, el('a', { href: '#/' }, 'Runs'), parent ? [' / ', el('a', { href: `#/runs/${parent}` }, `…${parent.slice(-6)}`), ' / fork'] : ' / new'),
    el('header', { class: 'head' }, el('h1', {}, parent ? 'Fork' : 'New run')),
    el('div', { class: 'new' }, el('div', {}, top, el('div', { class: 'tools' }, find), form), aside),
  )
  let begun = false
  let edits = 0

  async function refresh() {
    if (begun) return false
    const [schema, { items: recipes }, { items: projects }] = await Promise.all([get('/web/recipe.schema.json'), get('/recipes'), get('/projects?limit=1000')])
    const chosen = query.get('recipe') ?? 'demo'
    const run = source ? await get(`/runs/${source}`) : null
    const found = recipes.find((one) => one.name === chosen)
    base = run ? run.recipe : await get(`/recipes/${encodeURIComponent(chosen)}${found?.project ? `?project=${found.project}` : ''}`)
    begun = true
    draft = structuredClone(base)
    choices(project, projects.filter((one) => !one.archived).map((one) => [one.id, one.name]), run?.project ?? (projects.find((one) => one.id === 'default') ?? projects[0])?.id)
    if (run) {
      labels.value = Object.entries(run.labels).map(([key, value]) => `${key}=${value}`).join('\n')
      text(about, `Begins with the recipe of ${run.name} (${run.id}).`)
    } else {
      choices(name, recipes.map((one) => [one.name, one.project ? `${one.name} (of ${one.project})` : one.name]), chosen)
      text(about, found?.description ?? '')
    }
    if (parent) {
      const { items } = await get(`/runs/${parent}/checkpoints`)
      choices(step, items.toReversed().map((one) => [String(one.step), count(one.step)]), query.get('step') ?? undefined)
      planIt.disabled = items.length === 0
      if (items.length === 0) text(about, 'This run has no checkpoint yet to begin from; come back when it has one.')
    }
    top.replaceChildren(...[run ? null : labelled('Recipe', name), about, parent ? el('div', { class: 'row' }, labelled('From step', step), labelled('Weights', weights)) : null, el('div', { class: 'row' }, projects.length > 1 ? labelled('Project', project) : null, labelled('Labels, one a line', labels))].filter(Boolean))
    drawForm(schema)
    return false
  }

  function drawForm(root) {
    const order = [...PLAIN, ...Object.keys(root.properties).filter((one) => !PLAIN.includes(one))]
    const sorted = { ...root, properties: Object.fromEntries(order.map((one) => [one, root.properties[one]])) }
    // what the recipe leaves out has the schema's default: shown, and sent only where it is changed
    const fields = objectFields(sorted, filled(draft, root, root), '', { root, changed: stale })
    form.replaceChildren(fields)
    for (const group of fields.children) if (PLAIN.slice(0, 4).includes(group.dataset.at?.slice(1)) && group.tagName === 'DETAILS') group.open = true
    base = structuredClone(draft)
    show()
  }

  function stale() {
    plan = null
    edits += 1
    start.disabled = true
    planned.classList.add('old')
    outdated.hidden = planned.querySelector('.plan') === null
    show()
  }

  const overrides = () => mergePatch(base, draft) ?? null
  function show() {
    const patch = overrides()
    text(changes, patch ? JSON.stringify(patch, null, 2) : 'Nothing yet: the recipe as it is.')
  }

  function narrow() {
    const wanted = find.value.trim().toLowerCase().replaceAll(' ', '_')
    for (const one of form.querySelectorAll('[data-at]')) {
      const fits = one.dataset.name.includes(wanted) || one.dataset.name.includes(find.value.trim().toLowerCase())
      const inner = [...one.querySelectorAll('[data-at]')].some((other) => other.dataset.name.includes(wanted))
      one.hidden = Boolean(wanted) && !fits && !inner
      if (wanted && inner && one.tagName === 'DETAILS') one.open = true
    }
  }

  // The recipe goes by its name where it has one: the run then says which it was made of.
  function asked() {
    const pairs = labels.value.split('\n').map((line) => line.trim()).filter(Boolean).map((line) => [line.split('=')[0].trim(), line.split('=').slice(1).join('=').trim()])
    const patch = overrides()
    return { recipe: source ? base : (query.get('recipe') ?? 'demo'), ...(patch ? { overrides: patch } : {}), labels: Object.fromEntries(pairs), ...(project.value ? { project: project.value } : {}) }
  }

  async function makePlan() {
    const sent = asked()
    const asOf = edits
    planIt.disabled = true
    clear()
    try {
      const { body, etag } = await ask('/runs:plan', { method: 'POST', body: sent })
      if (asOf !== edits) return void (planIt.disabled = false) // the form has changed while it was planned: this is of another run
      plan = { body, etag, key: newKey(), sent }
      planned.classList.remove('old')
      outdated.hidden = true
      planned.replaceChildren(planCard(body, use))
      start.disabled = !body.can_start
      start.title = body.can_start ? '' : 'The plan says why not'
      if (body.can_start) start.focus()
    } catch (error) {
      complain(error)
    }
    planIt.disabled = false
  }

  async function submit() {
    const { sent, etag, key } = plan
    start.disabled = true
    clear()
    try {
      const made = parent
        ? await post(`/runs/${parent}:fork`, { key, body: { step: step.value ? Number(step.value) : null, weights: weights.value, labels: sent.labels, project: sent.project ?? null, ...(sent.overrides ? { overrides: sent.overrides } : {}) } })
        : await post('/runs', { key, body: sent, headers: { 'If-Match': etag } })
      location.hash = `#/runs/${made.body.id}`
    } catch (error) {
      if (error instanceof Refusal && error.status === 412) {
        await makePlan()
        return complain(new Error('The plan has changed since you saw it. This is the new one: look again, then start.'))
      }
      complain(error)
      start.disabled = false
    }
  }

  function use(pointer, value) {
    put(draft, pointer, value)
    const now = structuredClone(draft)
    const control = form.querySelector(`[data-at="${CSS.escape(pointer)}"] :is(input, select, textarea)`)
    if (control?.type === 'checkbox') control.checked = value === true
    else if (control) control.value = value
    draft = Object.assign(draft, now)
    stale()
    makePlan()
  }

  function clear() {
    wrong.hidden = true
    for (const one of form.querySelectorAll('.wrong')) one.hidden = true
    for (const one of form.querySelectorAll('[aria-invalid]')) one.removeAttribute('aria-invalid')
  }

  // What is wrong, at its field; the first one gets the focus.
  function complain(error) {
    if (!(error instanceof Error)) throw error
    const places = error instanceof Refusal ? error.errors : []
    let first = null
    const elsewhere = []
    for (const one of places) {
      const box = nearestBox(one.pointer.replace(/^\/(recipe|overrides)/, ''))
      const said = `${one.because}${one.nearest?.length ? `; try ${one.nearest.map((value) => JSON.stringify(value)).join(' or ')}` : ''}`
      if (!box) {
        elsewhere.push(`${one.pointer}: ${said}`)
        continue
      }
      const place = box.querySelector('.wrong')
      text(place, said)
      place.hidden = false
      for (let at = box; at; at = at.parentElement?.closest('details')) if (at.tagName === 'DETAILS') at.open = true
      const control = box.querySelector('input, select, textarea')
      control?.setAttribute('aria-invalid', 'true')
      first ??= control
    }
    const said = error instanceof Unreachable ? 'No answer came. Nothing is lost: try again, the run is made once.' : error.message
    keyed(wrong, [said, ...elsewhere.filter((one) => !said.includes(one))], (line) => line, (line) => el('p', {}, line))
    wrong.hidden = false
    first?.focus()
  }

  function nearestBox(pointer) {
    for (let at = pointer; at; at = at.slice(0, at.lastIndexOf('/'))) {
      const box = form.querySelector(`[data-at="${CSS.escape(at)}"]`)
      if (box) return box
    }
    return null
  }
  return { element, refresh, search: find, title: `${parent ? 'Fork' : 'New run'} · dayrun` }
}

// `document` with the schema's defaults where it says nothing, in place.
function filled(document, schema, root) {
  for (const [name, raw] of Object.entries(schema.properties ?? {})) {
    const inner = raw.$ref ? root.$defs[raw.$ref.split('/').at(-1)] : raw
    const fallback = raw.default ?? inner.default
    if (document[name] === undefined && fallback !== undefined) document[name] = structuredClone(fallback)
    if (inner.properties && document[name]) filled(document[name], inner, root)
  }
  return document
}
