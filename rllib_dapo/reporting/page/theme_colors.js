// The colors of the theme and of the trials.
function isDark() {
  const chosen = document.documentElement.dataset.theme;
  return chosen ? chosen === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
}

// A color of the theme, by its name in the style sheet.
function themeColor(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

// Up to eight lines have Okabe and Ito's colors, which color-blind readers can tell apart; they
// are a little lighter on a dark background. With more of them the color shows the rank by the run's
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

// The groups of trials that have one color: those that differ only in the seed, or single ones.
function colorGroups() {
  return areSeedsTogether() ? report.seed_groups : report.trials.map((_, index) => [index]);
}

// Colors by trial, made anew when the theme, the data or the grouping changes.
let colorsByTrial = null;

function forgetColors() {
  colorsByTrial = null;
}

function trialColor(index) {
  if (!colorsByTrial) {
    const groups = colorGroups();
    const worstFirst = rankedGroups(groups);
    colorsByTrial = [];
    groups.forEach((group, place) => {
      for (const trial of group) colorsByTrial[trial] = lineColor(place, worstFirst[place], groups);
    });
  }
  return colorsByTrial[index];
}

// The rank of each group by the best of its trials, the worst group having rank 0.
function rankedGroups(groups) {
  const rank = new Map(worstToBest().map((trial, place) => [trial, place]));
  const best = groups.map((group) => Math.max(...group.map((trial) => rank.get(trial))));
  const sorted = [...best].sort((a, b) => a - b);
  return best.map((value) => sorted.indexOf(value));
}

function lineColor(place, rank, groups) {
  if (groups.length <= FEW_COLORS.light.length) {
    return FEW_COLORS[isDark() ? "dark" : "light"][place];
  }

  // Between the two neighbors of the line's place on the scale.
  const along = (rank / (groups.length - 1)) * (VIRIDIS.length - 1);
  const low = Math.min(Math.floor(along), VIRIDIS.length - 2);
  const share = along - low;
  const lift = isDark() ? 40 : 0;
  const mixed = VIRIDIS[low].map((from, i) => {
    const value = Math.round(from + (VIRIDIS[low + 1][i] - from) * share);
    return Math.min(255, value + lift);
  });
  return `#${mixed.map((value) => value.toString(16).padStart(2, "0")).join("")}`;
}

function colorSwatches() {
  for (const swatch of document.querySelectorAll(".swatch[data-trial]")) {
    swatch.style.background = trialColor(Number(swatch.dataset.trial));
  }
}
