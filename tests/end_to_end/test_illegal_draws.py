"""Whatever a space from plain Tune draws, an illegal draw ends one trial and never the sweep."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rllib_dapo import DAPO, DAPOConfig

SCRIPT = """
import json, sys
from ray import tune
import rllib_dapo
from rllib_dapo.ray_internals import start_ray

model, storage = sys.argv[1:]
config = (
    rllib_dapo.DAPOConfig()
    .environment("rllib_dapo/Arithmetic-v0", env_config={"max_operand": 4})
    .language_model(model, dtype="float32", num_threads=1)
    .rollout(engine="transformers", max_prompt_tokens=16, max_response_tokens=6)
    .env_runners(num_env_runners=0)
    .training(prompts_per_step=2, group_size=4, minibatch_size=4)
    .training(
        epsilon_low=tune.grid_search([0.1, 0.2, 0.3]),
        epsilon_high=tune.grid_search([0.15, 0.2, 0.25]),
    )
    .dynamic_sampling(enabled=False)
)
start_ray(num_cpus=2, include_dashboard=False, logging_level="ERROR")
results = tune.Tuner(
    "DAPO",
    param_space=config,
    tune_config=tune.TuneConfig(reuse_actors=True),
    run_config=tune.RunConfig(stop={"training_iteration": 1}, storage_path=storage, verbose=0),
).fit()
print("RESULT", json.dumps([
    {
        "bounds": [result.config[name] for name in ("epsilon_low", "epsilon_high")],
        "returns": result.metrics["env_runners"]["episode_return_mean"],
    }
    if result.error is None
    else {"cause": str(result.error).splitlines()[-1]}
    for result in results
]))
"""


@pytest.mark.slow
def test_a_grid_over_both_bounds_gives_results_for_every_legal_point(
    run_python: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path, raw_model: Path
) -> None:
    done = run_python("-c", SCRIPT, raw_model, tmp_path / "results", folder=tmp_path)
    lines = [line for line in done.stdout.splitlines() if line.startswith("RESULT ")]
    assert lines, done.stderr[-3000:]  # `fit` has returned

    trials = json.loads(lines[0].removeprefix("RESULT "))
    assert len(trials) == 9
    finished = [trial for trial in trials if "returns" in trial]
    assert sorted(trial["bounds"] for trial in finished) == [
        [0.1, 0.15],
        [0.1, 0.2],
        [0.1, 0.25],
        [0.2, 0.2],
        [0.2, 0.25],
    ]
    assert all(-1 <= trial["returns"] <= 1 for trial in finished)

    causes = sorted(trial["cause"] for trial in trials if "cause" in trial)
    pairs = [(0.15, 0.2), (0.15, 0.3), (0.2, 0.3), (0.25, 0.3)]
    assert causes == [
        f"ValueError: training.epsilon_high={high} must not be under epsilon_low={low}: raise "
        "epsilon_high, or lower epsilon_low"
        for high, low in pairs
    ]


@pytest.mark.parametrize(
    "drawn",
    [
        {"epsilon_low": 0.3, "epsilon_high": 0.2},
        {"lr": -1.0},
        {"lr": "fast"},
        {"group_size": 1},
        {"minibatch_size": 7},
        {"num_env_runners": "two"},
        {"num_learners": None},
        {"evaluation_config": {"env_config": 3}},
        {"evaluation_duration": "auto"},
        {"train_batch_size": 1},
    ],
)
def test_tune_makes_a_trial_of_every_draw(drawn: dict[str, Any]) -> None:
    """In Tune's own process nothing is refused; the trial itself then refuses."""
    config = DAPOConfig().environment("rllib_dapo/Arithmetic-v0").language_model("tiny")
    settings = config.to_dict() | drawn
    assert DAPO.default_resource_request(settings).required_resources == {"CPU": 1}
    with pytest.raises((ValueError, TypeError)) as refused:
        DAPO(config=settings)
    assert "\n" not in str(refused.value)


def test_a_trial_with_legal_settings_asks_for_what_it_needs() -> None:
    config = DAPOConfig().environment("rllib_dapo/Arithmetic-v0").language_model("tiny")
    config.env_runners(num_env_runners=3).learners(num_learners=2)
    for settings in (config, config.to_dict()):
        assert DAPO.default_resource_request(settings).required_resources["CPU"] > 3
