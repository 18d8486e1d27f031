// The report's data, and what every part of the page uses.
const report = JSON.parse(document.getElementById("data").textContent);
const $ = (id) => document.getElementById(id);
const isTouch = matchMedia("(pointer: coarse)").matches;

// An element with text in it: what a run says goes in as text nodes, never as markup.
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

// Plotly reads a few tags in its texts.
function plain(text) {
  return String(text).replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
}

// The same within a template of Plotly's, where %{...} stands for a value.
function fixed(text) {
  return plain(text).replace(/%\{/g, "% {");
}

function figure(value) {
  if (value === null || value === undefined) return "";
  if (typeof value !== "number") return String(value);
  if (Number.isInteger(value)) return String(value);
  const size = Math.abs(value);
  return size >= 1000 ? value.toFixed(0) : size >= 0.001 ? String(Number(value.toPrecision(4))) : value.toExponential(2);
}

function duration(seconds) {
  if (seconds === null || seconds === undefined) return "";
  const whole = Math.round(seconds), hours = Math.floor(whole / 3600), minutes = Math.floor(whole / 60) % 60;
  const two = (n) => String(n).padStart(2, "0");
  return hours ? `${hours}:${two(minutes)}:${two(whole % 60)}` : `${minutes}:${two(whole % 60)}`;
}

function options(select, pairs, value) {
  select.replaceChildren(...pairs.map(([key, text]) => element("option", { value: key }, text)));
  if (value !== undefined) select.value = value;
}

// What is varied, in short: "epsilon_low 0.2, epsilon_high 0.28".
function tried(trial) {
  return Object.entries(trial.varied).map(([name, value]) => `${name.split("/").pop()} ${figure(value)}`).join(", ");
}

// Themes.
function isDark() {
  const chosen = document.documentElement.dataset.theme;
  return chosen ? chosen === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
}
function color(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

// Okabe and Ito's colors, which color-blind readers can tell apart, a little lighter on dark ground. Of more trials than
// that, the color tells the rank by the run's metric: viridis without its ends, which are lost on one ground or the other.
const FEW = {
  light: ["#0072B2", "#D55E00", "#009E73", "#B0568C", "#9C6F00", "#2A9BD6", "#6A6A00", "#555555"],
  dark: ["#4FB3F2", "#FF8A3D", "#2ECC9F", "#E59CC7", "#E6B422", "#9AD5F7", "#D6D65C", "#BBBBBB"],
};
const VIRIDIS = [[72, 40, 120], [62, 84, 146], [38, 130, 142], [53, 183, 121], [160, 200, 40]];
const byMetric = report.trials.map((_, i) => i).sort((a, b) => score(report.trials[a]) - score(report.trials[b]));
function score(trial) {
  const value = trial.metric.last;
  return value === null ? -Infinity : report.run.mode === "max" ? value : -value;
}
function trialColor(index) {
  if (report.trials.length <= FEW.light.length) return FEW[isDark() ? "dark" : "light"][index];
  const place = byMetric.indexOf(index) / (report.trials.length - 1) * (VIRIDIS.length - 1);
  const low = Math.min(Math.floor(place), VIRIDIS.length - 2), share = place - low;
  const lift = isDark() ? 40 : 0;
  const mixed = VIRIDIS[low].map((from, i) => Math.min(255, Math.round(from + (VIRIDIS[low + 1][i] - from) * share) + lift));
  return `rgb(${mixed.join(",")})`;
}

// Every plot is drawn by a function, when it first comes near the window, and again when the theme or the choice of
// trials changes. The library takes the most of a page's time to open, so it waits until all else can be read.
const plots = new Map();
const drawn = new Set();
const settings = { displaylogo: false, displayModeBar: false, responsive: true };
function layout(more) {
  const axis = { gridcolor: color("--line"), linecolor: color("--line"), zerolinecolor: color("--line"), automargin: true };
  return {
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", showlegend: false, height: 250,
    font: { color: color("--text"), size: 12, family: "system-ui, sans-serif" },
    margin: { l: 50, r: 12, t: 10, b: 40 }, dragmode: isTouch ? false : "zoom", hovermode: "closest",
    hoverlabel: { namelength: -1 }, ...more,
    xaxis: { ...axis, ...(more.xaxis || {}) }, yaxis: { ...axis, ...(more.yaxis || {}) },
  };
}
function draw(id) {
  drawn.add(id);
  const [traces, arranged] = plots.get(id)();
  return Plotly.react(id, traces, arranged, settings);
}
async function redraw(isMeant) {
  for (const id of drawn) {
    if (!isMeant(id)) continue;
    await draw(id);
    await new Promise((resume) => setTimeout(resume));
  }
}
// The browser may run this before it has read the page to its end, where the library's text is.
function pageIsRead() {
  if (document.readyState !== "loading") return Promise.resolve();
  return new Promise((resume) => document.addEventListener("DOMContentLoaded", resume, { once: true }));
}
async function loadPlotly() {
  await pageIsRead();
  await new Promise((resume) => requestAnimationFrame(() => setTimeout(resume)));
  document.head.append(element("script", {}, $("plotly").textContent));
}
function drawWhatIsSeen() {
  const near = new IntersectionObserver(async (entries) => {
    for (const { target, isIntersecting } of entries) if (isIntersecting && !drawn.has(target.id)) await draw(target.id);
    document.documentElement.dataset.drawnAfter = String(Math.round(performance.now()));
  }, { rootMargin: "300px" });
  for (const id of plots.keys()) near.observe($(id));
  addEventListener("beforeprint", () => { for (const id of plots.keys()) if (!drawn.has(id)) draw(id); });
}
