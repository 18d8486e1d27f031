// Learning curves: a panel for each quantity, a color for each trial, and other dashes for the
// second curve of a panel.
const DASHES = ["solid", "dot"];
const hidden = new Set();
let selected = null;

function shownTrials() {
  return report.trials.map((_, i) => i).filter((i) => !hidden.has(i));
}

// The positions of iterations on the chosen axis. Only some iterations of a long trial are known
// there; the others lie on the straight line between their neighbors.
function positions(trial, iterations) {
  const axis = $("axis").value;
  const from = trial.x.iteration;
  const to = trial.x[axis];
  if (axis === "iteration" || !to.length) return iterations;

  return iterations.map((iteration) => {
    if (iteration <= 0) return 0; // the evaluation before training
    let right = from.findIndex((known) => known >= iteration);
    if (right < 0) right = from.length - 1;
    if (from[right] === iteration || right === 0) return to[right];

    const left = right - 1;
    const share = (iteration - from[left]) / (from[right] - from[left]);
    return to[left] + share * (to[right] - to[left]);
  });
}

function curveTrace(trial, index, curve, label, dash) {
  const isFaint = selected !== null && selected !== index;
  const name = joined(report.trials.length > 1 ? trial.name : "", label);
  const varied = report.varied.length ? `<br>${plainInTemplate(variedText(trial))}` : "";
  return {
    x: positions(trial, curve.x),
    y: curve.y,
    type: "scatter",
    connectgaps: true,
    mode: curve.x.length === 1 ? "markers" : "lines",
    opacity: isFaint ? 0.18 : 1,
    line: { color: trialColor(index), width: selected === index ? 3 : 1.6, dash },
    marker: { color: trialColor(index) },
    name: plainText(name),
    hovertemplate: `%{y:.4~g} at %{x}${varied}`,
  };
}

// The function that makes the plot of one panel.
function panelPlot(number) {
  const panel = report.panels[number];
  return () => {
    const traces = [];
    for (const index of shownTrials()) {
      const trial = report.trials[index];
      trial.curves[number].forEach((curve, place) => {
        const dash = DASHES[place % DASHES.length];
        if (curve) traces.push(curveTrace(trial, index, curve, panel.labels[place], dash));
      });

      if (panel.has_evaluation && trial.avg) {
        const points = curveTrace(trial, index, trial.avg, trial.avg.name, "dash");
        const marker = { ...points.marker, symbol: "square", size: 6 };
        traces.push({ ...points, mode: "lines+markers", marker });
      }
    }

    const nothing = {
      text: "not measured",
      showarrow: false,
      xref: "paper",
      yref: "paper",
      x: 0.5,
      y: 0.5,
    };
    return [
      traces,
      layout({
        xaxis: { title: { text: $("axis").selectedOptions[0].textContent }, rangemode: "tozero" },
        yaxis: panel.is_share ? { range: [0, 1.03] } : { rangemode: "tozero" },
        annotations: traces.length ? [] : [nothing],
      }),
    ];
  };
}

// A panel's heading, what its axis and dashes mean, and the place of its plot.
function panelCard(panel, number) {
  const styles = panel.labels
    .filter(Boolean)
    .map((label, place) => `${place % 2 ? "dotted" : "solid"}: ${label}`);
  const measured = report.trials.find((trial) => trial.avg);
  if (panel.has_evaluation && measured) styles.push(`squares: evaluation, ${measured.avg.name}`);

  const inPaper = panel.figure && `the paper's ${panel.figure}`;
  const note = [panel.unit, styles.join(", "), inPaper].filter(Boolean).join("; ");
  return element(
    "figure",
    { class: "card" },
    element("h3", {}, panel.title),
    element("figcaption", { class: "muted" }, note),
    element("div", {
      class: "plot panel",
      id: `panel-${number}`,
      role: "img",
      "aria-label": `${panel.title}: ${note}`,
    }),
  );
}

function showSelected() {
  const trial = selected === null ? null : report.trials[selected];
  $("chosen").textContent = trial ? `highlighted: ${trial.name} ${variedText(trial)}` : "";
  for (const row of $("table").tBodies[0].rows) {
    row.classList.toggle("selected", Number(row.dataset.trial) === selected);
  }
}

// Highlights a trial's curves, or no longer if they were highlighted.
function select(index) {
  selected = selected === index ? null : index;
  showSelected();
  redrawCurves();
}

function redrawCurves() {
  return redraw((id) => id.startsWith("panel-") || id === "parallel");
}

// A button that hides a trial and shows it again.
function trialButton(trial, index) {
  const swatch = element("span", { class: "swatch", "data-trial": index });
  const label = element("span", {}, joined(trial.name, variedText(trial)));
  const button = element("button", { type: "button", "aria-pressed": "true" }, swatch, label);
  button.addEventListener("click", () => {
    if (!hidden.delete(index)) hidden.add(index);
    button.setAttribute("aria-pressed", String(!hidden.has(index)));
    redrawCurves();
  });
  return button;
}

function colorSwatches() {
  for (const swatch of document.querySelectorAll(".swatch")) {
    swatch.style.background = trialColor(Number(swatch.dataset.trial));
  }
}

function makeCurves() {
  if (report.trials.length > 1) $("chips").append(...report.trials.map(trialButton));

  $("further").hidden = !report.panels.some((panel) => panel.is_further);
  report.panels.forEach((panel, number) => {
    $(panel.is_further ? "further-panels" : "panels").append(panelCard(panel, number));
    plots.set(`panel-${number}`, panelPlot(number));
  });
  $("axis").addEventListener("change", redrawCurves);
}
