// Learning curves: one panel for each quantity, one color for each trial, dashes for further curves of a panel.
const DASHES = ["solid", "dot"];
const hidden = new Set();
let selected = null;

function shownTrials() {
  return report.trials.map((_, i) => i).filter((i) => !hidden.has(i));
}

// Where iterations are on the axis that was asked for; between two that are known, on the line from one to the other.
function along(trial, iterations) {
  const axis = $("axis").value;
  const from = trial.x.iteration, to = trial.x[axis];
  if (axis === "iteration" || !to.length) return iterations;
  return iterations.map((iteration) => {
    if (iteration <= 0) return 0;
    let right = from.findIndex((known) => known >= iteration);
    if (right < 0) right = from.length - 1;
    if (from[right] === iteration || right === 0) return to[right];
    const left = right - 1, share = (iteration - from[left]) / (from[right] - from[left]);
    return to[left] + share * (to[right] - to[left]);
  });
}

function line(trial, index, curve, label, dash) {
  const isFaint = selected !== null && selected !== index;
  return {
    x: along(trial, curve.x), y: curve.y, type: "scatter", connectgaps: true,
    mode: curve.x.length === 1 ? "markers" : "lines", opacity: isFaint ? 0.18 : 1,
    line: { color: trialColor(index), width: selected === index ? 3 : 1.6, dash }, marker: { color: trialColor(index) },
    name: plain([report.trials.length > 1 ? trial.name : "", label].filter(Boolean).join(" \u00b7 ")),
    hovertemplate: `%{y:.4~g} at %{x}${report.varied.length ? `<br>${fixed(tried(trial))}` : ""}`,
  };
}

function panelPlot(number) {
  const panel = report.panels[number];
  return () => {
    const traces = [];
    for (const index of shownTrials()) {
      const trial = report.trials[index];
      trial.curves[number].forEach((curve, place) => {
        if (curve) traces.push(line(trial, index, curve, panel.labels[place], DASHES[place % DASHES.length]));
      });
      if (panel.has_evaluation && trial.avg) {
        const points = line(trial, index, trial.avg, trial.avg.name, "dash");
        traces.push({ ...points, mode: "lines+markers", marker: { ...points.marker, symbol: "square", size: 6 } });
      }
    }
    const nothing = { text: "not measured", showarrow: false, xref: "paper", yref: "paper", x: 0.5, y: 0.5 };
    return [traces, layout({
      xaxis: { title: { text: $("axis").selectedOptions[0].textContent }, rangemode: "tozero" },
      yaxis: panel.is_share ? { range: [0, 1.03] } : { rangemode: "tozero" },
      annotations: traces.length ? [] : [nothing],
    })];
  };
}

function panelCard(panel, number) {
  const styles = panel.labels.filter(Boolean).map((label, place) => `${place % 2 ? "dotted" : "solid"}: ${label}`);
  if (panel.has_evaluation) {
    const measured = report.trials.find((trial) => trial.avg);
    if (measured) styles.push(`squares: evaluation, ${measured.avg.name}`);
  }
  const note = [panel.unit, styles.join(", "), panel.figure && `the paper's ${panel.figure}`].filter(Boolean).join("; ");
  return element("figure", { class: "card" }, element("h3", {}, panel.title),
    element("figcaption", { class: "muted" }, note),
    element("div", { class: "plot panel", id: `panel-${number}`, role: "img", "aria-label": `${panel.title}: ${note}` }));
}

function showChosen() {
  const trial = selected === null ? null : report.trials[selected];
  $("chosen").textContent = trial ? `in front: ${trial.name} ${tried(trial)}` : "";
  for (const row of $("table").tBodies[0].rows) row.classList.toggle("selected", Number(row.dataset.trial) === selected);
}

function select(index) {
  selected = selected === index ? null : index;
  showChosen();
  redrawCurves();
}

function redrawCurves() {
  return redraw((id) => id.startsWith("panel-") || id === "parallel");
}

function chip(trial, index) {
  const swatch = element("span", { class: "swatch", "data-trial": index });
  const button = element("button", { type: "button", "aria-pressed": "true" }, swatch,
    element("span", {}, [trial.name, tried(trial)].filter(Boolean).join(" \u00b7 ")));
  button.addEventListener("click", () => {
    if (!hidden.delete(index)) hidden.add(index);
    button.setAttribute("aria-pressed", String(!hidden.has(index)));
    redrawCurves();
  });
  return button;
}

function colorSwatches() {
  for (const swatch of document.querySelectorAll(".swatch")) swatch.style.background = trialColor(Number(swatch.dataset.trial));
}

function makeCurves() {
  if (report.trials.length > 1) $("chips").append(...report.trials.map(chip));
  $("further").hidden = !report.panels.some((panel) => panel.is_further);
  report.panels.forEach((panel, number) => {
    $(panel.is_further ? "further-panels" : "panels").append(panelCard(panel, number));
    plots.set(`panel-${number}`, panelPlot(number));
  });
  $("axis").addEventListener("change", redrawCurves);
}
