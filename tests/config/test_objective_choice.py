"""Names of objectives and estimators: what is let through, what is refused, and who reads what."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import pytest
from torch import Tensor

from rllib_dapo import DAPOConfig
from rllib_dapo.config.value_checks import check_settings, settings_warnings


def valid_config(**training: Any) -> DAPOConfig:
    config = DAPOConfig().environment("rllib_dapo/Arithmetic-v0").language_model("tiny")
    return config.training(**training)


def plain(*, logprobs: Tensor, advantages: Tensor) -> Tensor:
    return -advantages * logprobs


def centred(*, rewards: Tensor) -> Tensor:
    return rewards - rewards.nanmean(-1, keepdim=True)


def without_address(value: Any) -> str:
    """A name of a case that is the same in every process."""
    return re.sub(r" at 0x[0-9a-f]+", "", str(value))


@pytest.mark.parametrize(
    "training",
    [
        {"objective": "clip", "dual_clip": 10.0},
        {"objective": "cispo", "epsilon_low": 1.0, "epsilon_high": 0.5},
        {"objective": "cispo", "ratio_level": "sequence"},
        {"objective": "sapo", "sapo_temperatures": [1.0, 2.0]},
        {"objective": "sapo", "epsilon_high": 0.2},  # what the presets grpo and ppo have
        {"objective": plain},
        {"advantage_estimator": "batch_std"},
        {"advantage_estimator": "reinforce_plus_plus_baseline", "objective": "cispo"},
        {"advantage_estimator": centred},
    ],
    ids=without_address,
)
def test_a_sound_choice_gives_no_finding(training: dict[str, Any]) -> None:
    config = valid_config(**training)
    assert list(check_settings(config)) == []
    config.validate()
    again = DAPOConfig.from_dict(config.to_dict())
    assert (again.objective, again.advantage_estimator) == (
        config.objective,
        config.advantage_estimator,
    )


@pytest.mark.parametrize(
    ("training", "finding"),
    [
        (
            {"objective": "cipso"},
            "training.objective='cipso' must be one of clip, cispo, sapo, or one of your own "
            "written package.module:function; did you mean 'cispo'?",
        ),
        ({"objective": "gspo"}, "training.objective='gspo' is training.ratio_level: sequence"),
        ({"objective": "grpo"}, "training.objective='grpo' is preset: grpo here"),
        ({"objective": 3}, "training.objective=3 must be one of clip, cispo, sapo or text or a"),
        ({"objective": "nowhere:loss"}, "training.objective='nowhere:loss': module nowhere cannot"),
        ({"objective": "math:lost"}, "training.objective='math:lost': module math has no 'lost'"),
        ({"objective": "math:pi"}, "which is not a function"),
        ({"objective": ":f"}, "must be written package.module:name"),
        (
            {"objective": lambda *, rewards: rewards},
            "its argument 'rewards' is none of those that are given by name: logprobs, old_",
        ),
        ({"objective": lambda *, ratio: ratio.mean()}, "gave () for losses"),
        (
            {"objective": "cispo", "dual_clip": 10.0},
            "training.dual_clip=10.0 is not read by training.objective='cispo': leave it at None",
        ),
        ({"objective": "sapo", "dual_clip": 10.0}, "training.dual_clip=10.0 is not read"),
        ({"objective": "sapo", "epsilon_high": 0.3}, "training.epsilon_high=0.3 is not read"),
        ({"objective": "sapo", "epsilon_low": 0.1}, "training.epsilon_low=0.1 is not read"),
        ({"sapo_temperatures": (1.0, 2.0)}, "is not read by training.objective='clip'"),
        ({"objective": plain, "ratio_level": "sequence"}, "training.ratio_level='sequence' is not"),
        ({"objective": "sapo", "sapo_temperatures": (0.0, 1.0)}, "must be positive, such as"),
        ({"objective": "sapo", "sapo_temperatures": 1.0}, "must be two numbers"),
        ({"objective": "cispo", "epsilon_low": 1.1}, "must lie in (0, 1]"),
        ({"objective": "cispo", "epsilon_high": 0.0}, "training.epsilon_high=0.0 must be positive"),
        ({"advantage_estimator": "batch"}, "must be one of group, leave_one_out, batch_std, "),
        ({"advantage_estimator": "nowhere:f"}, "module nowhere cannot be imported"),
        ({"advantage_estimator": lambda *, rewards: rewards[0]}, "gave torch.float64 (4,)"),
        (
            {"advantage_estimator": "batch_std", "normalize_advantages_by_std": False},
            "training.normalize_advantages_by_std=False is not read by training.advantage_estimator"
            "='batch_std'",
        ),
        (
            {"advantage_estimator": centred, "normalize_advantages_by_std": False},
            "leave it at true",
        ),
    ],
    ids=without_address,
)
def test_a_choice_that_cannot_be_is_refused_in_one_line(
    training: dict[str, Any], finding: str
) -> None:
    (found,) = check_settings(valid_config(**training))
    assert finding in found
    assert "\n" not in found
    with pytest.raises(ValueError, match=r"^training\."):
        valid_config(**training).validate()


@pytest.mark.parametrize("objective", ["cispo", "sapo", plain], ids=without_address)
def test_every_preset_takes_another_objective(objective: Any) -> None:
    for preset in (DAPOConfig.grpo, DAPOConfig.ppo):
        config = preset(valid_config()).training(objective=objective)
        assert list(check_settings(config)) == []
        assert preset(config).objective == "clip"


@pytest.mark.parametrize(
    ("objective", "told"),
    [
        ("clip", "epsilon_low, epsilon_high and dual_clip do nothing"),
        ("cispo", "so epsilon_low and epsilon_high do nothing"),
        ("sapo", "so sapo_temperatures do nothing"),
        (plain, None),
    ],
)
def test_with_one_update_per_rollout_the_bounds_of_an_objective_are_idle(
    objective: Any, told: str | None
) -> None:
    warnings = settings_warnings(valid_config(objective=objective, minibatch_size=8192))
    assert [told in warning for warning in warnings] == ([True] if told else [])


# The divergence and the bounds on tokens


@pytest.mark.parametrize(
    ("kl", "finding"),
    [
        ({"coefficient": 0.1, "importance_ratio": True}, None),
        ({"coefficient": 0.1, "importance_ratio": True, "estimator": "k1"}, None),
        ({"coefficient": 0.1, "importance_ratio": True, "estimator": "k2"}, "use k1 or k3"),
        (
            {"coefficient": 0.1, "importance_ratio": True, "placement": "reward"},
            "kl.importance_ratio=True does nothing with kl.placement=reward",
        ),
        ({"coefficient": 0.1, "estimator": "k1"}, "or kl.importance_ratio=true"),
        ({"importance_ratio": "yes"}, "true or false"),
    ],
)
def test_the_ratio_of_the_divergence(kl: dict[str, Any], finding: str | None) -> None:
    found = list(check_settings(valid_config().kl(**kl)))
    assert len(found) == (finding is not None)
    assert all(str(finding) in one for one in found)


def test_a_ratio_without_a_divergence_is_told() -> None:
    (told,) = settings_warnings(valid_config().kl(importance_ratio=True))
    assert told.startswith("kl.importance_ratio=True does nothing at kl.coefficient=0")


def test_bounds_on_tokens_lie_around_one_and_need_the_trainers_log_probabilities() -> None:
    config = valid_config().importance_sampling(token_bounds=[0.5, 5.0], cap=5.0)
    assert list(check_settings(config)) == []
    contradicted = list(check_settings(config.training(old_logprobs="sampler")))
    assert len(contradicted) == 2
    assert contradicted[1].startswith("importance_sampling.token_bounds=[0.5, 5.0] contradicts")
    (found,) = check_settings(valid_config().importance_sampling(token_bounds=(1.5, 2.0)))
    assert "importance_sampling.token_bounds=(1.5, 2.0) must be two numbers, one between" in found


def test_functions_are_found_beside_where_a_run_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "objectives_for_test.py").write_text(
        "def mine(*, ratio, advantages):\n    return -ratio * advantages\n"
        "def best(*, rewards):\n    return (rewards == rewards.nan_to_num(-9).amax()).double()\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    config = valid_config(
        objective="objectives_for_test:mine", advantage_estimator="objectives_for_test:best"
    )
    assert list(check_settings(config)) == []
