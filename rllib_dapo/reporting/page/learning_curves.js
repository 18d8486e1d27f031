// Learning curves: a panel for each quantity, and a large one for any figure of the results.
const ANY = "plot-any";

// The styles of a panel's lines: other dashes for a second curve, squares for evaluations.
function panelStyles(panel) {
  const styles = panel.curves.map(({ label, figure }, place) => ({
    label,
    dash: DASHES[place % DASHES.length],
    read: (trial) => trial.figures[figure],
  }));
  const measured = report.trials.find((trial) => trial.avg);
  if (panel.has_evaluation && measured) {
    const label = `evaluation, ${measured.avg.name}`;
    styles.push({ label, dash: "dash", mark: "square", read: (trial) => trial.avg });
  }
  return styles;
}

function curvesLayout(traces, more) {
  const isLog = $("log").checked;
  const nothing = {
    text: $("axis").value === "iteration" ? "not measured" : "not measured over this axis",
    showarrow: false,
    xref: "paper",
    yref: "paper",
    x: 0.5,
    y: 0.5,
  };
  return layout({
    hovermode: false, // the page has its own list
    xaxis: { title: { text: axisTitle() }, rangemode: "tozero" },
    yaxis: isLog ? { type: "log" } : more.yaxis,
    height: more.height || 250,
    annotations: traces.length ? [] : [nothing],
    // Another axis or scale begins without the zoom of before.
    uirevision: `${$("axis").value} ${isLog} ${more.revision || ""}`,
  });
}

// The function that makes the plot of some lines, and keeps what the list and the files show.
function linesPlot(id, styles, more) {
  const lines = plotLines(styles);
  hoverLines.set(id, lines);
  const traces = lineTraces(lines);
  return [traces, curvesLayout(traces, more)];
}

// What is shown as a table: a row for each point of each line.
function linesTable(id) {
  if (!drawn.has(id) || stale.has(id)) draw(id);
  const lines = hoverLines.get(id);
  const columns = ["trial", "curve", axisTitle(), "value", "lowest", "highest", "seeds"];
  const rows = lines.flatMap((line) =>
    line.x.map((x, i) => [
      line.name,
      line.label,
      x,
      line.y[i],
      ...(line.low ? [line.low[i], line.high[i], line.seeds[i]] : [null, null, 1]),
    ]),
  );
  return { columns, rows };
}

// What a panel's line styles mean, drawn as they are.
function styleLegend(styles) {
  const named = styles.filter(({ label }) => label);
  return element(
    "span",
    { class: "styles" },
    ...named.map(({ label, dash, mark }) =>
      element("span", {}, lineSample({ dash, mark }), ` ${label}`),
    ),
  );
}

// A panel's heading, what its axis and dashes mean, and the place of its plot.
function panelCard(panel, number) {
  const id = `panel-${number}`;
  const inPaper = panel.figure && `the paper's ${panel.figure}`;
  const note = [panel.unit, inPaper].filter(Boolean).join("; ");
  const described = `${panel.title}: ${note}`;
  return element(
    "figure",
    { class: "card" },
    element(
      "div",
      { class: "head" },
      element("h3", {}, panel.title),
      downloadButtons(id, panel.title),
    ),
    element("figcaption", { class: "muted" }, note, " ", styleLegend(panelStyles(panel))),
    element("div", { class: "plot panel", id, role: "img", "aria-label": described }),
  );
}

function redrawCurves() {
  return redraw((id) => id.startsWith("panel-") || id === ANY || id === "parallel");
}

// The kinds of figures, in the order of the list of choices.
const FIGURE_KINDS = [
  ["sampling and rewards", (name) => name.startsWith("env_runners/")],
  ["training", (name) => name.startsWith("learners/")],
  ["evaluation", (name) => name.startsWith("evaluation/")],
  ["seconds of an iteration", (name) => name.startsWith("seconds/")],
  ["further", () => true],
];

