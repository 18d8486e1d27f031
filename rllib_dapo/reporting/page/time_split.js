// Where the time of each trial went.
const PART_COLORS = ["#0072B2", "#56B4E9", "#D55E00", "#E69F00", "#009E73", "#8A8A8A"];

function heightOfRows(count) {
  return 130 + 26 * count;
}

function hasTimes(trial) {
  return Object.keys(trial.time).length > 0;
}

function timePlot() {
  // Bars are drawn from the bottom up.
  const trials = report.trials.filter(hasTimes).reverse();
  const names = trials.map((trial) => plainText(trial.name));
  const totals = trials.map((trial) => Object.values(trial.time).reduce((sum, s) => sum + s, 0));

  const traces = report.time_parts.map((part, place) => {
    const seconds = trials.map((trial) => trial.time[part]);
    const shares = seconds.map((s, i) => s / totals[i]);
    return {
      type: "bar",
      orientation: "h",
      name: part,
      x: shares,
      y: names,
      marker: { color: PART_COLORS[place] },
      text: seconds.map((s, i) => `${clock(s)}, ${(100 * shares[i]).toFixed(1)} %`),
      textposition: "none",
      hovertemplate: "%{y}<br>%{fullData.name}: %{text}<extra></extra>",
    };
  });
  return [
    traces,
    layout({
      barmode: "stack",
      height: heightOfRows(trials.length),
      showlegend: true,
      bargap: 0.25,
      legend: { orientation: "h", x: 0, y: -0.02, yanchor: "top", traceorder: "normal" },
      margin: { l: 50, r: 16, t: 26, b: 60 },
      xaxis: { tickformat: ".0%", range: [0, 1], side: "top", fixedrange: true },
      yaxis: { type: "category", fixedrange: true },
    }),
  ];
}

function timeTable() {
  const parts = report.time_parts;
  const rows = report.trials
    .filter(hasTimes)
    .map((trial) => [trial.name, ...parts.map((part) => trial.time[part])]);
  return { columns: ["trial", ...parts.map((part) => `${part}, s`)], rows };
}

function setUpTimes() {
  plots.set("time-plot", timePlot);
  shownTables.set("time-plot", timeTable);
}

function fillTimes() {
  $("time-plot").parentElement.hidden = !report.trials.some(hasTimes);
  keepHeight("time-plot", heightOfRows(report.trials.filter(hasTimes).length));
  $("time-missing").hidden = report.trials.every((trial) => hasTimes(trial) || !trial.iterations);
  $("time").hidden = !report.trials.some((trial) => trial.iterations);
}
