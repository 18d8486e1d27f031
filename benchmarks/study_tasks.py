"""The tasks of the study of sample efficiency, and the models that are warmed up for them.

In all of them right responses differ in length, and some prompts are trivial for the warmed-up
model and some hopeless. Sums are cheap, with responses of a few tokens that hardly ever run into
the limit. In the other two a part of the responses does, so that each of DAPO's techniques has
something to do. All have a known ceiling: see `ceiling`.
"""

from __future__ import annotations

import random
import string
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from itertools import count
from pathlib import Path
from typing import Any, ClassVar

from rllib_dapo.models.tiny import TinyRecipe, tiny_model

LENGTHS_READ = 512  # held-out problems that a ceiling is counted on


@dataclass(frozen=True, kw_only=True)
class Task:
    """A task.

    Attributes:
        title: What is asked, for people.
        recipe: What the start model is made from.
        env: Id of the environment.
        env_config: Its settings for a split.
        max_prompt_tokens: Longest prompt.
        max_response_tokens: The length limit.
        buffer_tokens: Width of the zone before it in which responses are punished.
        heldout: Calls a function with each held-out problem's right response, as short as it may
            be written, and its answer.
    """

    title: str
    recipe: TinyRecipe
    env: str
    env_config: Callable[[str], dict[str, Any]]
    max_prompt_tokens: int
    max_response_tokens: int
    buffer_tokens: int
    heldout: Callable[[], list[str]]

    def model(self) -> Path:
        """The warmed-up model's folder, made on the first call and kept for all runs."""
        return tiny_model(self.recipe)

    def ceiling(self) -> float:
        """Share of held-out problems whose right response ends before any punishment begins.

        A response needs one more token, for its end. Every character is a token.
        """
        free = self.max_response_tokens - self.buffer_tokens
        responses = self.heldout()
        return sum(len(text) + 1 <= free for text in responses) / len(responses)


# Sums of two numbers, as in the demo and with its model, which has learnt those up to 49.
LARGEST_OPERANDS = (9, 49, 99)


def _plain_sums_env_config(split: str) -> dict[str, Any]:
    parts = [
        {
            "env": "rllib_dapo/Arithmetic-v0",
            "name": f"up_to_{largest}",
            "env_config": {"max_operand": largest, "split": split},
        }
        for largest in LARGEST_OPERANDS
    ]
    return {"environments": parts}


def _heldout_plain_sums() -> list[str]:
    from rllib_dapo.envs.arithmetic import ArithmeticEnv

    envs = [ArithmeticEnv({"max_operand": n, "split": "heldout"}) for n in LARGEST_OPERANDS]
    return [envs[seed % len(envs)].problem(seed).answer for seed in range(LENGTHS_READ)]


# Written-out sums: `7+5+9=` is answered by the running totals, `12=21`, or with what is left to add
# written down each time, `12+9=21`. The second form of a long sum is longer than the limit.
TERMS_LEARNT, TERMS = range(2, 7), range(2, 5)
LARGEST_TERM = 19


@dataclass(frozen=True, kw_only=True, slots=True)
class WrittenSumsRecipe(TinyRecipe):
    """The tiny model, warmed up on written-out sums in both forms.

    As `TinyRecipe` it hedges on each digit, so the more digits a response has, the less often it is
    right: mostly for two small terms, hardly ever for four large ones. It has seen longer sums,
    too, than it is asked.

    Attributes:
        long_share: Share of the records in the long form.
    """

    hidden_size: int = 128
    intermediate_size: int = 320
    doubt: float = 0.15
    steps: int = 1000
    batch_size: int = 48
    lr: float = 1.5e-3
    long_share: float = 0.3
    kind: ClassVar[str] = "tiny-written-sums"

    def records(self) -> Iterator[tuple[str, str]]:
        """See `TinyRecipe.records`. No held-out problem is among them."""
        rng = random.Random(self.seed)
        for seed in count():
            terms = TERMS_LEARNT[seed % len(TERMS_LEARNT)]
            problem = _sums(terms, "train").problem(seed)
            is_long = rng.random() < self.long_share
            yield problem.text, written_out(problem.problem_id, is_long=is_long)


def written_out(expression: str, *, is_long: bool) -> str:
    """The right response to a sum.

    Args:
        expression: The sum, such as `7+5+9`.
        is_long: Whether what is left to add is written down each time.
    """
    total, *rest = map(int, expression.split("+"))
    steps = []
    while rest:
        total += rest.pop(0)
        steps.append("+".join(map(str, [total, *rest])) if is_long else str(total))
    return "=".join(steps)


