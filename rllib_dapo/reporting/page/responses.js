// What the model answered, prompt by prompt and iteration by iteration.
function responseCard(response) {
  const details = [
    response.reward === null ? "no reward" : `reward ${shortText(response.reward)}`,
    `${response.tokens} tokens`,
    response.is_truncated ? "truncated at the limit" : "",
    response.prediction && `answer ${response.prediction}`,
    response.reason,
  ]
    .filter(Boolean)
    .join(", ");
  const verdict = element("span", { class: `verdict ${response.verdict}` }, response.verdict);
  return element(
    "div",
    { class: "card" },
    element("div", {}, verdict, ` \u00b7 ${details}`),
    element("pre", { class: "response" }, response.text || "(empty)"),
  );
}

function iterationHeading(iteration, responses) {
  const when = iteration ? `iteration ${iteration}` : "before training";
  const isGraded = responses.every((response) => response.verdict === "graded");
  if (isGraded) return when; // such environments have no notion of correct
  const correct = responses.filter((response) => response.verdict === "correct").length;
  return `${when} \u00b7 ${correct} of the ${responses.length} shown are correct`;
}

// A square for each response of each iteration, so that one prompt can be followed at a glance. A
// click leads to the iteration.
function progressStrip(iterations) {
  const columns = iterations.map(({ iteration, responses }) => {
    const squares = responses.map(({ verdict, is_truncated: isCut }) =>
      element("span", { class: `square ${verdict}${isCut ? " cut" : ""}` }),
    );
    const title = iterationHeading(iteration, responses);
    const column = element("button", { type: "button", title, "aria-label": title }, ...squares);
    column.append(element("span", { class: "when" }, String(iteration)));
    column.addEventListener("click", () => {
      const there = document.querySelector(`.iteration[data-iteration="${Number(iteration)}"]`);
      if (there) there.scrollIntoView({ block: "nearest" });
    });
    return column;
  });
  return element("div", { class: "strip", role: "group", "aria-label": "iterations" }, ...columns);
}

function iterationBlock({ iteration, responses }, areShort) {
  return element(
    "div",
    { class: "iteration", "data-iteration": iteration },
    element("h4", {}, iterationHeading(iteration, responses)),
    element(
      "div",
      { class: areShort ? "responses short" : "responses" },
      ...responses.map(responseCard),
    ),
  );
}

function promptBlock({ prompt, iterations }) {
  const texts = iterations.flatMap(({ responses }) => responses.map(({ text }) => text));
  const areShort = texts.every((text) => text.length <= 60);
  return element(
    "article",
    {},
    element("pre", { class: "prompt" }, prompt.prompt),
    iterations.length > 1 ? progressStrip(iterations) : null,
    ...iterations.map((entry) => iterationBlock(entry, areShort)),
  );
}

const SHOWN_AT_FIRST = 60;
let mostShown = SHOWN_AT_FIRST;

// As many iterations of the found ones as the page shows at once.
function withinLimit(found) {
  let left = mostShown;
  const kept = [];
  for (const { prompt, iterations } of found) {
    if (left <= 0) break;
    kept.push({ prompt, iterations: iterations.slice(0, left) });
    left -= iterations.length;
  }
  return kept;
}

function countText(found) {
  const iterations = found.flatMap((entry) => entry.iterations);
  const responses = iterations.flatMap((entry) => entry.responses);
  const cut = responses.filter((response) => response.is_truncated).length;
  const of = (verdict) => responses.filter((response) => response.verdict === verdict).length;
  const parts = ["correct", "wrong", "missing", "graded"]
    .filter((verdict) => of(verdict))
    .map((verdict) => `${of(verdict)} ${verdict === "missing" ? "without a verdict" : verdict}`);
  if (cut) parts.push(`${cut} cut at the limit`);
  const prompts = found.length === 1 ? "1 prompt" : `${found.length} prompts`;
  const many = responses.length === 1 ? "1 response" : `${responses.length} responses`;
  return responses.length
    ? `${many} to ${prompts}: ${parts.join(", ")}.`
    : "No response is like that.";
}

function showResponses() {
  const found = matchingPrompts();
  const shown = withinLimit(found);
  const count = (entries) => entries.reduce((sum, { iterations }) => sum + iterations.length, 0);
  const left = count(found) - count(shown);
  $("response-count").textContent = countText(found);
  $("response-list").replaceChildren(...shown.map(promptBlock));
  $("response-more").hidden = left <= 0;
  $("response-more").textContent = `show ${left} further iterations`;
}

// From the start of the list, after another choice.
function showResponsesAnew() {
  mostShown = SHOWN_AT_FIRST;
  showResponses();
}

function fillPrompts() {
  const trial = report.trials[Number($("response-trial").value)];
  const prompts = trial.prompts.map((prompt, place) => {
    const times = `${prompt.iterations.length}\u00d7`;
    const start = prompt.prompt.trim().replace(/\s+/g, " ").slice(0, 80);
    return [String(place), `${prompt.source}, ${times}: ${start}`];
  });
  fillSelect($("response-prompt"), [...prompts, [EVERY_PROMPT, "all prompts"]], "0");
}

function setUpResponses() {
  $("response-trial").addEventListener("change", () => {
    fillPrompts();
    showResponsesAnew();
  });
  $("response-prompt").addEventListener("change", showResponsesAnew);
  $("response-kind").addEventListener("change", showResponsesAnew);
  // Words are looked for in all prompts.
  $("response-search").addEventListener("input", () => {
    if ($("response-search").value) $("response-prompt").value = EVERY_PROMPT;
    onceAFrame(showResponsesAnew)();
  });
  $("response-more").addEventListener("click", () => {
    mostShown += 10 * SHOWN_AT_FIRST;
    showResponses();
  });
  fillSelect(
    $("response-kind"),
    KINDS.map(([key, text]) => [key, text]),
    "all",
  );
  shownTables.set("response-list", responsesTable);
}

function fillResponses() {
  const known = report.trials
    .map((trial, index) => [String(index), trial])
    .filter(([, trial]) => trial.prompts.length);
  $("responses").querySelector(".controls").hidden = !known.length;
  $("response-none").hidden = known.length > 0;
  if (!known.length) return;

  const choices = known.map(([index, trial]) => [index, joined(trial.name, variedText(trial))]);
  const best = report.run.from_best.find((index) => report.trials[index].prompts.length);
  fillSelect($("response-trial"), choices, String(best));
  fillPrompts();
  showResponses();
}
