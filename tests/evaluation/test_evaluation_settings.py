"""What `rllib-dapo evaluate` makes of its arguments."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from rllib_dapo.evaluation.evaluation_settings import (
    EvaluationSettings,
    read_evaluation,
    short_name,
)
from rllib_dapo.findings import SettingsError
from rllib_dapo.learner.model_folder import MODULE_PATH

SUMS = "rllib_dapo/Arithmetic-v0"
PROBLEMS = "rllib_dapo/Math-v0"


def _read(folder: Path, text: str, **arguments: Any) -> EvaluationSettings:
    file = folder / "held_out.yaml"
    file.write_text(text)
    return read_evaluation("tiny", file=file, **arguments)


def _asked(settings: EvaluationSettings) -> dict[str, tuple[Any, dict[str, Any], int | None]]:
    return {
        d.name: (d.environment.env, dict(d.environment.env_config), d.limit)
        for d in settings.data_sets
    }


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """The folders of a checkpoint, and what Tune writes beside it."""
    folder = tmp_path / "trial_00000" / "checkpoint_000003"
    (folder / MODULE_PATH).mkdir(parents=True)
    (folder / MODULE_PATH / "config.json").write_text("{}")
    params = {
        "env": SUMS,
        "env_config": {"max_operand": 49, "template": "{expression} is "},
        "evaluation_config": {"env_config": {"split": "heldout"}, "lr": 1},
        "evaluation_num_prompts": 128,
        "evaluation_samples_per_prompt": 8,
        "evaluation_top_p": 1.0,
        "model_dtype": "float32",
        "max_response_tokens": 8,
        "trust_remote_code": True,
        "lr": 1e-5,
    }
    (folder.parent / "params.json").write_text(json.dumps(params))
    return folder


def test_an_environment_is_enough_and_the_recipe_is_the_default() -> None:
    settings = read_evaluation("tiny", envs=[SUMS])
    assert _asked(settings) == {"Arithmetic-v0": (SUMS, {}, None)}
    config = settings.config
    assert (
        config.evaluation_samples_per_prompt,
        config.evaluation_temperature,
        config.evaluation_top_p,
    ) == (
        32,
        1,
        0.7,
    )
    assert (config.model_name, config.num_env_runners) == ("tiny", 0)


def test_options_win_over_overrides_and_these_over_the_file(tmp_path: Path) -> None:
    text = f"""
environment: {{env: {SUMS}, env_config: {{max_operand: 9}}}}
evaluation: {{evaluation_samples_per_prompt: 4, evaluation_top_p: 0.5,
  evaluation_temperature: 0.25}}
rollout: {{max_response_tokens: 6}}
language_model: {{name: smollm2-135m, dtype: float32}}
training: {{minibatch_size: 7}}
tune: {{num_samples: 3}}
"""
    settings = _read(
        tmp_path,
        text,
        overrides=["evaluation.evaluation_samples_per_prompt=5", "evaluation.evaluation_top_p=0.6"],
        options={"evaluation.evaluation_samples_per_prompt": 6},
    )
    config = settings.config
    assert (
        config.evaluation_samples_per_prompt,
        config.evaluation_top_p,
        config.evaluation_temperature,
    ) == (
        6,
        0.6,
        0.25,
    )
    assert (config.max_response_tokens, config.model_name, config.model_dtype) == (
        6,
        "tiny",
        "float32",
    )
    config.validate()  # what only training looks at is left out


def test_a_file_names_several_data_sets_and_what_they_share(tmp_path: Path) -> None:
    text = f"""
environment: {{env: {PROBLEMS}, env_config: {{answer_rule: boxed, path: all.jsonl}}}}
datasets:
  easy: {{env_config: {{path: easy.jsonl}}}}
  hard: {{env_config: {{answer_rule: strict}}, limit: 5}}
  sums: {{env: {SUMS}, env_config: {{digits: 1}}}}
"""
    settings = _read(
        tmp_path,
        text,
        overrides=["datasets.sums.env_config.digits=3", "environment.env_config.seed=1"],
    )
    here = Path.cwd()
    assert _asked(settings) == {
        "easy": (
            PROBLEMS,
            {"answer_rule": "boxed", "path": str(here / "easy.jsonl"), "seed": 1},
            None,
        ),
        "hard": (
            PROBLEMS,
            {"answer_rule": "strict", "path": str(here / "all.jsonl"), "seed": 1},
            5,
        ),
        "sums": (SUMS, {"digits": 3}, None),
    }


def test_a_training_file_is_evaluated_where_training_would_evaluate(tmp_path: Path) -> None:
    text = f"""
