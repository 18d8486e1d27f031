// The table of trials, sorted by a click on a heading.

// The columns: a heading, the function that reads a trial's value, and one that makes it text.
function tableColumns() {
  const found = [
    ["trial", (trial) => trial.name],
    ...report.varied.map((name) => [shortName(name), (trial) => trial.varied[name]]),
    [`last ${report.run.metric.replace("env_runners/", "")}`, (trial) => trial.metric.last],
    ["best", (trial) => trial.metric.best],
  ];
  if (trialWithFurtherEvaluation()) found.push(["evaluation", (trial) => trial.evaluation]);
  for (const name of Object.keys(report.trials[0].summary)) {
    found.push([name, (trial) => trial.summary[name]]);
  }
  found.push(
    ["iterations", (trial) => trial.iterations],
    ["time", (trial) => trial.seconds, clock],
    ["status", (trial) => trial.status],
  );
  if (report.trials.some((trial) => trial.stop_reason)) {
    found.push(["stopped by", (trial) => trial.stop_reason]);
  }
  return found;
}

function compare(a, b) {
  const isMissing = (value) => value === null || value === undefined || value === "";
  if (isMissing(a) || isMissing(b)) return isMissing(a) - isMissing(b);
  if (typeof a === "number" && typeof b === "number") return a - b;
  return String(a).localeCompare(String(b), undefined, { numeric: true });
}

function tableRow(trial, index, columns) {
  const cells = columns.map(([, read, toText]) => {
    const value = read(trial);
    const kind = typeof value === "number" ? "number" : "";
    return element("td", { class: kind }, (toText || shortText)(value));
  });
  cells[0].prepend(
    element("span", {
      class: "swatch",
      "data-trial": index,
      style: "display:inline-block;margin-right:6px",
    }),
  );

  const row = element("tr", { "data-trial": index }, ...cells);
  row.addEventListener("click", () => select(index));
  return row;
}

function sortTable(place, columns) {
  const head = $("table").tHead.rows[0].cells;
  const body = $("table").tBodies[0];
  const isAscending = head[place].getAttribute("aria-sort") !== "ascending";
  for (const cell of head) cell.removeAttribute("aria-sort");
  head[place].setAttribute("aria-sort", isAscending ? "ascending" : "descending");

  const read = columns[place][1];
  const valueIn = (row) => read(report.trials[Number(row.dataset.trial)]);
  const sorted = [...body.rows].sort((a, b) => {
    const [x, y] = [valueIn(a), valueIn(b)];
    // A missing value is last in both directions.
    return x === null || y === null || isAscending ? compare(x, y) : compare(y, x);
  });
  body.append(...sorted);
}

function makeTable() {
  const columns = tableColumns();
  const headings = columns.map(([name], place) => {
    const button = element(
      "button",
      { type: "button", onclick: () => sortTable(place, columns) },
      name,
    );
    return element("th", { scope: "col" }, button);
  });
  $("table").tHead.append(element("tr", {}, ...headings));
  $("table").tBodies[0].append(
    ...report.trials.map((trial, index) => tableRow(trial, index, columns)),
  );
}
