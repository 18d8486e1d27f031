// What all plots share: plain texts, a layout, and when a plot is drawn.
const isTouch = matchMedia("(pointer: coarse)").matches;

// Plotly reads a few tags in its texts: this makes them text again.
function plainText(text) {
  return String(text).replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
}

// The same for text within one of Plotly's templates, in which %{...} stands for a value.
function plainInTemplate(text) {
  return plainText(text).replace(/%\{/g, "% {");
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
    uirevision: "kept", // a plot that is drawn again keeps its zoom
    ...more,
    xaxis: { ...axis, ...(more.xaxis || {}) },
    yaxis: { ...axis, ...(more.yaxis || {}) },
  };
}

// By the id of its element, the function that makes a plot's traces and layout. A plot is drawn
// when it first comes near the window, and again when the theme or the choice of trials changes:
// at once if it can be seen, else when it comes near again.
const plots = new Map();
const drawn = new Set();
const near = new Set();
const stale = new Set();
const plotSettings = { displaylogo: false, displayModeBar: false, responsive: true };

// Keeps the room of a plot before it is drawn, so that nothing below it moves.
function keepHeight(id, height) {
  $(id).style.minHeight = `${height}px`;
}

function draw(id) {
  drawn.add(id);
  stale.delete(id);
  const [traces, arranged] = plots.get(id)();
  return Plotly.react(id, traces, arranged, plotSettings);
}

// Draws again what was drawn before and satisfies a condition on its id; the page stays responsive.
async function redraw(isMeant) {
  for (const id of drawn) if (isMeant(id)) stale.add(id);
  for (const id of [...stale]) {
    if (!near.has(id) || !stale.has(id)) continue;
    await draw(id);
    await new Promise((resume) => setTimeout(resume));
  }
}

// Draws a plot when it comes near the window. The promise is kept when the first ones are drawn.
let observer = null;
let sayFirstAreDrawn = null;
const firstAreDrawn = new Promise((resolve) => {
  sayFirstAreDrawn = resolve;
});

function watchPlot(id) {
  if (observer) observer.observe($(id));
}

function drawPlotsInView() {
  observer = new IntersectionObserver(
    async (entries) => {
      for (const { target, isIntersecting } of entries) {
        if (isIntersecting) near.add(target.id);
        else near.delete(target.id);
      }
      for (const id of [...near]) if (!drawn.has(id) || stale.has(id)) await draw(id);
      document.documentElement.dataset.drawnAfter ||= String(Math.round(performance.now()));
      sayFirstAreDrawn();
    },
    { rootMargin: "300px" },
  );
  for (const id of plots.keys()) watchPlot(id);

  // A printer shows all of the page at once.
  addEventListener("beforeprint", () => {
    for (const id of plots.keys()) if (!drawn.has(id) || stale.has(id)) draw(id);
  });
}

// The library takes most of the time that a page needs to open, so it is started only when
// everything else can be read.
async function loadPlotly() {
  await new Promise((resume) => requestAnimationFrame(() => setTimeout(resume)));
  document.head.append(element("script", {}, await unpacked("plotly")));
}

// The browser may run this script before it has parsed the end of the page, where the library is.
function pageIsParsed() {
  if (document.readyState !== "loading") return Promise.resolve();
  return new Promise((resume) => {
    document.addEventListener("DOMContentLoaded", resume, { once: true });
  });
}
