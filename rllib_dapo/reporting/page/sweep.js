// What the settings did: a map over two of them, all of them side by side, and the share of each.
function percent(share) {
  return `${(100 * share).toFixed(0)} %`;
}

// What a comparison over seeds has found, and which settings had no effect.
function comparisonLines() {
  const comparison = report.sweep_comparison;
  if (!comparison) return [];
  const marks = comparison.points.map((point) => point.mark);
  const isMarked = comparison.verdict !== "unknown";
  const legend = [
    isMarked && marks.includes("best") && `${MARKS.best} the best`,
    isMarked && marks.includes("same") && `${MARKS.same} cannot be told from it`,
  ];
  return [
    comparison.text,
    ...(comparison.idle || []).map(({ text }) => text),
    joined(...legend) && `In the map: ${joined(...legend)}`,
  ].filter(Boolean);
}

function chosenImportance() {
  const { name } = outcomes()[Number($("heat-value").value)];
  const found = report.importance.find(({ outcome }) => outcome === name);
  return found ? found.settings : [];
}

// A setting's share as a bar, with a line where chance alone would bring it on average.
function importanceRow(row) {
  const bar = element("span", { class: "bar" });
  const fill = element("span", { class: "fill" });
  fill.style.width = `${100 * row.share}%`;
  const chance = element("span", { class: "chance" });
  chance.style.left = `${100 * row.by_chance}%`;
  bar.append(fill, chance);

  const kind = row.ranges ? "ranges of values" : "values";
  const shares = `${percent(row.share)}; by chance ${percent(row.by_chance)}`;
  const note = `${shares}; ${row.groups} ${kind}, ${row.trials} trials`;
  return element(
    "div",
    { class: "importance", "data-setting": row.setting },
    element("span", { class: "name" }, row.setting),
    bar,
    element("span", { class: "muted" }, note),
  );
}

function showImportance() {
  const rows = chosenImportance();
  const nothing =
    "Not to be told: it needs three trials that came out differently, with several for a value.";
  $("importance-list").replaceChildren(
    ...(rows.length ? rows.map(importanceRow) : [element("p", { class: "muted" }, nothing)]),
  );
}

function importanceTable() {
  const columns = ["setting", "share of variance", "share by chance", "groups", "trials"];
  const rows = chosenImportance().map((row) => [
    row.setting,
    row.share,
    row.by_chance,
    row.groups,
    row.trials,
  ]);
  return { columns, rows };
}

function setUpSweep() {
  for (const id of ["heat-value", "heat-x", "heat-y", "sweep-run"]) {
    $(id).addEventListener("change", () => {
      showImportance();
      redraw((drawnId) => drawnId === "heatmap");
    });
  }
  plots.set("heatmap", settingsMap);
  plots.set("parallel", parallelCoordinates);
  shownTables.set("heatmap", mapTable);
  shownTables.set("parallel", parallelTable);
  shownTables.set("importance-list", importanceTable);

  // Its axes turn when the window becomes narrow.
  let before = 0;
  new ResizeObserver(([{ target }]) => {
    if (before && Math.abs(target.clientWidth - before) > 20) redraw((id) => id === "parallel");
    before = target.clientWidth;
  }).observe($("parallel"));
}

function fillSweep() {
  $("sweep").hidden = !report.varied.length;
  if (!report.varied.length) return;

  const names = report.varied.map((name) => [name, name]);
  fillSelect(
    $("heat-value"),
    outcomes().map(({ title }, place) => [String(place), title]),
  );
  const others = report.varied.filter((name) => name !== SEED);
  fillSelect($("heat-x"), names, others[0] || SEED);
  fillSelect($("heat-y"), [...names, [NO_SETTING, "nothing"]], others[1] || NO_SETTING);
  $("sweep-run").parentElement.hidden = report.runs.length < 2;
  const runs = report.runs.map(({ label, name }, place) => [String(place), joined(label, name)]);
  fillSelect($("sweep-run"), [...runs, ["", "all runs"]], "0");
  $("comparison").replaceChildren(...comparisonLines().map((line) => element("p", {}, line)));

  keepHeight("parallel", parallelHeight(parallelAxes()));
  const left = report.varied.length - MOST_AXES;
  $("parallel-note").textContent =
    left > 0 ? `The first ${MOST_AXES} of ${report.varied.length} settings that differ.` : "";
  showImportance();
}
