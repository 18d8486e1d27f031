// Parallel coordinates: the varied settings and three outcomes, a line for each trial. In a narrow
// window the axes lie one below another.
const MOST_AXES = 8;
const AXIS_WIDTH = 120;
const LONGEST_TICK = 14;

// One of the parallel axes: where its values lie between 0 and 1, and its ticks. A wide range of
// positive numbers is logarithmic; words have equal distances.
function parallelAxis(name, read) {
  const all = report.trials.map(read);
  const numbers = all.filter((value) => typeof value === "number");
  const hasWords = numbers.length < all.filter((value) => value !== null).length;
  return hasWords ? wordAxis(name, read, all) : numberAxis(name, read, numbers);
}

function wordAxis(name, read, all) {
  const words = [...new Set(all.map(String))].sort();
  const place = (value) =>
    words.length > 1 ? words.indexOf(String(value)) / (words.length - 1) : 0.5;
  return { name, read, place, ticks: words.map((text) => [place(text), cutText(text)]) };
}

function numberAxis(name, read, numbers) {
  const [low, high] = [Math.min(...numbers), Math.max(...numbers)];
  const scale = low > 0 && high / low >= 20 ? Math.log : (value) => value;
  const place = (value) => {
    if (value === null) return null;
    return high > low ? (scale(value) - scale(low)) / (scale(high) - scale(low)) : 0.5;
  };
  const distinct = [...new Set(numbers)];
  const labelled = distinct.length <= 6 ? distinct : [low, high];
  return { name, read, place, ticks: labelled.map((value) => [place(value), shortText(value)]) };
}

function cutText(text) {
  return text.length > LONGEST_TICK ? `${text.slice(0, LONGEST_TICK - 1)}\u2026` : text;
}

function parallelAxes() {
  const shown = outcomes()
    .slice(0, 3)
    .filter(({ read }) => report.trials.some((trial) => read(trial) !== null));
  return [
    ...report.varied
      .slice(0, MOST_AXES)
      .map((name) => parallelAxis(shortName(name), (trial) => trial.varied[name])),
    ...shown.map(({ title, read }) => parallelAxis(title.replace("env_runners/", ""), read)),
  ];
}

function areUpright(axes) {
  return $("parallel").clientWidth >= AXIS_WIDTH * axes.length;
}

function parallelHeight(axes) {
  return areUpright(axes) ? 380 : 60 + 74 * axes.length;
}

function parallelCoordinates() {
  const axes = parallelAxes();
  const isUpright = areUpright(axes);
  keepHeight("parallel", parallelHeight(axes));
  const lines = shownTrials().map((index) => parallelLine(axes, index));
  return [parallelTraces(lines, isUpright), parallelLayout(axes, isUpright)];
}

function parallelLine(axes, index) {
  const trial = report.trials[index];
  const values = axes.map((axis) => axis.read(trial));
  return {
    trials: [index],
    color: trialColor(index),
    dash: "solid",
    isSelected: selected === index,
    along: axes.map((_, i) => i),
    place: axes.map((axis, i) => axis.place(values[i])),
    name: trial.name,
    text: axes.map((axis, i) => plainText(`${trial.name}: ${axis.name} ${shortText(values[i])}`)),
  };
}

function parallelTraces(lines, isUpright) {
  const turned = lines.map((line) => ({
    ...line,
    x: isUpright ? line.along : line.place,
    y: isUpright ? line.place : line.along,
  }));
  if (turned.length > MOST_TRACES) return lineTraces(turned);
  return turned.map((line) => ({
    ...lineTrace(line),
    mode: "lines+markers",
    connectgaps: true,
    text: line.text,
    hoverinfo: undefined,
    hovertemplate: "%{text}<extra></extra>",
  }));
}

function parallelLayout(axes, isUpright) {
  const room = isUpright ? 0.06 : 0.12; // beside the outermost values, for their texts
  const ends = isUpright ? (i) => [i, i, 0, 1] : (i) => [0, 1, i, i];
  const shapes = axes.map((_, i) => {
    const [x0, x1, y0, y1] = ends(i);
    const line = { color: themeColor("--line"), width: 2 };
    return { type: "line", x0, x1, y0, y1, layer: "below", line };
  });

  // Long names break at spaces and slashes.
  const names = axes.map((axis) =>
    plainText(axis.name)
      .replace(/ /g, "<br>")
      .replace(/(\w)\/(?=\w)/g, "$1<br>"),
  );
  const across = {
    tickvals: axes.map((_, i) => i),
    ticktext: names,
    range: isUpright ? [-0.3, axes.length - 0.4] : [axes.length - 0.4, -0.6],
    showgrid: false,
    zeroline: false,
    fixedrange: true,
  };
  const along = { visible: false, range: [-room, 1 + room], fixedrange: true };
  return layout({
    height: parallelHeight(axes),
    margin: { l: 20, r: 20, t: 10, b: isUpright ? 60 : 10 },
    shapes,
    annotations: parallelTicks(axes, isUpright),
    xaxis: isUpright ? across : along,
    yaxis: isUpright ? along : across,
  });
}

function parallelTicks(axes, isUpright) {
  const font = { size: 11, color: themeColor("--muted") };
  return axes.flatMap((axis, i) =>
    axis.ticks.map(([place, text]) => ({
      x: isUpright ? i : place,
      y: isUpright ? place : i,
      text: plainText(text),
      showarrow: false,
      xanchor: isUpright ? "left" : "center",
      xshift: isUpright ? 5 : 0,
      yshift: isUpright ? 0 : -12,
      font,
    })),
  );
}

function parallelTable() {
  const axes = parallelAxes();
  const rows = shownTrials().map((index) => {
    const trial = report.trials[index];
    return [trial.name, ...axes.map((axis) => axis.read(trial))];
  });
  return { columns: ["trial", ...axes.map((axis) => axis.name)], rows };
}
