// Arithmetic of curves: running means, round numbers for axes, the point nearest to a step.

// Mean over `reach` points to each side, fewer at the ends: it lags behind nothing, and the newest values still move it.
// On a logarithmic axis the mean of the logarithms, so that the line runs through the middle of what is seen.
export function smoothed(points, reach, logarithmic) {
  const [to, from] = logarithmic ? [Math.log, Math.exp] : [(value) => value, (value) => value]
  const sums = [0]
  for (const [, value] of points) sums.push(sums.at(-1) + to(value))
  return points.map(([step], i) => {
    const first = i - Math.min(reach, i)
    const last = Math.min(points.length - 1, i + Math.min(reach, i)) // as many after as before: the steep start stays steep
    return [step, from((sums[last + 1] - sums[first]) / (last + 1 - first))]
  })
}

export function ticks(low, high, about) {
  const rough = (high - low) / about
  const unit = 10 ** Math.floor(Math.log10(rough))
  const stride = [1, 2, 5, 10].map((lead) => lead * unit).find((one) => one >= rough)
  const found = []
  for (let i = Math.ceil(low / stride); i * stride <= high * (1 + 1e-9); i += 1) found.push(Number((i * stride).toPrecision(12)))
  return found
}

export function logTicks(low, high) {
  const found = []
  const leads = high / low > 1e3 ? [1] : [1, 2, 5]
  for (let power = Math.floor(Math.log10(low)); power <= Math.log10(high); power += 1) {
    for (const lead of leads) {
      const value = Number(`${lead}e${power}`)
      if (value >= low && value <= high) found.push(value)
    }
  }
  return found.length >= 2 ? found : ticks(low, high, 4)
}

// Index of the point whose step is nearest; points are in order.
export function nearest(points, step) {
  let low = 0
  let high = points.length - 1
  while (low < high) {
    const middle = (low + high) >> 1
    if (points[middle][0] < step) low = middle + 1
    else high = middle
  }
  return low > 0 && step - points[low - 1][0] < points[low][0] - step ? low - 1 : low
}
