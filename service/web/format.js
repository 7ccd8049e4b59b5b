// Numbers, sizes and times as a person reads them. NOTHING stands for what is not known (yet).

export const NOTHING = '–'
const absent = (value) => value === null || value === undefined || !Number.isFinite(value)

// Formats are kept: to make one takes longer than a row of a list.
const whole = new Intl.NumberFormat('en', { maximumFractionDigits: 0 })
const money = new Intl.NumberFormat('en', { style: 'currency', currency: 'USD' })
const compact = new Intl.NumberFormat('en', { notation: 'compact', maximumSignificantDigits: 4 })
const significant = {}

export const count = (value) => (absent(value) ? NOTHING : whole.format(value))
export const dollars = (value) => (absent(value) ? NOTHING : money.format(value))

// `digits` significant ones; `steady` keeps trailing zeros, so that a value that changes each second does not dance.
export function number(value, digits = 3, steady = false) {
  if (absent(value)) return NOTHING
  if (value !== 0 && Math.abs(value) < 1e-4) return value.toExponential(digits - 1)
  if (Math.abs(value) >= 10 ** digits) return count(value)
  const least = steady ? digits : 1
  const format = (significant[`${least}-${digits}`] ??= new Intl.NumberFormat('en', { minimumSignificantDigits: least, maximumSignificantDigits: digits }))
  return format.format(value)
}

// For axes: 50000 is 50k.
export const short = (value) => compact.format(value).replace('K', 'k')

export function duration(seconds) {
  if (absent(seconds)) return NOTHING
  const total = Math.max(0, Math.round(seconds))
  const two = (value) => String(value).padStart(2, '0')
  if (total < 60) return `${total} s`
  if (total < 3600) return `${Math.floor(total / 60)} min ${two(total % 60)} s`
  if (total < 86400) return `${Math.floor(total / 3600)} h ${two(Math.floor((total % 3600) / 60))} min`
  return `${Math.floor(total / 86400)} d ${Math.floor((total % 86400) / 3600)} h`
}

export const since = (instant) => (instant === null ? null : (Date.now() - Date.parse(instant)) / 1000)
export const full = (instant) => new Date(instant).toLocaleString('en-GB', { dateStyle: 'medium', timeStyle: 'medium' })

// The time of today, the day and the time of any other day.
export function clock(instant) {
  const when = new Date(instant)
  const today = when.toDateString() === new Date().toDateString()
  const day = today ? {} : { day: 'numeric', month: 'short' }
  return when.toLocaleString('en-GB', { ...day, hour: '2-digit', minute: '2-digit', second: today ? '2-digit' : undefined })
}

export function bytes(size) {
  if (absent(size)) return NOTHING
  const unit = size < 1000 ? 0 : Math.min(4, Math.floor(Math.log10(size) / 3))
  return `${number(size / 1000 ** unit)} ${['B', 'kB', 'MB', 'GB', 'TB'][unit]}`
}
