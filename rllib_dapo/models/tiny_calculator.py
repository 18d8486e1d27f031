"""The tiny model, warmed up to know that there is a calculator: enough to learn when to use it."""

from __future__ import annotations

import random
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING, ClassVar

from rllib_dapo.models.tiny import TinyRecipe

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(frozen=True, kw_only=True, slots=True)
class CalculatorRecipe(TinyRecipe):
    """A tiny model that answers products such as ``17*23=`` at once in some records, and calls a calculator in others.

    A call is ``[17*23]``; the next turn begins with the result, ``391=``, which the answer repeats.
    It cannot multiply, so an answer at once is mostly wrong; and it hedges on every digit, also of
    the calls it writes and of the results it repeats. That calling pays, and that it takes care, is
    what is left for RL to teach.

    Attributes:
        call_share: The share of records with a call.
    """

    max_operand: int = 49
    doubt: float = 0.2
    call_share: float = 0.4
    kind: ClassVar[str] = "tiny-calculator"

    def records(self) -> Iterator[tuple[str, ...]]:
        """See `TinyRecipe.records`; no held-out problem is among them."""
        from rllib_dapo.envs.arithmetic import ArithmeticEnv

        settings = {
            "operations": "*",
            "max_operand": self.max_operand,
            "seed": self.seed,
            "split": "train",
        }
        rng = random.Random(self.seed)
        for problem in map(ArithmeticEnv(settings).problem, count()):
            if rng.random() < self.call_share:
                yield (
                    problem.prompt,
                    f"[{problem.problem_id}]",
                    f"{problem.answer}=",
                    problem.answer,
                )
            else:
                yield problem.prompt, problem.answer
