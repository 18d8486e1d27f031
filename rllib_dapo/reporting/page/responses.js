// What the model answered to one prompt, iteration by iteration.
function responseCard(response) {
  const reward = response.reward === null ? "no reward" : `reward ${figure(response.reward)}`;
  const told = [reward, `${response.tokens} tokens`, response.is_truncated ? "cut at the limit" : "",
    response.prediction && `answer ${response.prediction}`, response.reason].filter(Boolean).join(", ");
  return element("div", { class: "card" },
    element("div", {}, element("span", { class: `verdict ${response.verdict}` }, response.verdict), ` \u00b7 ${told}`),
    element("pre", { class: "response" }, response.text || "(empty)"));
}

function showResponses() {
  const trial = report.trials[Number($("response-trial").value)];
  const prompt = trial.prompts[Number($("response-prompt").value)];
  const list = $("response-list");
  list.replaceChildren();
  if (!prompt) return;
  const isShort = prompt.iterations.every(({ responses }) => responses.every((response) => response.text.length <= 60));
  list.append(element("pre", { class: "prompt" }, prompt.prompt));
  for (const { iteration, responses } of prompt.iterations) {
    const correct = responses.filter((response) => response.verdict === "correct").length;
    const share = responses.some((response) => response.verdict !== "graded") ? ` \u00b7 ${correct} of ${responses.length} shown are correct` : "";
    list.append(element("div", { class: "iteration" },
      element("h3", {}, iteration ? `iteration ${iteration}${share}` : `before training${share}`),
      element("div", { class: isShort ? "responses short" : "responses" }, ...responses.map(responseCard))));
  }
}

function showPrompts() {
  const trial = report.trials[Number($("response-trial").value)];
  options($("response-prompt"), trial.prompts.map((prompt, place) => {
    const times = `${prompt.iterations.length}\u00d7`;
    return [String(place), `${prompt.source}, ${times}: ${prompt.prompt.trim().replace(/\s+/g, " ").slice(0, 80)}`];
  }));
  showResponses();
}

function makeResponses() {
  const known = report.trials.map((trial, index) => [String(index), trial]).filter(([, trial]) => trial.prompts.length);
  if (!known.length) {
    $("responses").querySelector(".controls").hidden = true;
    $("response-list").append(element("p", { class: "muted" }, "No responses were kept: reporting.sample_table_interval is how often they are."));
    return;
  }
  options($("response-trial"), known.map(([index, trial]) => [index, [trial.name, tried(trial)].filter(Boolean).join(" \u00b7 ")]));
  const best = [...byMetric].reverse().find((index) => report.trials[index].prompts.length);
  $("response-trial").value = String(best);
  $("response-trial").addEventListener("change", showPrompts);
  $("response-prompt").addEventListener("change", showResponses);
  showPrompts();
}
