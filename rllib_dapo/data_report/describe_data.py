"""Looks at all problems of a data set: lengths, token ids, repetitions, answers."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from rllib_dapo.data_report.data_request import DataRequest
from rllib_dapo.envs.base import Problem
from rllib_dapo.envs.datasets import Dataset, load_dataset
from rllib_dapo.envs.math import fill_template
from rllib_dapo.envs.messages import Conversation, Message, as_conversation, plain_text
from rllib_dapo.envs.prompt_cells import with_last_text
from rllib_dapo.envs.row_counts import DataReport
from rllib_dapo.envs.splits import text_key
from rllib_dapo.envs.verify import rules_that_read
from rllib_dapo.models import prompt_token_ids

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_MOST_TOKENIZED: Final = 10_000  # prompts; of more, evenly spread ones stand for all
_SAY_EVERY: Final = 3.0  # seconds


@dataclass(frozen=True, kw_only=True, slots=True)
class PromptLengths:
    """How long prompts are.

    Attributes:
        unit: "characters" or "tokens".
        measured: Number of prompts that were measured.
        median: Median length.
        p95: Length that 95 of 100 prompts do not exceed.
        longest: Greatest length.
        limit: Greatest length that is used; None if there is no limit.
        over: How many prompts of those measured are longer than the limit.
    """

    unit: str
    measured: int
    median: int
    p95: int
    longest: int
    limit: int | None = None
    over: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class RenderedPrompt:
    """A prompt as the environment gives it, and as the model reads it.

    Attributes:
        problem_id: Name of the problem.
        messages: The prompt's messages.
        answer: The ground truth.
        token_ids: What the model reads; None if its template refuses the prompt.
    """

    problem_id: str
    messages: tuple[Message, ...]
    answer: str
    token_ids: tuple[int, ...] | None


@dataclass(frozen=True, kw_only=True, slots=True)
class DataDescription:
    """Everything that `rllib-dapo data` tells.

    Attributes:
        report: What became of the rows.
        has_answers: Whether the problems have answers.
        kinds: How many prompts are a text, have a system message, or have earlier turns.
        near_copies: How many problems equal an earlier one but for case and white space.
        lengths: PromptLengths in characters and in tokens.
        refused: For each reason why the model's template refuses prompts, how many it refuses.
        rules: For each answer rule, how many answers it can read.
        different_answers: How many different answers there are.
        unread: Answers that no rule can read, with the names of their problems: the first ten.
        num_unread: How many there are.
        answer_rule: The rule that is set; None with a reward function.
        prompts: The first prompts.
        model: The model whose tokenizer was used.
    """

    report: DataReport
    has_answers: bool
    kinds: dict[str, int]
    near_copies: int
    lengths: tuple[PromptLengths, ...]
    refused: dict[str, int]
    rules: dict[str, int]
    different_answers: int
    unread: tuple[tuple[str, str], ...]
    num_unread: int
    answer_rule: str | None
    prompts: tuple[RenderedPrompt, ...]
    model: str


class _Progress:
    """Tells from time to time how far something is."""

    def __init__(self, say: Callable[[str], None], what: str, total: int) -> None:
        self._say, self._what, self._total = say, what, total
        self._said = time.monotonic()

    def __call__(self, done: int) -> None:
        if time.monotonic() - self._said > _SAY_EVERY:
            self._said = time.monotonic()
            self._say(f"{self._what}: {done:,} of {self._total:,}")


def describe_data(
    request: DataRequest,
    tokenizer: PreTrainedTokenizerBase,
    *,
    model: str,
    max_prompt_tokens: int,
    system_prompt: str = "",
    shown: int = 10,
    say: Callable[[str], None] = lambda line: None,
) -> DataDescription:
    """Reads and describes a data set.

    Args:
        request: What is to be read, and how.
        tokenizer: The model's tokenizer.
        model: Name of the model, for the description.
        max_prompt_tokens: The setting of this name.
        system_prompt: System message of prompts that have none of their own.
        shown: Number of prompts to show.
        say: Receives lines about progress.

    Raises:
        FileNotFoundError: If a file is not there.
        ValueError: If a setting is refused, or a file cannot be read.
    """
    dataset, has_answers = _load(request, say)
    problems = dataset.problems
    prompts = [_asked(request, has_answers, problem) for problem in problems]

    def ids_of(prompt: str | Conversation) -> list[int]:
        return prompt_token_ids(tokenizer, prompt, system_prompt=system_prompt)

    tokens, refused = _token_lengths(prompts, ids_of, say)
    characters = [len(plain_text(prompt)) for prompt in prompts]
    keys = {text_key(problem.text) for problem in problems}
    with_answer = [problem for problem in problems if problem.answer] if has_answers else []
    rules, different, unread = _read_by_rules(with_answer, say)

    return DataDescription(
        report=dataset.report,
        has_answers=has_answers,
        kinds=dict(Counter(_kind(problem) for problem in problems)),
        near_copies=len(problems) - len(keys),
        lengths=(
            _lengths("characters", characters),
            *([_lengths("tokens", tokens, limit=max_prompt_tokens)] if tokens else []),
        ),
        refused=refused,
        rules=rules,
        different_answers=different,
        unread=tuple((problem.problem_id, problem.answer) for problem in unread[:10]),
        num_unread=len(unread),
        answer_rule=request.answer_rule,
        prompts=tuple(
            _rendered(problem, prompt, ids_of)
            for problem, prompt in zip(problems[:shown], prompts, strict=False)
        ),
        model=model,
    )


def _load(request: DataRequest, say: Callable[[str], None]) -> tuple[Dataset, bool]:
    """Reads the data set; where nothing has an answer, its prompts alone."""

    def load(need_answers: bool) -> Dataset:
        return load_dataset(
            request.path,
            columns=request.columns,
            max_prompt_characters=request.max_prompt_characters,
            need_answers=need_answers,
            answers_as_data=request.has_reward,
            say=say,
        )

    if request.has_reward:
        dataset = load(need_answers=False)
        return dataset, any(problem.answer for problem in dataset.problems)
    try:
        return load(need_answers=True), True
    except ValueError as without_answers:
        # The first message says more, unless answers are all that is missing.
        try:
            dataset = load(need_answers=False)
        except (ValueError, OSError):
            raise without_answers from None
        if any(problem.answer for problem in dataset.problems):
            raise
        return dataset, False


def _asked(request: DataRequest, has_answers: bool, problem: Problem) -> str | Conversation:
    """Returns a prompt as the environment asks it."""
    if request.has_reward:
        return with_last_text(problem.prompt, lambda text: request.template.format(problem=text))
    return fill_template(request.template, problem.prompt) if has_answers else problem.prompt


def _kind(problem: Problem) -> str:
    if isinstance(problem.prompt, str):
        return "one text"
    roles = [message.role for message in problem.prompt]
    system = "a system message" if roles[0] in ("system", "developer") else ""
    turns = "earlier turns" if len(roles) > 1 + bool(system) else ""
    return " and ".join(part for part in (system, turns) if part) or "one message"


def _token_lengths(
    prompts: Sequence[str | Conversation],
    ids_of: Callable[[str | Conversation], list[int]],
    say: Callable[[str], None],
) -> tuple[list[int], dict[str, int]]:
    """Returns the lengths in tokens, and why prompts were refused."""
    step = -(-len(prompts) // _MOST_TOKENIZED)
    lengths: list[int] = []
    refused: Counter[str] = Counter()
    progress = _Progress(say, "tokenizing", len(prompts[::step]))
    for done, prompt in enumerate(prompts[::step]):
        progress(done)
        try:
            lengths.append(len(ids_of(prompt)))
        except ValueError as error:
            refused[" ".join(str(error).split())] += 1
    return lengths, dict(refused)


def _lengths(unit: str, values: list[int], limit: int | None = None) -> PromptLengths:
    ordered = sorted(values)
    return PromptLengths(
        unit=unit,
        measured=len(ordered),
        median=ordered[(len(ordered) - 1) // 2],
        p95=ordered[min(len(ordered) - 1, len(ordered) * 95 // 100)],
        longest=ordered[-1],
        limit=limit,
        over=0 if limit is None else sum(value > limit for value in ordered),
    )


def _read_by_rules(
    problems: Sequence[Problem], say: Callable[[str], None]
) -> tuple[dict[str, int], int, list[Problem]]:
    """Returns how many answers each rule reads, how many differ, and problems that none reads."""
    answers = Counter(problem.answer for problem in problems)
    rules: Counter[str] = Counter()
    read_by: dict[str, tuple[str, ...]] = {}
    progress = _Progress(say, "trying the answer rules", len(answers))
    for done, (answer, times) in enumerate(answers.items()):
        progress(done)
        read_by[answer] = rules_that_read(answer)
        rules.update(dict.fromkeys(read_by[answer], times))
    return dict(rules), len(answers), [p for p in problems if not read_by[p.answer]]


def _rendered(
    problem: Problem,
    prompt: str | Conversation,
    ids_of: Callable[[str | Conversation], list[int]],
) -> RenderedPrompt:
    try:
        token_ids: tuple[int, ...] | None = tuple(ids_of(prompt))
    except ValueError:
        token_ids = None
    return RenderedPrompt(
        problem_id=problem.problem_id,
        messages=as_conversation(prompt),
        answer=problem.answer,
        token_ids=token_ids,
    )
