// Who worked when: one row for each engine, each Learner and the driver.
function chosenTimeline() {
  const nothing = { rows: [], spans: [], iterations: [] };
  return report.trials[Number($("timeline-trial").value)].timeline || nothing;
}

function timelinePlot() {
  const { rows, spans, iterations } = chosenTimeline();
  const names = rows.map(plainText);
  const parts = report.time_parts.filter((part) => spans.some((span) => span[1] === part));
  const traces = parts.map((part) => {
    const own = spans.filter((span) => span[1] === part);
    return {
      type: "bar",
      orientation: "h",
      name: part,
      base: own.map((span) => span[2]),
      x: own.map((span) => span[3]),
      y: own.map((span) => names[span[0]]),
      width: 0.7,
      marker: { color: PART_COLORS[report.time_parts.indexOf(part)] },
      text: own.map((span) => `${span[3].toFixed(2)} s, from ${span[2].toFixed(2)} s on`),
      textposition: "none",
      hovertemplate: "%{y}<br>%{fullData.name}: %{text}<extra></extra>",
    };
  });
  const ends = iterations.map(([, end]) => ({
    type: "line",
    x0: end,
    x1: end,
    y0: 0,
    y1: 1,
    yref: "paper",
    line: { color: themeColor("--line"), width: 1, dash: "dot" },
  }));
  return [
    traces,
    layout({
      barmode: "overlay",
      height: heightOfRows(rows.length),
      showlegend: true,
      shapes: ends,
      legend: { orientation: "h", x: 0, y: -0.02, yanchor: "top", traceorder: "normal" },
      margin: { l: 50, r: 16, t: 26, b: 60 },
      xaxis: { ticksuffix: " s", side: "top" },
      yaxis: {
        type: "category",
        categoryorder: "array",
        categoryarray: [...names].reverse(),
        fixedrange: true,
      },
    }),
  ];
}

function timelineTable() {
  const { rows, spans } = chosenTimeline();
  const found = spans.map(([row, part, start, seconds]) => [rows[row], part, start, seconds]);
  return { columns: ["row", "part", "start, s", "seconds"], rows: found };
}

function setUpTimeline() {
  plots.set("timeline-plot", timelinePlot);
  shownTables.set("timeline-plot", timelineTable);
  $("timeline-trial").addEventListener("change", () => redraw((id) => id === "timeline-plot"));
}

function fillTimeline() {
  const known = report.trials
    .map((trial, index) => [String(index), trial])
    .filter(([, trial]) => trial.timeline);
  $("timeline").hidden = !known.length;
  if (!known.length) return;

  const choices = known.map(([index, trial]) => [index, joined(trial.name, variedText(trial))]);
  const best = report.run.from_best.find((index) => report.trials[index].timeline);
  fillSelect($("timeline-trial"), choices, String(best === undefined ? known[0][0] : best));
  keepHeight("timeline-plot", heightOfRows(chosenTimeline().rows.length));
}
