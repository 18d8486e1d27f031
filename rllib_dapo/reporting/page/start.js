// The overview, the split of the time, checkpoints and configuration; and the start of it all.
const PART_COLORS = ["#0072B2", "#56B4E9", "#D55E00", "#E69F00", "#009E73", "#8A8A8A"];

function hasTimes(trial) {
  return Object.keys(trial.time).length > 0;
}

function timePlot() {
  // Bars are drawn from the bottom up.
  const trials = report.trials.filter(hasTimes).reverse();
  const names = trials.map((trial) => plainText(trial.name));
  const totals = trials.map((trial) => Object.values(trial.time).reduce((sum, s) => sum + s, 0));

  const traces = report.time_parts.map((part, place) => {
    const seconds = trials.map((trial) => trial.time[part]);
    const shares = seconds.map((s, i) => s / totals[i]);
    return {
      type: "bar",
      orientation: "h",
      name: part,
      x: shares,
      y: names,
      marker: { color: PART_COLORS[place] },
      text: seconds.map((s, i) => `${clock(s)}, ${(100 * shares[i]).toFixed(1)} %`),
      textposition: "none",
      hovertemplate: "%{y}<br>%{fullData.name}: %{text}<extra></extra>",
    };
  });
  return [
    traces,
    layout({
      barmode: "stack",
      height: 130 + 26 * trials.length,
      showlegend: true,
      bargap: 0.25,
      legend: { orientation: "h", x: 0, y: -0.02, yanchor: "top", traceorder: "normal" },
      margin: { l: 50, r: 16, t: 26, b: 60 },
      xaxis: { tickformat: ".0%", range: [0, 1], side: "top", fixedrange: true },
      yaxis: { type: "category", fixedrange: true },
    }),
  ];
}

function tile(name, value) {
  return element("div", {}, element("dt", {}, name), element("dd", {}, value));
}

// How the trials ended: the status of one, or how many have which.
function statusTile() {
  const { trials } = report;
  if (trials.length === 1) return tile("status", trials[0].status);
  const counts = {};
  for (const trial of trials) counts[trial.status] = (counts[trial.status] || 0) + 1;
  const parts = Object.entries(counts).map(([status, count]) => `${count} ${status}`);
  return tile("trials", parts.join(", "));
}

// The figures of the best trial.
function bestTrialTiles(best) {
  const { run, trials } = report;
  const tiles = [];
  if (trials.length > 1) {
    tiles.push(tile(`best trial, by its last ${run.metric}`, best.name));
    tiles.push(tile("with", variedText(best) || "-"));
  }
  tiles.push(tile(`last ${run.metric}`, shortText(best.metric.last)));
  tiles.push(tile("its best value", shortText(best.metric.best)));
  if (best.avg) {
    const last = shortText(best.evaluation);
    const path = best.avg.y.length > 1 ? `${shortText(best.avg.y[0])} \u2192 ${last}` : last;
    tiles.push(tile(`evaluation ${best.avg.name}`, path));
  }
  tiles.push(tile("iterations", shortText(best.iterations)), tile("time", clock(best.seconds)));
  return tiles;
}

function makeOverview() {
  const { run, trials } = report;
  $("name").textContent = run.name;
  const about = Object.entries(run.about).map(([name, value]) => `${name} ${value}`);
  $("about").textContent = joined(
    ...about,
    run.ended && `last result ${run.ended.replace("_", " ")}`,
  );

  $("tiles").append(statusTile());
  const best = trials[fromWorstToBest[fromWorstToBest.length - 1]];
  if (best && best.metric.last !== null) $("tiles").append(...bestTrialTiles(best));

  const failed = trials.filter((trial) => trial.error);
  $("failures").append(
    ...failed.map((trial) =>
      element("span", { class: "failed" }, `${trial.name} failed: ${trial.error}`, element("br")),
    ),
  );
}

