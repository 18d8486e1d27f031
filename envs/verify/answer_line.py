"""The answer line, read as the public DAPO recipe asks for it.

The recipe's own checker takes less than this rule does: see `dapo_recipe`.
"""

from __future__ import annotations

from functools import lru_cache

from rllib_dapo.envs.normalize import normalize_answer
from rllib_dapo.envs.verify.extract import ANSWER_LINE
from rllib_dapo.envs.verify.verdict import MissingReason, Verdict, missing

_TAIL = 300


def strict(response: str, answer: str) -> Verdict:
    """The last `Answer: ...` in the last 300 characters, compared as normalized text.

    Args:
        response: The model's text.
        answer: The ground truth; one of more than 300 characters cannot be judged.
    """
    if len(answer) > _TAIL:
        return missing(MissingReason.TOO_LONG, f"the ground truth has more than {_TAIL} characters")

    found = ANSWER_LINE.findall(response[-_TAIL:])
    if not found:
        return Verdict(is_correct=False, reason=f"no 'Answer:' line in the last {_TAIL} characters")

    prediction = normalize_answer(found[-1])
    # An empty prediction is never right, not even if normalization leaves nothing of the truth.
    return Verdict(
        is_correct=prediction != "" and prediction == normalized_truth(answer),
        prediction=prediction,
    )


# A group asks for the same truth group_size times.
@lru_cache(maxsize=4096)
def normalized_truth(answer: str) -> str:
    """Returns the one spelling of a ground truth of a few hundred characters at most."""
    return normalize_answer(answer)