@cache
def _sums(terms: int, split: str) -> Any:
    from rllib_dapo.envs.arithmetic import ArithmeticEnv

    return ArithmeticEnv(_sum_settings(terms, split))


def _sum_settings(terms: int, split: str) -> dict[str, Any]:
    return {
        "terms": terms,
        "max_operand": LARGEST_TERM,
        "split": split,
        "answer_rule": "last_number",
    }


def _sums_env_config(split: str) -> dict[str, Any]:
    parts = [
        {
            "env": "rllib_dapo/Arithmetic-v0",
            "name": f"{terms}_terms",
            "env_config": _sum_settings(terms, split),
        }
        for terms in TERMS
    ]
    return {"environments": parts}


def _heldout_sums() -> list[str]:
    return [
        written_out(
            _sums(TERMS[seed % len(TERMS)], "heldout").problem(seed).problem_id, is_long=False
        )
        for seed in range(LENGTHS_READ)
    ]


# Words backwards: reasoning-gym's `spell_backward` on words of at most eight letters.
LETTERS = {"min_word_len": 3, "max_word_len": 8}
PROMPT = "{question}\n"


@dataclass(frozen=True, kw_only=True, slots=True)
class BackwardsRecipe(TinyRecipe):
    """The tiny model, warmed up on words backwards in which letters are wrong at times.

    A letter of a word of `n` letters is replaced with probability `noise * (n - 2)`, so short words
    are right mostly and long ones hardly ever. Some responses ramble on after the word.

    Attributes:
        noise: See above.
        ramble: Probability of another letter after the word, and after each such letter.
        num_words: Number of words of the training split that records are drawn from.
    """

    hidden_size: int = 128
    intermediate_size: int = 320
    doubt: float = 0.0
    steps: int = 1300
    batch_size: int = 32
    lr: float = 1.5e-3
    noise: float = 0.06
    ramble: float = 0.2
    num_words: int = 4000
    kind: ClassVar[str] = "tiny-backwards"

    def records(self) -> Iterator[tuple[str, str]]:
        """See `TinyRecipe.records`. No held-out word is among them."""
        rng = random.Random(self.seed)
        problems = backwards_problems("train", self.num_words)
        while True:
            prompt, answer = rng.choice(problems)
            yield prompt, self.noisy(answer, rng)

    def noisy(self, answer: str, rng: random.Random) -> str:
        """An answer as the model is to learn it."""
        noise = self.noise * (len(answer) - 2)
        letters = [
            rng.choice(string.ascii_lowercase) if rng.random() < noise else letter
            for letter in answer
        ]
        # Rarely once begun, and long then: the limit must matter.
        if rng.random() < self.ramble:
            while rng.random() < 1 - self.ramble:
                letters.append(rng.choice(string.ascii_lowercase))
        return "".join(letters)


def backwards_problems(split: str, number: int) -> list[tuple[str, str]]:
    """Prompts and answers of a split, each word once, in the order of the environment's seeds."""
    from rllib_dapo.envs.adapters.reasoning_gym import ReasoningGymEnv

    env = ReasoningGymEnv(_backwards_env_config(split))
    try:
        problems = [env.problem(seed) for seed in range(number)]
    finally:
        env.close()
    return list({problem.text: (problem.text, problem.answer) for problem in problems}.values())


def _backwards_env_config(split: str) -> dict[str, Any]:
    return {
        "task": "spell_backward",
        "template": PROMPT,
        "answer_tag": None,
        "split": split,
        **LETTERS,
    }


def _heldout_words() -> list[str]:
    return [answer for _, answer in backwards_problems("heldout", LENGTHS_READ)]


TASKS: Mapping[str, Task] = {
    "sums": Task(
        title="sums of two numbers up to 9, 49 and 99",
        recipe=TinyRecipe(),
        env="rllib_dapo/Mixture-v0",
        env_config=_plain_sums_env_config,
        max_prompt_tokens=16,
        max_response_tokens=8,
        buffer_tokens=2,
        heldout=_heldout_plain_sums,
    ),
    "written_sums": Task(
        title="written-out sums of two to four numbers up to 19",
        recipe=WrittenSumsRecipe(),
        env="rllib_dapo/Mixture-v0",
        env_config=_sums_env_config,
        max_prompt_tokens=16,
        max_response_tokens=16,
        buffer_tokens=4,
        heldout=_heldout_sums,
    ),
    "backwards": Task(
        title="words of three to eight letters backwards (reasoning-gym's spell_backward)",
        recipe=BackwardsRecipe(),
        env="rllib_dapo/ReasoningGym-v0",
        env_config=_backwards_env_config,
        max_prompt_tokens=80,
        max_response_tokens=16,
        buffer_tokens=6,
        heldout=_heldout_words,
    ),
}
