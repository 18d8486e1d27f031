// What the settings did: a map over two of them, and all of them side by side.

// What trials can be compared by: pairs of a name and the function that reads it from a trial.
function outcomes() {
  const found = [
    [`last ${report.run.metric}`, (trial) => trial.metric.last],
    [`best ${report.run.metric}`, (trial) => trial.metric.best],
  ];
  const measured = trialWithFurtherEvaluation();
  if (measured) found.push([`last evaluation, ${measured.avg.name}`, (trial) => trial.evaluation]);
  for (const name of Object.keys(report.trials[0].summary)) {
    found.push([`last ${name}`, (trial) => trial.summary[name]]);
  }
  return found;
}

// The values that a setting had in any trial, sorted.
function distinctValues(name) {
  const all = [...new Set(report.trials.map((trial) => trial.varied[name]))];
  const areNumbers = all.every((value) => typeof value === "number");
  return areNumbers ? all.sort((a, b) => a - b) : all.map(String).sort();
}

function settingOf(trial, name) {
  const value = trial.varied[name];
  return typeof value === "number" ? value : String(value);
}

// One outcome over two settings: cells where the trials form a grid, points where they do not.
function settingsMap() {
  const [across, up] = [$("heat-x").value, $("heat-y").value];
  const [title, read] = outcomes()[Number($("heat-value").value)];
  const known = report.trials.filter((trial) => read(trial) !== null);
  const [columns, rows] = [distinctValues(across), distinctValues(up)];

  const isGrid =
    columns.length * rows.length <= 2 * report.trials.length &&
    columns.length <= 12 &&
    rows.length <= 12;
  const map = { across, up, title, read, known, columns, rows };
  return isGrid ? gridMap(map) : pointMap(map);
}

function mapAxes({ across, up }, more) {
  return {
    height: 380,
    margin: { l: 60, r: 10, t: 10, b: 50 },
    xaxis: { title: { text: plainText(across) }, showgrid: false, ...more },
    yaxis: { title: { text: plainText(up) }, showgrid: false, ...more },
  };
}

function colorBar() {
  return { thickness: 12, outlinewidth: 0, tickfont: { color: themeColor("--text") } };
}

function pointMap(map) {
  const { across, up, read, known } = map;
  const line = { width: 1, color: themeColor("--text") };
  const marker = {
    size: 14,
    color: known.map(read),
    colorscale: "Viridis",
    colorbar: colorBar(),
    line,
  };
  const points = {
    type: "scatter",
    mode: "markers",
    x: known.map((trial) => settingOf(trial, across)),
    y: known.map((trial) => settingOf(trial, up)),
    text: known.map((trial) => plainText(trial.name)),
    marker,
    hovertemplate: "%{text}<br>%{x}, %{y}: %{marker.color:.4~g}<extra></extra>",
  };
  return [[points], layout(mapAxes(map, {}))];
}

function gridMap(map) {
  const { across, up, title, read, known, columns, rows } = map;

  // A cell with several trials, of different seeds for example, shows their mean.
  const cells = rows.map((y) =>
    columns.map((x) => {
      const here = known
        .filter((trial) => settingOf(trial, across) === x && settingOf(trial, up) === y)
        .map(read);
      return here.length ? here.reduce((sum, value) => sum + value, 0) / here.length : null;
    }),
  );

  const settings = `${plainInTemplate(across)} %{x}<br>${plainInTemplate(up)} %{y}`;
  const heatmap = {
    type: "heatmap",
    z: cells,
    x: columns.map((x) => plainText(shortText(x))),
    y: rows.map((y) => plainText(shortText(y))),
    colorscale: "Viridis",
    colorbar: colorBar(),
    xgap: 2,
    ygap: 2,
    hoverongaps: false,
    text: cells.map((row) => row.map(shortText)),
    texttemplate: "%{text}",
    hovertemplate: `${settings}<br>${plainInTemplate(title)} %{z:.4~g}<extra></extra>`,
  };
  return [[heatmap], layout(mapAxes(map, { type: "category" }))];
}

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
  return { name, read, place, ticks: words.map((text) => [place(text), text]) };
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

// Parallel coordinates: the varied settings and three outcomes, a line for each trial.
function parallelCoordinates() {
  const shown = outcomes()
    .slice(0, 3)
    .filter(([, read]) => report.trials.some((trial) => read(trial) !== null));
  const axes = [
    ...report.varied.map((name) => parallelAxis(shortName(name), (trial) => trial.varied[name])),
    ...shown.map(([name, read]) => parallelAxis(name.replace("env_runners/", ""), read)),
  ];
  $("parallel").style.minWidth = `${110 * axes.length}px`;

  // Long names break at spaces and slashes.
  const names = axes.map((axis) =>
    plainText(axis.name)
      .replace(/ /g, "<br>")
      .replace(/(\w)\/(?=\w)/g, "$1<br>"),
  );
  return [
    shownTrials().map((index) => parallelTrace(axes, index)),
    layout({
      height: 380,
      margin: { l: 20, r: 20, t: 10, b: 60 },
      shapes: axes.map((_, x) => ({
        type: "line",
        x0: x,
        x1: x,
        y0: 0,
        y1: 1,
        layer: "below",
        line: { color: themeColor("--line"), width: 2 },
      })),
      annotations: parallelTicks(axes),
      xaxis: {
        tickvals: axes.map((_, i) => i),
        ticktext: names,
        range: [-0.3, axes.length - 0.4],
        showgrid: false,
        zeroline: false,
        fixedrange: true,
      },
      yaxis: { visible: false, range: [-0.06, 1.06], fixedrange: true },
    }),
  ];
}

function parallelTrace(axes, index) {
  const trial = report.trials[index];
  const isFaint = selected !== null && selected !== index;
  return {
    type: "scatter",
    mode: "lines+markers",
    x: axes.map((_, i) => i),
    y: axes.map((axis) => axis.place(axis.read(trial))),
    line: { color: trialColor(index), width: selected === index ? 4 : 2 },
    opacity: isFaint ? 0.18 : 0.9,
    connectgaps: true,
    name: plainText(trial.name),
    text: axes.map((axis) => plainText(`${axis.name}: ${shortText(axis.read(trial))}`)),
    hovertemplate: "%{text}",
  };
}

function parallelTicks(axes) {
  const font = { size: 11, color: themeColor("--muted") };
  return axes.flatMap((axis, x) =>
    axis.ticks.map(([y, text]) => ({
      x,
      y,
      text: plainText(text),
      showarrow: false,
      xanchor: "left",
      xshift: 5,
      font,
    })),
  );
}

function makeSweep() {
  $("sweep").hidden = !report.varied.length;
  if (!report.varied.length) return;

  const names = report.varied.map((name) => [name, name]);
  fillSelect(
    $("heat-value"),
    outcomes().map(([name], place) => [String(place), name]),
  );
  fillSelect($("heat-x"), names, report.varied[0]);
  fillSelect($("heat-y"), names, report.varied[1] || report.varied[0]);
  for (const id of ["heat-value", "heat-x", "heat-y"]) {
    $(id).addEventListener("change", () => redraw((drawnId) => drawnId === "heatmap"));
  }
  plots.set("heatmap", settingsMap);
  plots.set("parallel", parallelCoordinates);
}
