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

// Puts what travels apart into the trials: their figures, or their prompts.
function adopt(name, ofTrials) {
  report.trials.forEach((trial, index) => {
    trial[name] = ofTrials[index];
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

  adopt("figures", JSON.parse(await unpacked("figures")));
  fillCurves();

  // The texts can be read now. Responses, of which there may be megabytes, come after the curves.
  document.documentElement.dataset.readableAfter = String(Math.round(performance.now()));
  await loadPlotly();
  drawPlotsInView();
  await firstAreDrawn;
  adopt("prompts", JSON.parse(await unpacked("prompts")));
  fillResponses();
  followRun();
}
start();