function fillFigures() {
  const wanted = $("figure-filter").value.trim().toLowerCase();
  const matching = report.figures.filter(({ name, meaning }) =>
    `${name} ${meaning}`.toLowerCase().includes(wanted),
  );
  const before = $("figure").value;
  const groups = FIGURE_KINDS.map(([label]) => element("optgroup", { label }));
  for (const { name } of matching) {
    const kind = FIGURE_KINDS.findIndex(([, isMeant]) => isMeant(name));
    groups[kind].append(element("option", { value: name }, name));
  }
  $("figure").replaceChildren(...groups.filter((group) => group.children.length));
  if (matching.some(({ name }) => name === before)) $("figure").value = before;
  $("figure-count").textContent = wanted
    ? `${matching.length} of ${report.figures.length} figures`
    : `${report.figures.length} figures`;
}

function anyPlot() {
  const name = $("figure").value;
  const style = { label: "", dash: "solid", read: (trial) => trial.figures[name] };
  return linesPlot(ANY, [style], { yaxis: {}, height: 380, revision: name });
}

function showFigure() {
  const name = $("figure").value;
  const found = report.figures.find((figure) => figure.name === name);
  $("figure-name").textContent = name;
  $("figure-meaning").textContent = found ? joined(found.meaning, found.unit) : "";
  return redraw((id) => id === ANY);
}

// Curves that are thinned, and what bands and smoothing are.
function curvesNote() {
  const parts = [];
  const { thinned } = report;
  if (thinned) {
    const inPanels = thinned.panels < thinned.longest ? thinned.panels : "all";
    parts.push(
      `Curves are thinned: of up to ${thinned.longest} points, ${inPanels} are kept in the panels ` +
        `below and ${thinned.others} in any other figure; each stretch keeps its lowest and its ` +
        "highest point. rllib-dapo report --json has all of them.",
    );
  }
  if (areSeedsTogether() && hasSeeds()) {
    parts.push(
      "Lines are means over seeds, bands reach from the lowest to the highest seed. " +
        `A chart with more than ${MOST_BANDS} of them shows none.`,
    );
  }
  const weight = Number($("smoothing").value);
  if (weight)
    parts.push(`Smoothed: each point is a moving average that keeps ${weight} of the one before.`);
  if ($("log").checked) parts.push("A logarithmic scale shows nothing at 0 and below.");
  $("curves-note").textContent = parts.join(" ");
}

function setUpCurves() {
  const again = () => {
    $("smoothing-value").textContent = Number($("smoothing").value) ? $("smoothing").value : "off";
    curvesNote();
    redrawCurves();
  };
  for (const id of ["axis", "log", "seeds"]) $(id).addEventListener("change", again);
  $("smoothing").addEventListener("input", onceAFrame(again));

  $("figure-filter").addEventListener("input", () => {
    fillFigures();
    if ($("figure").value) showFigure();
  });
  $("figure").addEventListener("change", showFigure);
  fillFigures();
  if (report.figures.some(({ name }) => name === report.run.metric)) {
    $("figure").value = report.run.metric;
  }
  plots.set(ANY, anyPlot);
  shownTables.set(ANY, () => linesTable(ANY));
  followPointer(ANY);
}

// The cards of all panels, made anew if a run that goes on has others than before.
let titlesOfPanels = null;
function fillPanels() {
  $("further").hidden = !report.panels.some((panel) => panel.is_further);
  const titles = report.panels.map((panel) => panel.title).join();
  if (titles === titlesOfPanels) return;
  titlesOfPanels = titles;
  for (const id of ["panels", "further-panels"]) $(id).replaceChildren();

  report.panels.forEach((panel, number) => {
    const id = `panel-${number}`;
    $(panel.is_further ? "further-panels" : "panels").append(panelCard(panel, number));
    plots.set(id, () => {
      const yaxis = panel.is_share ? { range: [0, 1.03] } : { rangemode: "tozero" };
      return linesPlot(id, panelStyles(panel), { yaxis });
    });
    shownTables.set(id, () => linesTable(id));
    followPointer(id);
    near.delete(id);
    drawn.delete(id);
    watchPlot(id);
  });
}

function fillCurves() {
  fillPanels();
  fillFigures();
  showFigure();
  curvesNote();
}
