// What the model answered to one prompt, iteration by iteration.
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

function showResponses() {
  const trial = report.trials[Number($("response-trial").value)];
  const prompt = trial.prompts[Number($("response-prompt").value)];
  const list = $("response-list");
  list.replaceChildren();
  if (!prompt) return;

  list.append(element("pre", { class: "prompt" }, prompt.prompt));
  const texts = prompt.iterations.flatMap(({ responses }) => responses.map(({ text }) => text));
  const areShort = texts.every((text) => text.length <= 60);
  for (const { iteration, responses } of prompt.iterations) {
    list.append(
      element(
        "div",
        { class: "iteration" },
        element("h3", {}, iterationHeading(iteration, responses)),
        element(
          "div",
          { class: areShort ? "responses short" : "responses" },
          ...responses.map(responseCard),
        ),
      ),
    );
  }
}

function showPrompts() {
  const trial = report.trials[Number($("response-trial").value)];
  fillSelect(
    $("response-prompt"),
    trial.prompts.map((prompt, place) => {
      const times = `${prompt.iterations.length}\u00d7`;
      const start = prompt.prompt.trim().replace(/\s+/g, " ").slice(0, 80);
      return [String(place), `${prompt.source}, ${times}: ${start}`];
    }),
  );
  showResponses();
}

function makeResponses() {
  const known = report.trials
    .map((trial, index) => [String(index), trial])
    .filter(([, trial]) => trial.prompts.length);
  if (!known.length) {
    $("responses").querySelector(".controls").hidden = true;
    const why = "No responses were kept: see the setting reporting.sample_table_interval.";
    $("response-list").append(element("p", { class: "muted" }, why));
    return;
  }

  const choices = known.map(([index, trial]) => [index, joined(trial.name, variedText(trial))]);
  const best = [...fromWorstToBest].reverse().find((index) => report.trials[index].prompts.length);
  fillSelect($("response-trial"), choices, String(best));
  $("response-trial").addEventListener("change", showPrompts);
  $("response-prompt").addEventListener("change", showResponses);
  showPrompts();
}
