// Two chosen trials side by side: the settings that differ, and what came out.
function chosenPair() {
  return ["first-trial", "second-trial"].map((id) => report.trials[Number($(id).value)]);
}

// Rows of a name and both values; of numbers also the second less the first.
function differenceRows() {
  const [a, b] = chosenPair();
  const settings = report.varied
    .map((name) => [name, a.varied[name], b.varied[name]])
    .filter(([, x, y]) => String(x) !== String(y))
    .map(([name, x, y]) => ({ kind: "setting", name, x, y }));
  const results = outcomes()
    .map(({ title, read }) => ({ kind: "result", name: title, x: read(a), y: read(b) }))
    .filter(({ x, y }) => x !== null || y !== null);
  const further = [
    { kind: "result", name: "iterations", x: a.iterations, y: b.iterations },
    { kind: "result", name: "seconds", x: a.seconds, y: b.seconds },
  ];
  return { settings, results: [...results, ...further] };
}

function lessText({ x, y }) {
  if (typeof x !== "number" || typeof y !== "number") return "";
  const less = y - x;
  return `${less > 0 ? "+" : ""}${shortText(Number(less.toPrecision(4)))}`;
}

function showDifference() {
  const [a, b] = chosenPair();
  const headings = ["", a.name, b.name, "second less first"];
  const row = (entry) => {
    const cells = [
      element("td", { class: "what" }, entry.name),
      element("td", {}, shortText(entry.x) || "\u2013"),
      element("td", {}, shortText(entry.y) || "\u2013"),
      element("td", { class: "muted" }, lessText(entry)),
    ];
    return labelledRow({ "data-kind": entry.kind }, cells, headings);
  };
  const { settings, results } = differenceRows();
  $("difference").tHead.replaceChildren(
    element("tr", {}, ...headings.map((text) => element("th", { scope: "col" }, text))),
  );
  $("difference").tBodies[0].replaceChildren(...[...settings, ...results].map(row));
  $("difference-note").textContent = settings.length
    ? `${settings.length} ${settings.length > 1 ? "settings differ" : "setting differs"}.`
    : "No setting differs between these trials.";
  fitTable($("difference").parentElement);
}

function differenceTable() {
  const [a, b] = chosenPair();
  const { settings, results } = differenceRows();
  const rows = [...settings, ...results].map(({ kind, name, x, y }) => [kind, name, x, y]);
  return { columns: ["kind", "name", `first: ${a.name}`, `second: ${b.name}`], rows };
}

function setUpDifference() {
  for (const id of ["first-trial", "second-trial"])
    $(id).addEventListener("change", showDifference);
  shownTables.set("difference", differenceTable);
}

// At first the best trial beside the one after it.
function fillDifference() {
  $("two-trials").hidden = report.trials.length < 2;
  if (report.trials.length < 2) return;
  const choices = report.trials.map((trial, index) => [
    String(index),
    joined(trial.name, variedText(trial)),
  ]);
  const [first, second] = report.run.from_best;
  fillSelect($("first-trial"), choices, String(first));
  fillSelect($("second-trial"), choices, String(second));
  showDifference();
}