environment: {{env: {SUMS}, env_config: {{max_operand: 9}}}}
evaluation:
  evaluation_interval: 5
  evaluation_num_prompts: 20
  evaluation_config: {{env_config: {{split: heldout}}}}
"""
    assert _asked(_read(tmp_path, text)) == {
        "Arithmetic-v0": (SUMS, {"max_operand": 9, "split": "heldout"}, 20)
    }


def test_a_checkpoint_brings_the_settings_of_its_run(checkpoint: Path) -> None:
    settings = read_evaluation(str(checkpoint))
    expected = {"max_operand": 49, "template": "{expression} is ", "split": "heldout"}
    assert _asked(settings) == {"Arithmetic-v0": (SUMS, expected, 128)}
    config = settings.config
    assert (
        config.evaluation_samples_per_prompt,
        config.evaluation_top_p,
        config.max_response_tokens,
    ) == (8, 1.0, 8)
    assert config.model_dtype == "float32"
    assert config.trust_remote_code is False  # that is nobody's to give but the user's
    assert settings.checkpoint == checkpoint


def test_an_environment_of_ones_own_leaves_nothing_of_the_runs(checkpoint: Path) -> None:
    other = read_evaluation(
        str(checkpoint), envs=[PROBLEMS], overrides=["environment.env_config.path=p.jsonl"]
    )
    assert _asked(other) == {"Math-v0": (PROBLEMS, {"path": str(Path.cwd() / "p.jsonl")}, 128)}
    same = read_evaluation(
        str(checkpoint), envs=[SUMS], overrides=["environment.env_config.max_operand=9"]
    )
    expected = {"max_operand": 9, "template": "{expression} is ", "split": "heldout"}
    assert _asked(same) == {"Arithmetic-v0": (SUMS, expected, 128)}


def test_several_environments_may_be_named() -> None:
    settings = read_evaluation(
        "tiny", envs=[SUMS, PROBLEMS], overrides=["datasets.Math-v0.limit=3"]
    )
    assert _asked(settings) == {"Arithmetic-v0": (SUMS, {}, None), "Math-v0": (PROBLEMS, {}, 3)}


@pytest.mark.parametrize(
    ("text", "arguments", "told"),
    [
        ("", {}, "must hold sections"),
        ("rollout: {}", {}, "which environment? name one: --env"),
        ("rollouts: {}", {}, "unknown section 'rollouts'; did you mean 'rollout'?"),
        ("datasets: []", {}, "datasets=[] must be names"),
        ("datasets: {a: 3}", {}, "datasets.a=3 must hold env, env_config or limit"),
        ("datasets: {a.b: {}}", {}, "a data set's name is made of letters"),
        ("datasets: {a: {}}", {}, "datasets.a: has no env, and environment.env is not set"),
        (
            f"datasets: {{a: {{evn: {SUMS}}}}}",
            {},
            "datasets.a: unknown setting 'evn'; did you mean 'env'?",
        ),
        (
            f"datasets: {{a: {{env: {SUMS}, limit: 0}}}}",
            {},
            "datasets.a.limit=0 must be a whole number of at least 1",
        ),
        (
            f"datasets: {{a: {{env: {SUMS}, env_config: 3}}}}",
            {},
            "datasets.a.env_config=3 must have settings under it",
        ),
        (
            "datasets: {a: {env: rllib_dapo/Maths-v0}}",
            {},
            "no such environment; did you mean 'rllib_dapo/Math-v0'?",
        ),
        (
            "rollout: {}",
            {"overrides": ["training.lr=1"]},
            "--set training.lr=1: training has no part in an evaluation",
        ),
        (
            "rollout: {}",
            {"overrides": ["rolout.top_p=1"]},
            "unknown section 'rolout'; did you mean 'rollout'?",
        ),
        ("rollout: {}", {"envs": [SUMS, SUMS]}, "two are called 'Arithmetic-v0'"),
    ],
)
def test_what_cannot_be_read_is_said_in_one_line(
    tmp_path: Path, text: str, arguments: dict[str, Any], told: str
) -> None:
    with pytest.raises(SettingsError) as caught:
        _read(tmp_path, text, **arguments)
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


def test_short_names_make_folders() -> None:
    assert short_name(SUMS) == "Arithmetic-v0"
    assert short_name("my.module:MyEnv") == "MyEnv"
    assert short_name(Path) == "Path"
