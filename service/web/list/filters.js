// What a list is narrowed by, and the bar that narrows it. The filters are in the page's address: a list can be sent to somebody.
import { get } from '../api.js'
import { choices, el } from '../dom.js'

const GROUPS = {
  active: ['queued', 'launching', 'running', 'pausing', 'cancelling'],
  paused: ['paused'],
  succeeded: ['succeeded'],
  failed: ['failed'],
  cancelled: ['cancelled'],
}
const TYPED_MS = 250

// What the service is asked for. Words with = are a label or a recipe's field, all others are looked for in name and id.
export function queryOf(filters) {
  const query = new URLSearchParams()
  for (const group of filters.getAll('state')) for (const state of GROUPS[group] ?? [group]) query.append('state', state)
  if (filters.get('project')) query.set('project', filters.get('project'))
  const words = (filters.get('q') ?? '').split(/\s+/).filter(Boolean)
  for (const word of words.filter((one) => one.includes('='))) query.append(word.startsWith('/') ? 'recipe' : 'label', word)
  const plain = words.filter((one) => !one.includes('=')).join(' ')
  if (plain) query.set('search', plain)
  return query
}

export function filterBar(filters, changed) {
  const search = el('input', {
    type: 'search',
    id: 'search',
    placeholder: 'Name, id, team=vision, /optimizer/kind=muon',
    'aria-label': 'Find runs by name, id, label or recipe field',
    value: filters.get('q') ?? '',
    autocomplete: 'off',
    spellcheck: 'false',
  })
  let timer
  const typed = (wait) => {
    clearTimeout(timer)
    timer = setTimeout(() => {
      if (search.value.trim() === (filters.get('q') ?? '')) return
      if (search.value.trim()) filters.set('q', search.value.trim())
      else filters.delete('q')
      changed()
    }, wait)
  }
  search.addEventListener('input', () => typed(TYPED_MS))
  search.addEventListener('keydown', (event) => event.key === 'Enter' && typed(0))

  const states = Object.keys(GROUPS).map((group) => {
    const pressed = () => filters.getAll('state').includes(group)
    return el(
      'button',
      {
        type: 'button',
        class: 'chip',
        'data-testid': `filter-${group}`,
        'aria-pressed': String(pressed()),
        onclick: (event) => {
          const others = filters.getAll('state').filter((one) => one !== group)
          const now = !pressed()
          filters.delete('state')
          for (const one of now ? [...others, group] : others) filters.append('state', one)
          event.currentTarget.setAttribute('aria-pressed', String(now))
          changed()
        },
      },
      group,
    )
  })
  const project = el('select', { 'aria-label': 'Project', hidden: true, onchange: () => (filters[project.value ? 'set' : 'delete']('project', project.value), changed()) })
  get('/projects?limit=1000').then(
    ({ items }) => {
      project.hidden = items.length < 2
      choices(project, [['', 'all projects'], ...items.map((one) => [one.id, one.name])], filters.get('project') ?? '')
    },
    () => {}, // the list says what is wrong
  )
  const element = el('div', { class: 'filters', role: 'search' }, search, el('div', { class: 'chips', role: 'group', 'aria-label': 'States' }, states), project)
  return { element, search }
}
