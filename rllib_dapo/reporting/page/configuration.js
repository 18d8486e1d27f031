// Checkpoints, what the checks of model and data have found, and the configuration.
function checkpointList(trial) {
  const parts = trial.checkpoints.flatMap(({ path, link, iteration }, place) => [
    place ? ", " : "",
    link
      ? element("a", { href: link, title: path }, path.split("/").pop())
      : element("code", {}, path),
    iteration === null ? "" : ` (iteration ${iteration})`,
  ]);
  return element("p", {}, `${trial.name}: `, ...parts);
}

function fillCheckpoints() {
  const list = $("checkpoint-list");
  const known = report.trials.filter((trial) => trial.checkpoints.length);
  if (!known.length) {
    list.replaceChildren(element("p", { class: "muted" }, "No checkpoint was kept."));
    return;
  }

  list.replaceChildren(...known.map(checkpointList));
  const command = element("code", {}, report.run.export);
  list.append(element("p", { class: "muted" }, "To make a model of one: ", command));
}

function modelTable({ model, architecture, findings, trials }) {
  const rows = findings.map(({ check, verdict, detail }) =>
    element(
      "tr",
      {},
      element("td", {}, check),
      element("td", { class: verdict === "right" ? "muted" : "" }, verdict),
      element("td", {}, detail),
    ),
  );
  const where = report.trials.length > trials.length ? ` (${trials.join(", ")})` : "";
  return element(
    "div",
    { class: "fit" },
    element("p", {}, element("code", {}, model), ` ${architecture}${where}`),
    element("table", {}, element("tbody", {}, ...rows)),
  );
}

function fillModel() {
  $("model").hidden = !report.models.length;
  $("model-list").replaceChildren(...report.models.map(modelTable));
}

function fillData() {
  $("files").hidden = !report.data.length;
  $("data-list").replaceChildren();
  for (const { use, lines, trials } of report.data) {
    const where = report.trials.length > trials.length ? ` (${trials.join(", ")})` : "";
    const items = lines.map((line) => element("li", {}, line));
    $("data-list").append(element("p", {}, `${use}${where}`), element("ul", {}, ...items));
  }
}

function fillConfiguration() {
  for (const id of ["changed", "unchanged"]) $(id).tBodies[0].replaceChildren();
  for (const setting of report.settings) {
    const isChanged = setting.is_changed || setting.is_varied;
    const cells = [
      element("td", {}, element("code", {}, setting.name)),
      element("td", {}, setting.value),
    ];
    if (isChanged) {
      const usual = setting.default ? `default: ${setting.default}` : "no default";
      cells.push(element("td", { class: "muted" }, setting.is_varied ? "varied" : usual));
    }
    $(isChanged ? "changed" : "unchanged").tBodies[0].append(element("tr", {}, ...cells));
  }
}