function checkpointList(trial) {
  const parts = trial.checkpoints.flatMap(({ path, link, iteration }, place) => [
    place ? ", " : "",
    link
      ? element("a", { href: link, title: path }, path.split("/").pop())
      : element("code", {}, path),
    iteration === null ? "" : ` (iteration ${iteration})`,
  ]);
  return element("p", {}, `${trial.name}: `, ...parts);
}

function makeCheckpoints() {
  const list = $("checkpoint-list");
  const known = report.trials.filter((trial) => trial.checkpoints.length);
  if (!known.length) {
    list.append(element("p", { class: "muted" }, "No checkpoint was kept."));
    return;
  }

  list.append(...known.map(checkpointList));
  const command = element("code", {}, report.run.export);
  list.append(element("p", { class: "muted" }, "To make a model of one: ", command));
}

function modelTable({ model, architecture, findings, trials }) {
  const rows = findings.map(({ check, verdict, detail }) =>
    element(
      "tr",
      {},
      element("td", {}, check),
      element("td", { class: verdict === "right" ? "muted" : "" }, verdict),
      element("td", {}, detail),
    ),
  );
  const where = report.trials.length > trials.length ? ` (${trials.join(", ")})` : "";
  return element(
    "div",
    { class: "scroll" },
    element("p", {}, element("code", {}, model), ` ${architecture}${where}`),
    element("table", {}, element("tbody", {}, ...rows)),
  );
}

function makeModel() {
  if (!report.models.length) $("model").hidden = true;
  $("model-list").append(...report.models.map(modelTable));
}

function makeData() {
  $("files").hidden = !report.data.length;
  for (const { use, lines, trials } of report.data) {
    const where = report.trials.length > trials.length ? ` (${trials.join(", ")})` : "";
    const items = lines.map((line) => element("li", {}, line));
    $("data-list").append(element("p", {}, `${use}${where}`), element("ul", {}, ...items));
  }
}

function makeConfiguration() {
  for (const setting of report.settings) {
    const isChanged = setting.is_changed || setting.is_varied;
    const cells = [
      element("td", {}, element("code", {}, setting.name)),
      element("td", {}, setting.value),
    ];
    if (isChanged) {
      const usual = setting.default ? `default: ${setting.default}` : "no default";
      cells.push(element("td", { class: "muted" }, setting.is_varied ? "varied" : usual));
    }
    $(isChanged ? "changed" : "unchanged").tBodies[0].append(element("tr", {}, ...cells));
  }
}

function makeNavigation() {
  for (const section of document.querySelectorAll("main > section:not([hidden])")) {
    const heading = section.querySelector("h2").textContent;
    $("sections").append(element("a", { href: `#${section.id}` }, heading));
  }
}

// The parts of the theme that the style sheet does not reach. The button names the other theme.
function applyTheme() {
  $("theme").textContent = isDark() ? "light" : "dark";
  colorSwatches();
}

async function changeTheme() {
  applyTheme();
  await redraw(() => true);
}

async function start() {
  makeOverview();
  makeCurves();
  makeSweep();
  makeTable();
  makeResponses();
  makeModel();
  makeData();
  if (report.trials.some(hasTimes)) plots.set("time-plot", timePlot);
  else $("time-plot").parentElement.hidden = true;
  $("time-missing").hidden = report.trials.every((trial) => hasTimes(trial) || !trial.iterations);
  $("time").hidden = !report.trials.some((trial) => trial.iterations);
  makeTimeline();
  makeCheckpoints();
  makeConfiguration();
  makeNavigation();

  applyTheme();
  $("theme").addEventListener("click", () => {
    document.documentElement.dataset.theme = isDark() ? "light" : "dark";
    return changeTheme();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", changeTheme);

  // Everything but the plots can be read now.
  document.documentElement.dataset.readableAfter = String(Math.round(performance.now()));
  await loadPlotly();
  drawPlotsInView();
}
start();
