"""Environments of hubs, and mixtures, in whole runs."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from transformers import LlamaForCausalLM

from rllib_dapo import DAPOConfig
from rllib_dapo.models.tiny import TinyRecipe, make_tokenizer, tiny_config

RUN_FILE = Path(__file__).parents[2] / "examples" / "hubs.yaml"
TASKSETS = Path(__file__).parents[1] / "envs" / "adapters" / "tasksets"

GEM = '{env: rllib_dapo/Gem-v0, env_config: {task: "game:GuessTheNumber-v0-easy"}}'
CASES = {
    "gem": ("gem", GEM),
    "textarena": (
        "textarena",
        "{env: rllib_dapo/TextArena-v0, env_config: {task: GuessTheNumber-v0}}",
    ),
    "skyrl-gym": (
        "skyrl_gym",
        "{env: rllib_dapo/SkyRLGym-v0, env_config: "
        "{task: gsm8k_multi_turn, problems: rllib_dapo/Arithmetic-v0, max_turns: 3}}",
    ),
    "verifiers": (
        "verifiers",
        "{env: rllib_dapo/Verifiers-v0, env_config: {task: sums_taskset}}",
    ),
}


def _needs(package: str) -> None:
    if find_spec(package) is None:
        pytest.skip(f"needs the package {package}")


@pytest.fixture(scope="module")
def long_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model, untrained, for texts that are longer than the sums that it is made for."""
    folder = tmp_path_factory.mktemp("long_model")
    torch.manual_seed(0)
    recipe = TinyRecipe(hidden_size=64, intermediate_size=128, num_layers=1, max_positions=4096)
    LlamaForCausalLM(tiny_config(recipe)).save_pretrained(folder)
    make_tokenizer().save_pretrained(folder)
    return folder


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", CASES)
def test_an_environment_of_a_hub_trains_by_one_changed_line(
    name: str,
    run_command: Callable[..., subprocess.CompletedProcess[str]],
    long_model: Path,
    tmp_path: Path,
) -> None:
    package, line = CASES[name]
    _needs(package)
    lines = RUN_FILE.read_text().splitlines()
    (place,) = (i for i, text in enumerate(lines) if text.startswith("environment:"))
    lines[place] = f"environment: {line}"
    (tmp_path / "run.yaml").write_text("\n".join(lines))
    tasksets = tmp_path / "tasksets"
    shutil.copytree(TASKSETS, tasksets)

    done = run_command(
        "train",
        "run.yaml",
        "--storage",
        "runs",
        folder=tmp_path,
        environment={"PYTHONPATH": f"{Path(__file__).parents[2]}:{tasksets}"},
        settings={
            "language_model.name": long_model,
            "language_model.dtype": "float32",
            "rollout.max_prompt_tokens": 2048,
            "rollout.max_response_tokens": 1024,
            "rollout.cpu_kv_cache_gib": 0.25,
            "training.prompts_per_step": 4,
        },
    )
    assert done.returncode == 0, done.stdout + done.stderr

    (path,) = tmp_path.glob("runs/*/*/result.json")
    results = [json.loads(text) for text in path.read_text().splitlines()]
    assert len(results) == 3
    for result in results:
        figures = result["env_runners"]
        assert figures["groups_accepted"] == 4
        assert figures["missing_reward_fraction"] == 0
        assert figures["groups_prompt_lost"] == 0
        assert result["learners"]["default_policy"]["gradient_updates"] >= 1


@pytest.mark.slow
def test_a_mixture_trains_in_exact_shares_and_tells_of_each_environment(
    long_model: Path, cluster: None
) -> None:
    _needs("gem")
    game = {
        "env": "rllib_dapo/Gem-v0",
        "env_config": {"task": "game:GuessTheNumber-v0-easy", "verify_processes": 2},
        "name": "game",
    }
    sums = {"env": "rllib_dapo/Arithmetic-v0", "weight": 3}
    algo = (
        DAPOConfig()
        .environment("rllib_dapo/Mixture-v0", env_config={"environments": [sums, game]})
        .language_model(str(long_model), dtype="float32", num_threads=1)
        .rollout(engine="transformers", max_prompt_tokens=2048, max_response_tokens=32)
        .training(prompts_per_step=4, group_size=2, minibatch_size=8)
        .dynamic_sampling(enabled=False)
        .overlong(buffer_tokens=8)
        .env_runners(num_env_runners=0)
        .evaluation(
            evaluation_interval=1, evaluation_num_prompts=4, evaluation_samples_per_prompt=1
        )
        .build_algo()
    )
    try:
        results = [algo.train() for _ in range(2)]
    finally:
        algo.stop()

    for result in results:
        figures = result["env_runners"]
        assert figures["environment_groups/Arithmetic"] == 3
        assert figures["environment_groups/game"] == 1
        assert figures["environment_groups_accepted/Arithmetic"] == 3
        assert figures["environment_groups_accepted/game"] == 1
        assert figures["environment_accuracy/Arithmetic"] == 0
        assert figures["environment_reward/Arithmetic"] == -1
        assert figures["environment_reward/game"] == pytest.approx(-0.1)
        assert figures["environment_missing/game"] == 0
        assert figures["environment_response_length/game"] > 0
        assert result["evaluation"]["env_runners"]["environment_groups/game"] == 1
