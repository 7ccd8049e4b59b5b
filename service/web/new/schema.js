// A JSON Schema as a form sees it: what kind of field stands where. Knows the parts of JSON Schema that a recipe's has, and no recipe.

export function resolved(schema, root) {
  if (!schema.$ref) return schema
  const { $ref, ...own } = schema
  return { ...root.$defs[$ref.split('/').at(-1)], ...own }
}

// { kind, schema, nullable, … } with kind one of: object, list (of objects), values (of plain values), choice, flag, number, integer, text, json.
export function kindOf(raw, root) {
  const schema = resolved(raw, root)
  if (schema.anyOf) {
    const others = schema.anyOf.filter((one) => one.type !== 'null')
    if (others.length !== 1) return { kind: 'json', schema, nullable: schema.anyOf.length > others.length }
    const { anyOf, ...own } = schema
    return { ...kindOf({ ...resolved(others[0], root), ...own }, root), nullable: anyOf.length > others.length }
  }
  if (schema.const !== undefined) return { kind: 'fixed', schema, nullable: false }
  if (schema.enum) return { kind: 'choice', schema, nullable: false }
  if (schema.type === 'object') return { kind: schema.properties ? 'object' : 'json', schema, nullable: false }
  if (schema.type === 'array') {
    const item = resolved(schema.items ?? {}, root)
    if (item.type === 'object') return { kind: 'list', schema, item, nullable: false }
    return { kind: item.type === 'string' && !item.enum ? 'lines' : 'json', schema, item, nullable: false }
  }
  const kind = { boolean: 'flag', number: 'number', integer: 'integer', string: 'text' }[schema.type] ?? 'json'
  return { kind, schema, nullable: false }
}

// An object with every default written out, as a new item of a list begins.
export function blank(schema, root) {
  const made = {}
  for (const [name, raw] of Object.entries(schema.properties ?? {})) {
    const { default: value } = resolved(raw, root)
    if (value !== undefined) made[name] = structuredClone(value)
    else if (schema.required?.includes(name)) made[name] = { text: '', list: [], lines: [], object: {} }[kindOf(raw, root).kind] ?? null
  }
  return made
}

export const labelOf = (name) => name.replaceAll('_', ' ')

// JSON Merge Patch (RFC 7396) that makes `to` of `from`; undefined when they are the same.
export function mergePatch(from, to) {
  if (!isObject(from) || !isObject(to)) return JSON.stringify(from) === JSON.stringify(to) ? undefined : to
  const patch = {}
  for (const name of new Set([...Object.keys(from), ...Object.keys(to)])) {
    if (!(name in to)) patch[name] = null
    else if (!(name in from)) patch[name] = to[name]
    else {
      const inner = mergePatch(from[name], to[name])
      if (inner !== undefined) patch[name] = inner
    }
  }
  return Object.keys(patch).length > 0 ? patch : undefined
}

const isObject = (value) => typeof value === 'object' && value !== null && !Array.isArray(value)

// The value at a JSON pointer, and the same with another value there.
export const stepsOf = (pointer) => pointer.split('/').slice(1).map((one) => one.replaceAll('~1', '/').replaceAll('~0', '~'))
export function put(document, pointer, value) {
  const steps = stepsOf(pointer)
  let at = document
  for (const step of steps.slice(0, -1)) at = at[step] ??= {}
  at[steps.at(-1)] = value
}
