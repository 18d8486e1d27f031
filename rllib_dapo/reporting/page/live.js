// A page that a server gives out asks it for newer figures; one that is a file does not.
const REFRESH_MS = 2000;

function sayLive(text, isLost = false) {
  $("live").hidden = false;
  $("live").textContent = text;
  $("live").classList.toggle("failed", isLost);
}

function timeOfDay() {
  return new Date().toLocaleTimeString([], { hour12: false });
}

// Takes newer figures; what was chosen on the page stays.
async function takeNewer({ data, figures, prompts }) {
  report = data;
  adopt("figures", figures);
  adopt("prompts", prompts);
  forgetColors();
  fillTexts();
  fillCurves();
  fillResponses();
  applyTheme();
  fitTables();
  await redraw(() => true);
}

// The newer figures, null where there are none, or undefined where nobody answers.
async function askForNewer(version) {
  const query = new URLSearchParams(location.search);
  query.set("version", version);
  try {
    const answer = await fetch(`data?${query}`, { cache: "no-store" });
    if (answer.status === 204) return null;
    return answer.ok ? await answer.json() : undefined;
  } catch {
    return undefined;
  }
}

async function followRun() {
  if (document.documentElement.dataset.live !== "true") return;
  let version = "";
  for (;;) {
    const newer = await askForNewer(version);
    if (newer) {
      version = newer.version;
      await takeNewer(newer);
      document.documentElement.dataset.version = version;
    }
    if (newer === undefined) sayLive("no longer live: nobody serves this page any more", true);
    else sayLive(`live \u00b7 as of ${timeOfDay()}`);
    await new Promise((resume) => setTimeout(resume, REFRESH_MS));
  }
}
