// Fills the page, and draws what comes into view.
function fillNavigation() {
  const links = [...document.querySelectorAll("main > section:not([hidden])")].map((section) =>
    element("a", { href: `#${section.id}` }, section.querySelector("h2").textContent),
  );
  $("sections").replaceChildren(...links);
}

// The parts of the theme that the style sheet does not reach. The button names the other theme.
function applyTheme() {
  $("theme").textContent = isDark() ? "light" : "dark";
  forgetColors();
  colorSwatches();
}

async function changeTheme() {
  applyTheme();
  await redraw(() => true);
}

// What needs neither figures nor responses.
function fillTexts() {
  fillOverview();
  fillChoice();
  fillSweep();
  fillTable();
  fillDifference();
  fillTimes();
  fillTimeline();
  fillCheckpoints();
  fillModel();
  fillData();
  fillConfiguration();
  fillNavigation();
}

// Puts what travels apart into the trials.
function adopt(figures, prompts) {
  report.trials.forEach((trial, index) => {
    trial.figures = figures[index];
    trial.prompts = prompts[index];
  });
}

function setUp() {
  setUpChoice();
  setUpCurves();
  setUpSweep();
  setUpDifference();
  setUpResponses();
  setUpTimes();
  setUpTimeline();
  setUpDownloads();
  setUpTables();
  $("theme").addEventListener("click", () => {
    document.documentElement.dataset.theme = isDark() ? "light" : "dark";
    return changeTheme();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", changeTheme);
}

async function start() {
  setUp();
  fillTexts();
  applyTheme();
  fitTables();
  await pageIsParsed();
  if (!("DecompressionStream" in window)) {
    $("old-browser").hidden = false; // texts can be read, but there are no curves
    return;
  }

  adopt(
    ...(await Promise.all(
      ["figures", "prompts"].map(async (id) => JSON.parse(await unpacked(id))),
    )),
  );
  fillCurves();
  fillResponses();

  // Everything but the plots can be read now.
  document.documentElement.dataset.readableAfter = String(Math.round(performance.now()));
  await loadPlotly();
  drawPlotsInView();
  followRun();
}
start();
