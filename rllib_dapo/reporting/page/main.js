// The page, put together.
const PART_COLORS = ["#0072B2", "#56B4E9", "#D55E00", "#E69F00", "#009E73", "#8A8A8A"];

function timePlot() {
  const trials = report.trials.filter((trial) => trial.iterations);
  const names = trials.map((trial) => plain(trial.name)).reverse();
  const traces = report.time_parts.map((part, place) => {
    const seconds = trials.map((trial) => trial.time[part]).reverse();
    const shares = trials.map((trial) => trial.time[part] / Object.values(trial.time).reduce((sum, s) => sum + s, 0)).reverse();
    return {
      type: "bar", orientation: "h", name: part, x: shares, y: names, marker: { color: PART_COLORS[place] },
      text: seconds.map((s, i) => `${duration(s)}, ${(100 * shares[i]).toFixed(1)} %`), textposition: "none",
      hovertemplate: "%{y}<br>%{fullData.name}: %{text}<extra></extra>",
    };
  });
  return [traces, layout({
    barmode: "stack", height: 130 + 26 * trials.length, showlegend: true, bargap: 0.25,
    legend: { orientation: "h", x: 0, y: -0.02, yanchor: "top", traceorder: "normal" },
    margin: { l: 50, r: 16, t: 26, b: 60 },
    xaxis: { tickformat: ".0%", range: [0, 1], side: "top", fixedrange: true }, yaxis: { type: "category", fixedrange: true },
  })];
}

function tile(name, value) {
  return element("div", {}, element("dt", {}, name), element("dd", {}, value));
}

function makeOverview() {
  const { run, trials } = report;
  $("name").textContent = run.name;
  $("about").textContent = [...Object.entries(run.about).map(([name, value]) => `${name} ${value}`),
    run.ended && `last result ${run.ended.replace("_", " ")}`].filter(Boolean).join(" \u00b7 ");
  const best = trials[byMetric[byMetric.length - 1]];
  const counts = {};
  for (const trial of trials) counts[trial.status] = (counts[trial.status] || 0) + 1;
  const tiles = [tile(trials.length > 1 ? "trials" : "status",
    trials.length > 1 ? Object.entries(counts).map(([status, count]) => `${count} ${status}`).join(", ") : trials[0].status)];
  if (best && best.metric.last !== null) {
    if (trials.length > 1) tiles.push(tile(`best trial, by its last ${run.metric}`, best.name), tile("with", tried(best) || "-"));
    tiles.push(tile(`last ${run.metric}`, figure(best.metric.last)), tile("its best value", figure(best.metric.best)));
    if (best.avg) {
      const path = best.avg.y.length > 1 ? `${figure(best.avg.y[0])} \u2192 ${figure(best.evaluation)}` : figure(best.evaluation);
      tiles.push(tile(`evaluation ${best.avg.name}`, path));
    }
    tiles.push(tile("iterations", figure(best.iterations)), tile("time", duration(best.seconds)));
  }
  $("tiles").append(...tiles);
  const failed = trials.filter((trial) => trial.error);
  $("failures").append(...failed.map((trial) => element("span", { class: "failed" }, `${trial.name} failed: ${trial.error}`, element("br"))));
}

function makeCheckpoints() {
  const known = report.trials.filter((trial) => trial.checkpoints.length);
  $("checkpoint-list").append(...known.map((trial) => element("p", {}, `${trial.name}: `,
    ...trial.checkpoints.flatMap(({ path, link, iteration }, place) => [place ? ", " : "",
      link ? element("a", { href: link, title: path }, path.split("/").pop()) : element("code", {}, path),
      iteration === null ? "" : ` (iteration ${iteration})`]))));
  if (!known.length) $("checkpoint-list").append(element("p", { class: "muted" }, "None was kept."));
  else {
    const last = known[0].checkpoints[known[0].checkpoints.length - 1];
    $("checkpoint-list").append(element("p", { class: "muted" }, "As a model: ", element("code", {}, `rllib-dapo export ${last.path} MODEL`)));
  }
}

function makeConfiguration() {
  for (const setting of report.settings) {
    const isChanged = setting.is_changed || setting.is_varied;
    const cells = [element("td", {}, element("code", {}, setting.name)), element("td", {}, setting.value)];
    if (isChanged) cells.push(element("td", { class: "muted" }, setting.is_varied ? "varied" : setting.default ? `default: ${setting.default}` : "no default"));
    $(isChanged ? "changed" : "unchanged").tBodies[0].append(element("tr", {}, ...cells));
  }
}

function retheme() {
  $("theme").textContent = isDark() ? "light" : "dark";
  colorSwatches();
}

async function start() {
  makeOverview();
  makeCurves();
  makeSweep();
  makeTable();
  makeResponses();
  makeCheckpoints();
  makeConfiguration();
  if (report.trials.some((trial) => trial.iterations)) plots.set("time-plot", timePlot);
  else $("time").hidden = true;
  for (const section of document.querySelectorAll("main > section:not([hidden])")) {
    $("sections").append(element("a", { href: `#${section.id}` }, section.querySelector("h2").textContent));
  }
  retheme();
  $("theme").addEventListener("click", async () => {
    document.documentElement.dataset.theme = isDark() ? "light" : "dark";
    retheme();
    await redraw(() => true);
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", async () => {
    retheme();
    await redraw(() => true);
  });
  document.documentElement.dataset.readableAfter = String(Math.round(performance.now()));
  await loadPlotly();
  drawWhatIsSeen();
}
start();
