// What all plots share: colors of the theme and of trials, a layout, and when a plot is drawn.
const isTouch = matchMedia("(pointer: coarse)").matches;

// Plotly reads a few tags in its texts: this makes them text again.
function plainText(text) {
  return String(text).replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
}

// The same for text within one of Plotly's templates, in which %{...} stands for a value.
function plainInTemplate(text) {
  return plainText(text).replace(/%\{/g, "% {");
}

function isDark() {
  const chosen = document.documentElement.dataset.theme;
  return chosen ? chosen === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
}

// A color of the theme, by its name in the style sheet.
function themeColor(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

// Up to eight trials have Okabe and Ito's colors, which color-blind readers can tell apart; they
// are a little lighter on a dark background. With more trials the color shows the rank by the run's
// metric: viridis without its ends, of which one or the other would be lost on the background.
const FEW_COLORS = {
  light: ["#0072B2", "#D55E00", "#009E73", "#B0568C", "#9C6F00", "#2A9BD6", "#6A6A00", "#555555"],
  dark: ["#4FB3F2", "#FF8A3D", "#2ECC9F", "#E59CC7", "#E6B422", "#9AD5F7", "#D6D65C", "#BBBBBB"],
};
const VIRIDIS = [
  [72, 40, 120],
  [62, 84, 146],
  [38, 130, 142],
  [53, 183, 121],
  [160, 200, 40],
];

function trialColor(index) {
  if (report.trials.length <= FEW_COLORS.light.length) {
    return FEW_COLORS[isDark() ? "dark" : "light"][index];
  }

  // Between the two neighbors of the trial's place on the scale.
  const rank = fromWorstToBest.indexOf(index);
  const place = (rank / (report.trials.length - 1)) * (VIRIDIS.length - 1);
  const low = Math.min(Math.floor(place), VIRIDIS.length - 2);
  const share = place - low;
  const lift = isDark() ? 40 : 0;
  const mixed = VIRIDIS[low].map((from, i) => {
    const value = Math.round(from + (VIRIDIS[low + 1][i] - from) * share);
    return Math.min(255, value + lift);
  });
  return `rgb(${mixed.join(",")})`;
}

// A layout in the colors of the theme, with what differs from one plot to the next.
function layout(more) {
  const axis = {
    gridcolor: themeColor("--line"),
    linecolor: themeColor("--line"),
    zerolinecolor: themeColor("--line"),
    automargin: true,
  };
  return {
    paper_bgcolor: "rgba(0,0,0,0)",
    plot_bgcolor: "rgba(0,0,0,0)",
    showlegend: false,
    height: 250,
    font: { color: themeColor("--text"), size: 12, family: "system-ui, sans-serif" },
    margin: { l: 50, r: 12, t: 10, b: 40 },
    dragmode: isTouch ? false : "zoom", // a finger on a plot scrolls the page
    hovermode: "closest",
    hoverlabel: { namelength: -1 },
    ...more,
    xaxis: { ...axis, ...(more.xaxis || {}) },
    yaxis: { ...axis, ...(more.yaxis || {}) },
  };
}

// By the id of its element, the function that makes a plot's traces and layout. A plot is drawn
// when it first comes near the window, and again when the theme or the choice of trials changes.
const plots = new Map();
const drawn = new Set();
const plotSettings = { displaylogo: false, displayModeBar: false, responsive: true };

function draw(id) {
  drawn.add(id);
  const [traces, arranged] = plots.get(id)();
  return Plotly.react(id, traces, arranged, plotSettings);
}

// Draws again what was drawn before and satisfies a condition on its id; the page stays responsive.
async function redraw(isMeant) {
  for (const id of drawn) {
    if (!isMeant(id)) continue;
    await draw(id);
    await new Promise((resume) => setTimeout(resume));
  }
}

function drawPlotsInView() {
  const observer = new IntersectionObserver(
    async (entries) => {
      for (const { target, isIntersecting } of entries) {
        if (isIntersecting && !drawn.has(target.id)) await draw(target.id);
      }
      document.documentElement.dataset.drawnAfter = String(Math.round(performance.now()));
    },
    { rootMargin: "300px" },
  );
  for (const id of plots.keys()) observer.observe($(id));

  // A printer shows all of the page at once.
  addEventListener("beforeprint", () => {
    for (const id of plots.keys()) if (!drawn.has(id)) draw(id);
  });
}

// The library takes most of the time that a page needs to open, so it is started only when
// everything else can be read.
async function loadPlotly() {
  await pageIsParsed();
  await new Promise((resume) => requestAnimationFrame(() => setTimeout(resume)));
  document.head.append(element("script", {}, $("plotly").textContent));
}

// The browser may run this script before it has parsed the end of the page, where the library is.
function pageIsParsed() {
  if (document.readyState !== "loading") return Promise.resolve();
  return new Promise((resume) => {
    document.addEventListener("DOMContentLoaded", resume, { once: true });
  });
}
