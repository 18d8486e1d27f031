// The table of trials, sorted by a click on a heading.

// The columns: a heading, the function that reads a trial's value, and one that makes it text.
const MOST_SETTINGS = 8;
let sortedBy = null; // the heading, and whether it goes up

function tableColumns() {
  const found = [
    ["trial", (trial) => trial.name],
    ...report.varied
      .slice(0, MOST_SETTINGS)
      .map((name) => [shortName(name), (trial) => trial.varied[name]]),
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

  const headings = columns.map(([name]) => name);
  const row = labelledRow({ "data-trial": index }, cells, headings);
  row.addEventListener("click", () => select(index));
  return row;
}

// Sorts by a column; by the same one again the other way round.
function sortTable(name, columns) {
  const isAscending = !(sortedBy && sortedBy.name === name && sortedBy.isAscending);
  sortedBy = { name, isAscending };
  showSorted(columns);
}

function showSorted(columns) {
  const place = sortedBy ? columns.findIndex(([name]) => name === sortedBy.name) : -1;
  if (place < 0) return;
  const { isAscending } = sortedBy;
  const head = $("table").tHead.rows[0].cells;
  for (const cell of head) cell.removeAttribute("aria-sort");
  head[place].setAttribute("aria-sort", isAscending ? "ascending" : "descending");

  const read = columns[place][1];
  const body = $("table").tBodies[0];
  const valueIn = (row) => read(report.trials[Number(row.dataset.trial)]);
  const sorted = [...body.rows].sort((a, b) => {
    const [x, y] = [valueIn(a), valueIn(b)];
    // A missing value is last in both directions.
    return x === null || y === null || isAscending ? compare(x, y) : compare(y, x);
  });
  body.append(...sorted);
}

// The table as it is sorted.
function trialsTable() {
  const columns = tableColumns();
  const rows = [...$("table").tBodies[0].rows].map((row) => {
    const trial = report.trials[Number(row.dataset.trial)];
    return columns.map(([, read]) => read(trial));
  });
  return { columns: columns.map(([name]) => name), rows };
}

function fillTable() {
  const columns = tableColumns();
  const headings = columns.map(([name]) => {
    const click = () => sortTable(name, columns);
    const button = element("button", { type: "button", onclick: click }, ...breakable(name));
    return element("th", { scope: "col" }, button);
  });
  $("table").tHead.replaceChildren(element("tr", {}, ...headings));
  $("table").tBodies[0].replaceChildren(
    ...report.trials.map((trial, index) => tableRow(trial, index, columns)),
  );
  showSorted(columns);
  showSelected();
  shownTables.set("table", trialsTable);

  const left = report.varied.length - MOST_SETTINGS;
  $("table-note").textContent =
    left > 0
      ? `The first ${MOST_SETTINGS} of ${report.varied.length} settings that differ are shown.`
      : "";
}
