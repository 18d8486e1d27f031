// Lines as Plotly's traces. Many lines share a trace for each color, which draws far faster.
const DASHES = ["solid", "dot"];
const MOST_TRACES = 40;
const MOST_BANDS = 12; // in a plot: with more, none could be told from another
const MANY_COLORS = 24;
const FAINT = 0.18;

// The lines of a plot. `styles` are the curves of its panel: a label, a dash, and the function that
// reads the curve from a trial.
function plotLines(styles) {
  return shownLines().flatMap((line) =>
    styles.flatMap((style) => {
      const curves = line.trials
        .map((index) => curvePoints(report.trials[index], style.read(report.trials[index])))
        .filter(Boolean);
      if (!curves.length) return [];
      const points = curves.length > 1 ? overSeeds(curves) : curves[0];
      return [{ ...line, ...points, label: style.label, dash: style.dash, mark: style.mark }];
    }),
  );
}

function isFaint(line) {
  return selected !== null && !line.isSelected;
}

function lineTrace(line) {
  const hasPoints = line.mark || line.x.length === 1;
  return {
    x: line.x,
    y: line.y,
    type: "scatter",
    mode: line.x.length === 1 ? "markers" : hasPoints ? "lines+markers" : "lines",
    opacity: isFaint(line) ? FAINT : 1,
    line: { color: line.color, width: line.isSelected ? 3 : 1.6, dash: line.dash },
    marker: { color: line.color, symbol: line.mark || "circle", size: 6 },
    name: plainText(joined(line.name, line.label)),
    hoverinfo: "none",
  };
}

// The area between the lowest and the highest seed.
function bandTrace(line) {
  return {
    x: [...line.x, ...[...line.x].reverse()],
    y: [...line.high, ...[...line.low].reverse()],
    type: "scatter",
    mode: "lines",
    fill: "toself",
    fillcolor: line.color,
    opacity: isFaint(line) ? 0.04 : 0.16,
    line: { width: 0 },
    hoverinfo: "skip",
    name: "band",
  };
}

// Lines of the same dash and of nearly the same color, one after another with gaps between them.
function sharedTraces(lines) {
  const colors = [...new Set(lines.map((line) => line.color))];
  const step = Math.max(1, colors.length / MANY_COLORS);
  const bucketOf = new Map(colors.map((color, place) => [color, Math.floor(place / step)]));

  const buckets = new Map();
  for (const line of lines) {
    const key = [bucketOf.get(line.color), line.dash, line.mark || "", isFaint(line)].join();
    if (!buckets.has(key)) buckets.set(key, { ...line, x: [], y: [], name: "" });
    const bucket = buckets.get(key);
    for (let i = 0; i < line.x.length; i += 1) {
      bucket.x.push(line.x[i]);
      bucket.y.push(line.y[i]);
    }
    bucket.x.push(null);
    bucket.y.push(null);
  }
  return [...buckets.values()].map((bucket) => ({ ...lineTrace(bucket), connectgaps: false }));
}

function lineTraces(lines) {
  const withBands = lines.filter((line) => line.low);
  const bands = withBands.length > MOST_BANDS ? [] : withBands.map(bandTrace);
  if (lines.length <= MOST_TRACES) return [...bands, ...lines.map(lineTrace)];
  const chosen = lines.filter((line) => line.isSelected);
  const others = lines.filter((line) => !line.isSelected);
  // From the worst to the best, so that good ones are not covered, and neighbors have like colors.
  const rank = new Map(worstToBest().map((index, place) => [index, place]));
  others.sort((a, b) => rank.get(a.trials[0]) - rank.get(b.trials[0]));
  return [...sharedTraces(others), ...chosen.map(lineTrace)];
}
