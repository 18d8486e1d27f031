// One outcome over two settings: cells where the trials form a grid, points where they do not.
const MOST_CELLS = 12; // across, and up
const NO_SETTING = ""; // where one setting is enough: a map of one row

// The values that a setting had in any trial, sorted.
function distinctValues(name) {
  if (name === NO_SETTING) return [""];
  const all = [...new Set(report.trials.map((trial) => trial.varied[name]))];
  const areNumbers = all.every((value) => typeof value === "number");
  return areNumbers ? all.sort((a, b) => a - b) : all.map(String).sort();
}

function settingOf(trial, name) {
  if (name === NO_SETTING) return "";
  const value = trial.varied[name];
  return typeof value === "number" ? value : String(value);
}

function chosenMap() {
  const [across, up] = [$("heat-x").value, $("heat-y").value];
  const { name, title, read } = outcomes()[Number($("heat-value").value)];
  const chosenRun = $("sweep-run").value;
  const isOfRun = (index) =>
    chosenRun === "" || report.runs[Number(chosenRun)].trials.includes(index);
  const known = report.trials.filter((trial, index) => isOfRun(index) && read(trial) !== null);
  const [columns, rows] = [distinctValues(across), distinctValues(up)];
  const isGrid =
    columns.length * rows.length <= 2 * report.trials.length &&
    columns.length <= MOST_CELLS &&
    rows.length <= MOST_CELLS;
  return { across, up, name, title, read, known, columns, rows, isGrid };
}

function settingsMap() {
  const map = chosenMap();
  return map.isGrid ? gridMap(map) : pointMap(map);
}

function mapAxes({ across, up }, more) {
  return {
    height: 380,
    margin: { l: 60, r: 10, t: 10, b: 50 },
    xaxis: { title: { text: plainText(across) }, showgrid: false, ...more },
    yaxis: {
      title: { text: plainText(up) },
      showgrid: false,
      showticklabels: up !== NO_SETTING,
      ...more,
    },
    uirevision: `${across} ${up}`,
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

// The trials of each cell, row by row.
function cellTrials({ across, up, known, columns, rows }) {
  return rows.map((y) =>
    columns.map((x) =>
      known.filter((trial) => settingOf(trial, across) === x && settingOf(trial, up) === y),
    ),
  );
}

// A cell with several trials, of different seeds for example, shows their mean.
function cellMean(trials, read) {
  const sum = trials.reduce((total, trial) => total + read(trial), 0);
  return trials.length ? sum / trials.length : null;
}

// The point of a cell in the comparison over seeds: if there is a comparison, the cell's trials are
// all those of a point, and the map shows the outcome that was compared.
function comparedPoint(map, trials) {
  const comparison = report.sweep_comparison;
  if (!comparison || comparison.verdict === "unknown" || !trials.length) return null;
  if (map.name !== `last ${comparison.metric}`) return null;
  const places = trials.map((trial) => report.trials.indexOf(trial));
  const hasValue = (place) => map.read(report.trials[place]) !== null;
  const isOf = (point) =>
    places.every((place) => point.trials.includes(place)) &&
    point.trials.filter(hasValue).length === places.length;
  return comparison.points.find(isOf) || null;
}

const MARKS = { best: "\u2605", same: "\u2248" };

function markText(point) {
  return (point && MARKS[point.mark]) || "";
}

function cellHover(point) {
  if (!point) return "";
  const { points } = report.sweep_comparison;
  const settings = (place) =>
    Object.entries(points[place].settings)
      .map(([name, value]) => `${shortName(name)} ${shortText(value)}`)
      .join(", ");
  const equal = (point.equal_to || []).map(settings);
  const equalText = equal.length ? `<br>exactly equal to ${plainInTemplate(equal.join("; "))}` : "";
  return `<br>${plainInTemplate(point.text)}${equalText}`;
}

function gridMap(map) {
  const { across, up, title, read, columns, rows } = map;
  const trials = cellTrials(map);
  const cells = trials.map((row) => row.map((here) => cellMean(here, read)));
  const points = trials.map((row) => row.map((here) => comparedPoint(map, here)));

  const upwards = up === NO_SETTING ? "" : `<br>${plainInTemplate(up)} %{y}`;
  const settings = `${plainInTemplate(across)} %{x}${upwards}`;
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
    text: cells.map((row, i) =>
      row.map((value, j) => joinedByBreak(shortText(value), markText(points[i][j]))),
    ),
    customdata: points.map((row) => row.map(cellHover)),
    texttemplate: "%{text}",
    hovertemplate: `${settings}<br>${plainInTemplate(title)} %{z:.4~g}%{customdata}<extra></extra>`,
  };
  return [[heatmap], layout(mapAxes(map, { type: "category" }))];
}

function joinedByBreak(...parts) {
  return parts.filter(Boolean).join("<br>");
}

// What is shown, cell by cell or trial by trial.
function mapTable() {
  const map = chosenMap();
  const { across, up, title, read, known, columns, rows } = map;
  if (!map.isGrid) {
    const values = (trial) => [
      trial.name,
      settingOf(trial, across),
      settingOf(trial, up),
      read(trial),
    ];
    return { columns: ["trial", across, up, title], rows: known.map(values) };
  }
  const trials = cellTrials(map);
  const found = rows.flatMap((y, i) =>
    columns.map((x, j) => {
      const point = comparedPoint(map, trials[i][j]);
      return [x, y, cellMean(trials[i][j], read), trials[i][j].length, point ? point.mark : null];
    }),
  );
  return { columns: [across, up, title, "trials", "compared with the best"], rows: found };
}
