"""Lists of problems."""

from __future__ import annotations

from rllib_dapo.evaluation.questions import Question, questions_fingerprint


def test_problems_are_told_apart() -> None:
    questions = [Question(seed=0, problem_id="a", prompt="1+1", answer="2")]
    others = [
        [],
        [*questions, *questions],
        [Question(seed=0, problem_id="a", prompt="1+1", answer="3")],
        [Question(seed=0, problem_id="a1", prompt="+1", answer="2")],
        [Question(seed=0, problem_id="a", prompt="1+1 \ud800", answer="2")],
    ]
    assert len({questions_fingerprint(one) for one in (questions, *others)}) == 6
