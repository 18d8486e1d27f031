// Which trials are shown, which one is highlighted, and whether seeds make one line.
const hidden = new Set();
let selected = null;
const SEED = "seed";

function shownTrials() {
  return report.trials.map((_, i) => i).filter((i) => !hidden.has(i));
}

function areSeedsTogether() {
  return $("seeds").checked;
}

function hasSeeds() {
  return report.seed_groups.some((group) => group.length > 1);
}

// What is drawn as one line: a shown trial, or the shown trials that differ only in the seed.
function shownLines() {
  const groups = areSeedsTogether() ? report.seed_groups : report.trials.map((_, i) => [i]);
  return groups
    .map((group) => group.filter((index) => !hidden.has(index)))
    .filter((group) => group.length)
    .map((trials) => ({
      trials,
      name: lineName(trials),
      color: trialColor(trials[0]),
      isSelected: trials.includes(selected),
    }));
}

function lineName(trials) {
  const first = report.trials[trials[0]];
  if (trials.length === 1) return joined(first.name, variedText(first));
  const settings = variedText(first, (name) => name !== SEED);
  return joined(runOf(trials[0]).label, settings || first.name, `${trials.length} seeds`);
}

function runOf(index) {
  return report.runs.find(({ trials }) => trials.includes(index));
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

// A button that hides a trial and shows it again.
function trialButton(trial, index) {
  const swatch = element("span", { class: "swatch", "data-trial": index });
  const label = element("span", {}, joined(trial.name, variedText(trial)));
  const button = element("button", { type: "button", "data-trial": index }, swatch, label);
  button.addEventListener("click", () => {
    if (!hidden.delete(index)) hidden.add(index);
    showChoice();
  });
  return button;
}

function showChoice() {
  for (const button of $("chips").children) {
    button.setAttribute("aria-pressed", String(!hidden.has(Number(button.dataset.trial))));
  }
  redrawCurves();
}

// Shows the best trials, or all, or none.
function showBest(count) {
  hidden.clear();
  for (const index of report.run.from_best.slice(count)) hidden.add(index);
  showChoice();
}

function setUpChoice() {
  $("show-all").addEventListener("click", () => showBest(report.trials.length));
  $("show-none").addEventListener("click", () => showBest(0));
  $("show-best").addEventListener("click", () => showBest(5));
  $("seeds").checked = hasSeeds();
  $("seeds").addEventListener("change", () => {
    forgetColors();
    colorSwatches();
    redrawCurves();
  });
}

function fillChoice() {
  const isSweep = report.trials.length > 1;
  $("choice").hidden = !isSweep;
  $("seeds").parentElement.hidden = !hasSeeds();
  $("chips").replaceChildren(...(isSweep ? report.trials.map(trialButton) : []));
  for (const button of $("chips").children) {
    button.setAttribute("aria-pressed", String(!hidden.has(Number(button.dataset.trial))));
  }
}
