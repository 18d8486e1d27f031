// Which responses are shown: by their verdict, by words in them, of one prompt or of all.
const EVERY_PROMPT = "all";
const KINDS = [
  ["all", "all responses", () => true],
  ["correct", "correct", (response) => response.verdict === "correct"],
  ["wrong", "wrong", (response) => response.verdict === "wrong"],
  ["cut", "cut at the limit", (response) => response.is_truncated],
  ["missing", "without a verdict", (response) => response.verdict === "missing"],
  ["graded", "graded", (response) => response.verdict === "graded"],
];

function hasWords(texts, wanted) {
  return (
    !wanted ||
    texts.some((text) =>
      String(text || "")
        .toLowerCase()
        .includes(wanted),
    )
  );
}

// The prompts of the chosen trial with the iterations and responses that are looked for. Words of a
// prompt find all its responses.
function matchingPrompts() {
  const trial = report.trials[Number($("response-trial").value)];
  const chosen = $("response-prompt").value;
  const wanted = $("response-search").value.trim().toLowerCase();
  const [, , isMeant] = KINDS.find(([key]) => key === $("response-kind").value);

  const prompts = chosen === EVERY_PROMPT ? trial.prompts : [trial.prompts[Number(chosen)]];
  return prompts
    .filter(Boolean)
    .map((prompt) => {
      const inPrompt = hasWords([prompt.prompt], wanted);
      const isFound = (response) =>
        isMeant(response) &&
        (inPrompt || hasWords([response.text, response.prediction, response.reason], wanted));
      const iterations = prompt.iterations
        .map((entry) => ({ ...entry, responses: entry.responses.filter(isFound) }))
        .filter(({ responses }) => responses.length);
      return { prompt, iterations };
    })
    .filter(({ iterations }) => iterations.length);
}

function responsesTable() {
  const columns = [
    "prompt",
    "source",
    "iteration",
    "verdict",
    "reward",
    "tokens",
    "truncated",
    "answer",
    "reason",
    "response",
  ];
  const rows = matchingPrompts().flatMap(({ prompt, iterations }) =>
    iterations.flatMap(({ iteration, responses }) =>
      responses.map((response) => [
        prompt.prompt,
        prompt.source,
        iteration,
        response.verdict,
        response.reward,
        response.tokens,
        response.is_truncated,
        response.prediction,
        response.reason,
        response.text,
      ]),
    ),
  );
  return { columns, rows };
}
