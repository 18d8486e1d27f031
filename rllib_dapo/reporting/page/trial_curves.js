// The points of a curve: on the chosen axis, smoothed, and over seeds.
const MOST_BAND_POINTS = 400;

// The positions of iterations on the chosen axis, or null where a trial has none there. Only some
// iterations of a long trial are known; the others lie on the straight line between neighbors.
function positions(trial, iterations) {
  const axis = $("axis").value;
  const from = trial.x.iteration;
  const to = trial.x[axis];
  if (axis === "iteration") return iterations;
  if (!to.length) return null;
  if (iterations === from) return to;

  let right = 0;
  return iterations.map((iteration) => {
    if (iteration <= 0) return 0; // the evaluation before training
    while (right < from.length - 1 && from[right] < iteration) right += 1;
    if (from[right] <= iteration || right === 0) return to[right];
    const share = (iteration - from[right - 1]) / (from[right] - from[right - 1]);
    return to[right - 1] + share * (to[right] - to[right - 1]);
  });
}

// A trial's curve of a figure, as lists of the same length without gaps; null if it has none.
function curvePoints(trial, curve, isSmoothed = true) {
  if (!curve) return null;
  const all = positions(trial, curve.x || trial.x.iteration);
  if (!all) return null;

  const [x, y] = [[], []];
  curve.y.forEach((value, place) => {
    if (value === null || all[place] === null) return;
    x.push(all[place]);
    y.push(value);
  });
  if (!x.length) return null;
  return { x, y: isSmoothed ? smoothed(y) : y };
}

// An exponential moving average that does not begin at zero, as TensorBoard has it.
function smoothed(values) {
  const weight = Number($("smoothing").value);
  if (!weight) return values;
  let [sum, past] = [0, 1];
  return values.map((value) => {
    sum = weight * sum + (1 - weight) * value;
    past *= weight;
    return sum / (1 - past);
  });
}

// The place of the point whose x is nearest to a given one; the x of points go up.
function nearestPlace(x, wanted) {
  let [low, high] = [0, x.length - 1];
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (x[middle] < wanted) low = middle;
    else high = middle;
  }
  return wanted - x[low] <= x[high] - wanted ? low : high;
}

// The value of a curve at x on the straight line between two points; null beyond its ends.
function valueAt({ x, y }, wanted) {
  const last = x.length - 1;
  if (wanted < x[0] || wanted > x[last]) return null;
  let right = nearestPlace(x, wanted);
  if (x[right] === wanted) return y[right];
  if (x[right] < wanted) right += 1;
  const share = (wanted - x[right - 1]) / (x[right] - x[right - 1]);
  return y[right - 1] + share * (y[right] - y[right - 1]);
}

function isSameX(curves) {
  const [first, ...others] = curves;
  const isEqual = ({ x }) => x.length === first.x.length && x.every((v, i) => v === first.x[i]);
  return others.every(isEqual);
}

// The mean over seeds, with the lowest and the highest of them, at each x that some seed reaches.
function overSeeds(curves) {
  let grid = curves[0].x;
  if (!isSameX(curves)) {
    grid = [...new Set(curves.flatMap(({ x }) => x))].sort((a, b) => a - b);
    const step = Math.ceil(grid.length / MOST_BAND_POINTS);
    const last = grid.length - 1;
    grid = grid.filter((_, place) => place % step === 0 || place === last);
  }
  const made = { x: [], y: [], low: [], high: [], seeds: [] };
  for (const x of grid) {
    const values = curves.map((curve) => valueAt(curve, x)).filter((value) => value !== null);
    if (!values.length) continue;
    made.x.push(x);
    made.y.push(values.reduce((sum, value) => sum + value, 0) / values.length);
    made.low.push(Math.min(...values));
    made.high.push(Math.max(...values));
    made.seeds.push(values.length);
  }
  return made;
}
