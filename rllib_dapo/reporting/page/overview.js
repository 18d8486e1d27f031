// How the run went: figures of the best trial, what failed, and what a reader should know.
function tile(name, value) {
  return element(
    "div",
    {},
    element("dt", {}, ...breakable(name)),
    element("dd", {}, ...breakable(value)),
  );
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

function fillOverview() {
  const { run, trials } = report;
  $("name").textContent = run.name;
  const about = Object.entries(run.about).map(([name, value]) => `${name} ${value}`);
  const aboutText = joined(...about, run.ended && `last result ${run.ended.replace("_", " ")}`);
  $("about").replaceChildren(...breakable(aboutText));

  $("tiles").replaceChildren(statusTile());
  const best = trials[run.from_best[0]];
  if (best && best.metric.last !== null) $("tiles").append(...bestTrialTiles(best));

  const failed = trials.filter((trial) => trial.error);
  $("failures").replaceChildren(
    ...failed.map((trial) =>
      element("span", { class: "failed" }, `${trial.name} failed: ${trial.error}`, element("br")),
    ),
  );

  const isComparison = report.runs.length > 1;
  $("runs").replaceChildren(...(isComparison ? report.runs.map(runLine) : []));
  // A comparison over seeds has its own word on idle settings, above the map.
  const isSaid = (kind) => kind === "idle" && comparisonLines().length > 0;
  const notes = report.notes.filter(({ kind }) => !isSaid(kind));
  $("notes").replaceChildren(...notes.map(({ text }) => element("li", {}, text)));
}

// Which letter stands for which run.
function runLine({ label, name, folder, trials }) {
  const many = `${trials.length} ${trials.length === 1 ? "trial" : "trials"}`;
  const where = element("span", { class: "muted" }, ` ${many}, ${folder}`);
  return element("li", {}, element("strong", {}, label), ` ${name}`, where);
}
