// The report's data, and what every part of the page is made with: elements, and values as text.
const report = JSON.parse(document.getElementById("data").textContent);
const $ = (id) => document.getElementById(id);

// Makes an element. What a run says goes in as text nodes, never as markup.
function element(tag, attributes, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes || {})) {
    if (name === "class") made.className = value;
    else if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else made.setAttribute(name, value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

// Fills a <select> with pairs of value and text.
function fillSelect(select, pairs, value) {
  select.replaceChildren(...pairs.map(([key, text]) => element("option", { value: key }, text)));
  if (value !== undefined) select.value = value;
}

// Joins the parts that are not empty.
function joined(...parts) {
  return parts.filter(Boolean).join(" \u00b7 ");
}

// A number, or whatever else stands in its place, as text that is short enough to read.
function shortText(value) {
  if (value === null || value === undefined) return "";
  if (typeof value !== "number" || Number.isInteger(value)) return String(value);

  const size = Math.abs(value);
  if (size >= 1000) return value.toFixed(0);
  return size >= 0.001 ? String(Number(value.toPrecision(4))) : value.toExponential(2);
}

// Seconds like a clock: 0:42, 12:05, 3:00:10.
function clock(seconds) {
  if (seconds === null || seconds === undefined) return "";
  const whole = Math.round(seconds);
  const hours = Math.floor(whole / 3600);
  const minutes = Math.floor(whole / 60) % 60;
  const two = (n) => String(n).padStart(2, "0");
  const rest = two(whole % 60);
  return hours ? `${hours}:${two(minutes)}:${rest}` : `${minutes}:${rest}`;
}

// The last part of a setting's name: "max_operand" of "env_config/max_operand".
function shortName(setting) {
  return setting.split("/").pop();
}

// What was varied, in short: "epsilon_low 0.2, epsilon_high 0.28".
function variedText(trial) {
  return Object.entries(trial.varied)
    .map(([name, value]) => `${shortName(name)} ${shortText(value)}`)
    .join(", ");
}

// The first trial with an evaluation of its own, beside the run's metric, if there is one.
function trialWithFurtherEvaluation() {
  const measured = report.trials.find((trial) => trial.avg);
  const isTheMetric = measured && report.run.metric.endsWith(`/${measured.avg.name}`);
  return isTheMetric ? undefined : measured;
}

// The places of the trials in the report, from the worst to the best by the last value of the run's
// metric.
const fromWorstToBest = [...report.run.from_best].reverse();
