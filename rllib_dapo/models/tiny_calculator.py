"""The tiny model, warmed up to know of a calculator: enough to learn when to use it."""

from __future__ import annotations

import random
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING, ClassVar

from rllib_dapo.models.tiny import Record, TinyRecipe

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(frozen=True, kw_only=True, slots=True)
class CalculatorRecipe(TinyRecipe):
    """A tiny model that computes products such as `17*23=` itself or with a calculator.

    In some of its training records the product is answered at once, in others with a call. A call
    is `[17*23]`. The observation that follows is the result, `391=`, which the answer repeats.

    The model cannot multiply, so an answer without a call is mostly wrong. It also hedges on every
    digit, in the calls that it writes and in the results that it repeats. What remains for RL to
    teach is that calling pays and that digits have to be copied with care.

    Attributes:
        call_share: Share of the records with a call.
    """

    max_operand: int = 49
    doubt: float = 0.2
    call_share: float = 0.4
    kind: ClassVar[str] = "tiny-calculator"

    def records(self) -> Iterator[Record]:
        """See `TinyRecipe.records`. No held-out problem is among them."""
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
                    problem.text,
                    f"[{problem.problem_id}]",
                    f"{problem.answer}=",
                    problem.answer,
                )
            else:
                yield problem.text, problem.answer
