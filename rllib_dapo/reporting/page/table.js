// The table of trials, sorted by a click on a heading.
function columns() {
  const found = [
    ["trial", (trial) => trial.name],
    ...report.varied.map((name) => [name.split("/").pop(), (trial) => trial.varied[name]]),
    [`last ${report.run.metric.replace("env_runners/", "")}`, (trial) => trial.metric.last],
    ["best", (trial) => trial.metric.best],
  ];
  const measured = report.trials.find((trial) => trial.avg);
  if (measured && !report.run.metric.endsWith(`/${measured.avg.name}`)) found.push(["evaluation", (trial) => trial.evaluation]);
  for (const name of Object.keys(report.trials[0].summary)) found.push([name, (trial) => trial.summary[name]]);
  found.push(["iterations", (trial) => trial.iterations], ["time", (trial) => trial.seconds, duration],
    ["status", (trial) => trial.status]);
  if (report.trials.some((trial) => trial.stop_reason)) found.push(["stopped by", (trial) => trial.stop_reason]);
  return found;
}

function compare(a, b) {
  const isMissing = (value) => value === null || value === undefined || value === "";
  if (isMissing(a) || isMissing(b)) return isMissing(a) - isMissing(b);
  if (typeof a === "number" && typeof b === "number") return a - b;
  return String(a).localeCompare(String(b), undefined, { numeric: true });
}

function row(trial, index, shown) {
  const cells = shown.map(([, read, form]) => {
    const value = read(trial);
    return element("td", { class: typeof value === "number" ? "number" : "" }, (form || figure)(value));
  });
  cells[0].prepend(element("span", { class: "swatch", "data-trial": index, style: "display:inline-block;margin-right:6px" }));
  const made = element("tr", { "data-trial": index }, ...cells);
  made.addEventListener("click", () => select(index));
  return made;
}

function sortTable(place, shown) {
  const head = $("table").tHead.rows[0].cells, body = $("table").tBodies[0];
  const isAscending = head[place].getAttribute("aria-sort") !== "ascending";
  for (const cell of head) cell.removeAttribute("aria-sort");
  head[place].setAttribute("aria-sort", isAscending ? "ascending" : "descending");
  const value = (made) => shown[place][1](report.trials[Number(made.dataset.trial)]);
  const sorted = [...body.rows].sort((a, b) => {
    const [x, y] = [value(a), value(b)];
    // What is missing stays last either way.
    return x === null || y === null || isAscending ? compare(x, y) : compare(y, x);
  });
  body.append(...sorted);
}

function makeTable() {
  const shown = columns();
  const head = shown.map(([name], place) => element("th", { scope: "col" },
    element("button", { type: "button", onclick: () => sortTable(place, shown) }, name)));
  $("table").tHead.append(element("tr", {}, ...head));
  $("table").tBodies[0].append(...report.trials.map((trial, index) => row(trial, index, shown)));
}
