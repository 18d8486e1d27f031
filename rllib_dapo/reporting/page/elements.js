// The report's data, and what every part of the page is made with: elements, and values as text.
let report = JSON.parse(document.getElementById("data").textContent);
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

// Fills a <select> with pairs of value and text. What was chosen before stays chosen, if it can.
function fillSelect(select, pairs, value) {
  const before = select.options.length ? select.value : null;
  select.replaceChildren(...pairs.map(([key, text]) => element("option", { value: key }, text)));
  const isKnown = pairs.some(([key]) => key === before);
  if (isKnown) select.value = before;
  else if (value !== undefined) select.value = value;
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
const MOST_VARIED = 6;
function variedText(trial, isMeant = () => true) {
  const parts = Object.entries(trial.varied)
    .filter(([name]) => isMeant(name))
    .map(([name, value]) => `${shortName(name)} ${shortText(value)}`);
  const more = parts.length - MOST_VARIED;
  return parts.slice(0, MOST_VARIED).join(", ") + (more > 0 ? `, and ${more} more` : "");
}

// A long name that may break after its slashes and underscores.
function breakable(text) {
  const parts = String(text).split(/(?<=[/_])/);
  return parts.flatMap((part, place) => (place ? [element("wbr"), part] : [part]));
}

// A text as part of a file's name.
function plainFileName(text) {
  return String(text)
    .replace(/[^\w.-]+/g, "_")
    .slice(0, 80);
}

// Calls a function for a value that changes, and no more often than the browser draws.
function onceAFrame(call) {
  let isAsked = false;
  return (...words) => {
    if (isAsked) return;
    isAsked = true;
    requestAnimationFrame(() => {
      isAsked = false;
      call(...words);
    });
  };
}
