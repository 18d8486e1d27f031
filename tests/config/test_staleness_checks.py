"""`rollout.max_staleness`: what follows from it, and what is refused before anything starts."""

from __future__ import annotations

from typing import Any

import pytest

from rllib_dapo import DAPOConfig
from rllib_dapo.config.value_checks import check_settings


def stale(**settings: Any) -> DAPOConfig:
    return (
        DAPOConfig()
        .environment("rllib_dapo/Arithmetic-v0")
        .language_model("tiny")
        .rollout(max_staleness=1)
        .update_from_dict({"num_gpus_per_env_runner": 0, **settings})
    )


def test_it_is_off_by_default_and_switches_the_correction_on() -> None:
    assert DAPOConfig().max_staleness == 0
    assert DAPOConfig().applied_importance_cap is None
    assert list(check_settings(stale())) == []
    assert stale().applied_importance_cap == 2.0
    assert stale(importance_cap=3.0).applied_importance_cap == 3.0
    assert stale(max_staleness=0, importance_cap=3.0).applied_importance_cap == 3.0


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"max_staleness": -1}, "rollout.max_staleness=-1 must be at least 0"),
        ({"max_staleness": 0.5}, "rollout.max_staleness=0.5 must be a whole number"),
        (
            {"num_env_runners": 0},
            "rollout.max_staleness=1 samples while Learners train, and env_runners.num_env_runners"
            "=0 samples in the driver's process",
        ),
        ({"colocate": True}, "rollout.colocate=true has engines sleep while Learners train"),
        ({"lora": {"rank": 4}}, "language_model.lora would have engines drop the adapter"),
        (
            {"old_logprobs": "sampler"},
            "training.old_logprobs=sampler has no correction for what was sampled with older",
        ),
    ],
)
def test_contradictions_are_told_in_one_line(settings: dict[str, Any], said: str) -> None:
    lines = [line for line in check_settings(stale(**settings)) if "max_staleness" in line]
    assert len(lines) == 1
    assert said in lines[0]
    assert "\n" not in lines[0]


def test_groups_of_earlier_steps_are_reused_only_where_they_may_be_old() -> None:
    assert list(check_settings(stale(on_shortfall="reuse"))) == []
    (line,) = check_settings(stale(on_shortfall="reuse", max_staleness=0))
    assert line.startswith("dynamic_sampling.on_shortfall=reuse trains on groups of earlier steps")


def test_evaluation_which_rllib_gives_no_env_runners_is_no_contradiction() -> None:
    config = stale(evaluation_interval=1)
    evaluation = config.get_evaluation_config_object()
    assert evaluation is not None
    assert [line for line in check_settings(evaluation) if "staleness" in line] == []
