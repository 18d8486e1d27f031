r"""The rule for models that write their answer into `\boxed{...}`."""

from __future__ import annotations

from rllib_dapo.envs.normalize import normalize_answer
from rllib_dapo.envs.verify.answer_line import normalized_truth
from rllib_dapo.envs.verify.extract import TAIL, last_box
from rllib_dapo.envs.verify.verdict import MissingReason, Verdict, missing

_LONGEST = 300  # normalizing takes time that grows with the square of the length


def boxed(response: str, answer: str) -> Verdict:
    r"""The last `\boxed{...}` with balanced braces, compared as normalized text.

    Args:
        response: The model's text; its last 2,000 characters count.
        answer: The ground truth, in a box or not; one of more than 300 characters cannot be judged.
    """
    if len(answer) > _LONGEST:
        return missing(
            MissingReason.TOO_LONG, f"the ground truth has more than {_LONGEST} characters"
        )

    box = last_box(response[-TAIL:])
    if box is None:
        return Verdict(is_correct=False, reason=rf"no \boxed{{}} in the last {TAIL} characters")
    if len(box.text) > _LONGEST:
        return Verdict(is_correct=False, reason=f"the box holds more than {_LONGEST} characters")
    prediction = normalize_answer(box.text)
    return Verdict(
        is_correct=prediction != "" and prediction == normalized_truth(answer),
        prediction=prediction,
    )
