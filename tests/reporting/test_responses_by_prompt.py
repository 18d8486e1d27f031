from __future__ import annotations

from typing import Any

import pandas as pd

from rllib_dapo.reporting.responses_by_prompt import (
    MOST_ITERATIONS,
    MOST_PROMPTS,
    MOST_RESPONSES,
    most_prompts,
    responses_by_prompt,
    shorten,
)
from rllib_dapo.reporting.stored_run import StoredTrial
from rllib_dapo.tracking.sample_record import Sample


def _sample(
    prompt: str, iteration: int, *, source: Any = "training", response: str = "7", seed: int = 0
) -> Sample:
    return Sample(
        iteration=iteration,
        source=source,
        seed=seed,
        prompt=prompt,
        response=response,
        verdict="wrong",
        reward=-1.0,
        reason="",
        prediction="",
        response_tokens=2,
        is_truncated=False,
        weights_version=0,
    )


def _trial(*samples: Sample) -> StoredTrial:
    return StoredTrial(
        trial_id="0",
        name="trial_00000",
        folder="/runs/run/trial_00000",
        status="finished",
        error="",
        config={},
        frame=pd.DataFrame(),
        checkpoints=(),
        samples=samples,
    )


def test_prompts_that_come_back_stand_first_with_their_iterations_in_order() -> None:
    samples = [_sample("once", 1), *(_sample("again", n, source="evaluation") for n in (4, 0, 2))]
    ((first, second),) = responses_by_prompt([_trial(*samples)])
    assert (first["prompt"], first["source"]) == ("again", "evaluation")
    assert [entry["iteration"] for entry in first["iterations"]] == [0, 2, 4]
    assert second["prompt"] == "once"


def test_the_same_prompt_under_two_seeds_is_one_prompt() -> None:
    ((prompt,),) = responses_by_prompt(
        [_trial(_sample("1+1=", 1, seed=3), _sample("1+1=", 1, seed=9))]
    )
    assert len(prompt["iterations"][0]["responses"]) == 2


def test_a_page_has_room_for_so_much_and_json_for_all() -> None:
    many = [_sample(f"prompt {p}", n) for p in range(MOST_PROMPTS + 5) for n in range(3)]
    often = [
        _sample("again", n) for n in range(MOST_ITERATIONS * 3) for _ in range(MOST_RESPONSES + 3)
    ]
    trial = _trial(*many, *often)
    (cut,), (whole,) = responses_by_prompt([trial]), responses_by_prompt([trial], is_cut=False)
    assert len(cut) == MOST_PROMPTS
    assert len(whole) == MOST_PROMPTS + 6
    iterations = [entry["iteration"] for entry in cut[0]["iterations"]]
    assert len(iterations) <= MOST_ITERATIONS
    assert (iterations[0], iterations[-1]) == (0, MOST_ITERATIONS * 3 - 1)
    assert {len(entry["responses"]) for entry in cut[0]["iterations"]} == {MOST_RESPONSES}
    assert {len(entry["responses"]) for entry in whole[0]["iterations"]} == {MOST_RESPONSES + 3}


def test_a_long_text_keeps_its_beginning_and_its_end() -> None:
    shown = shorten("a" * 5000 + "b" * 5000, 300)
    assert len(shown) < 400
    assert shown.startswith("a" * 200)
    assert shown.endswith("b" * 100)
    assert "9,700 characters" in shown
    assert shorten("short", 300) == "short"
    assert len(shorten("x" * 10_000, None)) == 10_000


def test_many_trials_have_fewer_prompts_each_and_at_least_one() -> None:
    assert most_prompts([[44] * 4] * 9) == MOST_PROMPTS
    assert most_prompts([[44] * 4] * 200) == 1
    assert most_prompts([[20] * 50] * 30) == 22
    assert most_prompts([[44]] * 10**4) == 1
