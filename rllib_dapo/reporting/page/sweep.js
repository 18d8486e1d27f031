// What the settings did: a map over two of them, and all of them side by side.
function values() {
  const found = [
    [`last ${report.run.metric}`, (trial) => trial.metric.last],
    [`best ${report.run.metric}`, (trial) => trial.metric.best],
  ];
  const measured = report.trials.find((trial) => trial.avg);
  if (measured && !report.run.metric.endsWith(`/${measured.avg.name}`)) found.push([`last evaluation, ${measured.avg.name}`, (trial) => trial.evaluation]);
  for (const name of Object.keys(report.trials[0].summary)) found.push([`last ${name}`, (trial) => trial.summary[name]]);
  return found;
}

function distinct(name) {
  const all = [...new Set(report.trials.map((trial) => trial.varied[name]))];
  return all.every((value) => typeof value === "number") ? all.sort((a, b) => a - b) : all.map(String).sort();
}
function settingOf(trial, name) {
  const value = trial.varied[name];
  return typeof value === "number" ? value : String(value);
}

function heatmap() {
  const [across, up] = [$("heat-x").value, $("heat-y").value];
  const [title, read] = values()[Number($("heat-value").value)];
  const known = report.trials.filter((trial) => read(trial) !== null);
  const [columns, rows] = [distinct(across), distinct(up)];
  const bar = { thickness: 12, outlinewidth: 0, tickfont: { color: color("--text") } };
  const axes = { height: 380, margin: { l: 60, r: 10, t: 10, b: 50 },
    xaxis: { title: { text: plain(across) }, showgrid: false }, yaxis: { title: { text: plain(up) }, showgrid: false } };
  const isGrid = columns.length * rows.length <= 2 * report.trials.length && columns.length <= 12 && rows.length <= 12;
  if (!isGrid) {
    const read2 = (name) => known.map((trial) => settingOf(trial, name));
    return [[{
      type: "scatter", mode: "markers", x: read2(across), y: read2(up), text: known.map((trial) => plain(trial.name)),
      marker: { size: 14, color: known.map(read), colorscale: "Viridis", colorbar: bar, line: { width: 1, color: color("--text") } },
      hovertemplate: "%{text}<br>%{x}, %{y}: %{marker.color:.4~g}<extra></extra>",
    }], layout(axes)];
  }
  // Of several trials in one cell (seeds, say) the mean.
  const cells = rows.map((y) => columns.map((x) => {
    const here = known.filter((t) => settingOf(t, across) === x && settingOf(t, up) === y).map(read);
    return here.length ? here.reduce((sum, value) => sum + value, 0) / here.length : null;
  }));
  const category = { type: "category", showgrid: false };
  return [[{
    type: "heatmap", z: cells, x: columns.map((x) => plain(figure(x))), y: rows.map((y) => plain(figure(y))),
    colorscale: "Viridis", colorbar: bar, xgap: 2, ygap: 2, hoverongaps: false,
    text: cells.map((row) => row.map((value) => figure(value))), texttemplate: "%{text}",
    hovertemplate: `${fixed(across)} %{x}<br>${fixed(up)} %{y}<br>${fixed(title)} %{z:.4~g}<extra></extra>`,
  }], layout({ ...axes, xaxis: { ...axes.xaxis, ...category }, yaxis: { ...axes.yaxis, ...category } })];
}

// One axis: where its values lie between 0 and 1, and which ticks tell so. Wide ranges of positive numbers are logarithmic.
function coordinate(name, read) {
  const all = report.trials.map(read);
  const numbers = all.filter((value) => typeof value === "number");
  if (numbers.length < all.filter((value) => value !== null).length) {
    const names = [...new Set(all.map(String))].sort();
    const place = (value) => names.length > 1 ? names.indexOf(String(value)) / (names.length - 1) : 0.5;
    return { name, read, place, ticks: names.map((text) => [place(text), text]) };
  }
  const [low, high] = [Math.min(...numbers), Math.max(...numbers)];
  const scale = low > 0 && high / low >= 20 ? Math.log : (value) => value;
  const place = (value) => value === null ? null : high > low ? (scale(value) - scale(low)) / (scale(high) - scale(low)) : 0.5;
  const inner = [...new Set(numbers)].length <= 6 ? [...new Set(numbers)] : [low, high];
  return { name, read, place, ticks: inner.map((value) => [place(value), figure(value)]) };
}

function parallel() {
  const results = values().slice(0, 3).filter(([, read]) => report.trials.some((trial) => read(trial) !== null));
  const axes = [
    ...report.varied.map((name) => coordinate(name.split("/").pop(), (trial) => trial.varied[name])),
    ...results.map(([name, read]) => coordinate(name.replace("env_runners/", ""), read)),
  ];
  const traces = shownTrials().map((index) => {
    const trial = report.trials[index], isFaint = selected !== null && selected !== index;
    return {
      type: "scatter", mode: "lines+markers", x: axes.map((_, i) => i), y: axes.map((axis) => axis.place(axis.read(trial))),
      line: { color: trialColor(index), width: selected === index ? 4 : 2 }, opacity: isFaint ? 0.18 : 0.9, connectgaps: true,
      name: plain(trial.name), text: axes.map((axis) => plain(`${axis.name}: ${figure(axis.read(trial))}`)),
      hovertemplate: "%{text}",
    };
  });
  const ticks = axes.flatMap((axis, x) => axis.ticks.map(([y, text]) => (
    { x, y, text: plain(text), showarrow: false, xanchor: "left", xshift: 5, font: { size: 11, color: color("--muted") } })));
  const bars = axes.map((_, x) => ({ type: "line", x0: x, x1: x, y0: 0, y1: 1, layer: "below", line: { color: color("--line"), width: 2 } }));
  $("parallel").style.minWidth = `${110 * axes.length}px`;
  return [traces, layout({
    height: 380, margin: { l: 20, r: 20, t: 10, b: 60 }, shapes: bars, annotations: ticks,
    xaxis: { tickvals: axes.map((_, i) => i), ticktext: axes.map((axis) => plain(axis.name).replace(/ /g, "<br>").replace(/(\w)\/(?=\w)/g, "$1<br>")),
      range: [-0.3, axes.length - 0.4], showgrid: false, zeroline: false, fixedrange: true },
    yaxis: { visible: false, range: [-0.06, 1.06], fixedrange: true },
  })];
}

function makeSweep() {
  $("sweep").hidden = !report.varied.length;
  if (!report.varied.length) return;
  const names = report.varied.map((name) => [name, name]);
  options($("heat-value"), values().map(([name], place) => [String(place), name]));
  options($("heat-x"), names, report.varied[0]);
  options($("heat-y"), names, report.varied[1] || report.varied[0]);
  for (const id of ["heat-value", "heat-x", "heat-y"]) $(id).addEventListener("change", () => redraw((drawnId) => drawnId === "heatmap"));
  plots.set("heatmap", heatmap);
  plots.set("parallel", parallel);
}
