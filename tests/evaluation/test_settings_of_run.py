"""What an evaluation takes from the run that a checkpoint describes, and what it does not."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rllib_dapo import DAPOConfig
from rllib_dapo.checkpoint.json_values import NAME_KEY
from rllib_dapo.checkpoint.run_description import DESCRIPTION, describe_run, write_description
from rllib_dapo.envs.arithmetic import ArithmeticEnv
from rllib_dapo.evaluation.evaluation_settings import EvaluationSettings, read_evaluation
from rllib_dapo.evaluation.prepare_evaluation import prepare_evaluation
from rllib_dapo.findings import SettingsError
from rllib_dapo.learner.model_folder import MODULE_PATH

SUMS = "rllib_dapo/Arithmetic-v0"
Described = Callable[..., Path]


def _config(env: Any = SUMS, **env_config: Any) -> DAPOConfig:
    return (
        DAPOConfig()
        .environment(env, env_config={"max_operand": 49, **env_config})
        .language_model("tiny", dtype="float32", trust_remote_code=True)
        .rollout(engine="transformers", max_prompt_tokens=16, max_response_tokens=8)
        .evaluation(
            evaluation_config={"env_config": {"split": "heldout"}},
            evaluation_num_prompts=20,
            evaluation_samples_per_prompt=3,
            evaluation_top_p=0.9,
        )
        .debugging(seed=7)
    )


@pytest.fixture(params=["a checkpoint", "an exported model"])
def described(request: pytest.FixtureRequest, raw_model: Path, tmp_path: Path) -> Described:
    """Makes a folder that a run with this configuration has left, and nothing beside it."""

    def make(config: DAPOConfig, **changes: Any) -> Path:
        folder = tmp_path / "copied" / "renamed"
        model = folder / MODULE_PATH if request.param == "a checkpoint" else folder
        model.parent.mkdir(parents=True)
        model.symlink_to(tmp_path / "model")
        (tmp_path / "model").mkdir()
        for file in raw_model.iterdir():
            (tmp_path / "model" / file.name).symlink_to(file)
        write_description(describe_run(config, training_iteration=5, weights_version=20), model)
        if changes:
            content = json.loads((model / DESCRIPTION).read_text())
            for section, names in changes.items():
                content["settings"][section].update(names)
            (model / DESCRIPTION).write_text(json.dumps(content))
        return folder

    return make


def _notes(settings: EvaluationSettings, tmp_path: Path) -> list[str]:
    return list(prepare_evaluation(settings, output=tmp_path / "out", batch=None).notes)


def test_a_copy_is_evaluated_as_its_run_evaluated(described: Described, tmp_path: Path) -> None:
    settings = read_evaluation(str(described(_config())))
    (data_set,) = settings.data_sets
    assert data_set.environment.env == SUMS
    assert data_set.environment.env_config == {"max_operand": 49, "split": "heldout"}
    assert data_set.limit == 20

    config = settings.config
    assert (config.evaluation_samples_per_prompt, config.evaluation_top_p) == (3, 0.9)
    assert (config.max_prompt_tokens, config.max_response_tokens) == (16, 8)
    assert (config.engine, config.model_dtype, config.seed) == ("transformers", "float32", 7)
    assert settings.of_run.weights_version == 20
    assert config.trust_remote_code is False  # that is nobody's to give but the user's

    notes = _notes(settings, tmp_path)
    assert not [note for note in notes if note.startswith("other than") or "assumed" in note]
    assert any("language_model.trust_remote_code=true" in note for note in notes)


def test_the_system_prompt_of_the_run_is_asked_with(described: Described) -> None:
    config = _config().language_model(system_prompt="Be brief.")
    assert read_evaluation(str(described(config))).config.system_prompt == "Be brief."


def test_what_is_given_wins_and_what_differs_is_said(described: Described, tmp_path: Path) -> None:
    settings = read_evaluation(
        str(described(_config())),
        envs=[SUMS],
        overrides=["environment.env_config.max_operand=9", "rollout.max_response_tokens=8"],
        options={"evaluation.evaluation_samples_per_prompt": 2},
    )
    (data_set,) = settings.data_sets
    assert data_set.environment.env_config == {"max_operand": 9, "split": "heldout"}
    (told,) = [n for n in _notes(settings, tmp_path) if n.startswith("other than in the run: ")]
    assert set(told.removeprefix("other than in the run: ").split(", ")) == {
        "evaluation.evaluation_samples_per_prompt=2 (3 in the run)",
        "environment.env_config.max_operand=9 (49 in the run)",
    }


def test_another_environment_takes_none_of_the_runs_settings_and_that_is_said(
    described: Described,
) -> None:
    settings = read_evaluation(str(described(_config())), envs=["rllib_dapo/CalculatorMath-v0"])
    assert settings.data_sets[0].environment.env_config == {}
    assert settings.different == (
        f"another environment ({SUMS!r} in the run), with none of its settings",
    )


def test_an_environment_of_ones_own_comes_by_its_name(described: Described) -> None:
    settings = read_evaluation(str(described(_config(ArithmeticEnv))))
    assert settings.data_sets[0].environment.env is ArithmeticEnv


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ([], "environment.env_config.operations was a lambda of"),
        (["environment.env_config.operations=null"], None),
    ],
)
def test_what_could_not_be_stored_must_be_given(
    described: Described, given: list[str], told: str | None
) -> None:
    folder = described(_config(operations=lambda: "+"))
    if told is None:
        read_evaluation(str(folder), overrides=given)
        return
    with pytest.raises(SettingsError, match=told) as caught:
        read_evaluation(str(folder), overrides=given)
    assert "give it with --set environment.env_config.operations=" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_class_that_cannot_be_stored_is_said_to_be_missing(described: Described) -> None:
    class Mine(ArithmeticEnv):
        pass

    with pytest.raises(SettingsError, match=r"which environment\? .* was the class .*Mine of"):
        read_evaluation(str(described(_config(Mine))))


def test_a_function_of_the_runs_is_found_again(described: Described) -> None:
    folder = described(_config(template=read_evaluation))
    settings = read_evaluation(str(folder))
    assert settings.data_sets[0].environment.env_config["template"] is read_evaluation

    name = f"{write_description.__module__}:{write_description.__name__}"
    settings = read_evaluation(str(folder), overrides=[f"environment.env_config.template={name}"])
    assert settings.data_sets[0].environment.env_config["template"] is write_description


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"environment": {"env": "subprocess:Popen"}}, "code of Python's standard library"),
        ({"environment": {"env": "pandas:DataFrame"}}, "is not a gymnasium.Env"),
        (
            {"environment": {"env_config": {"scorer": {NAME_KEY: "os:system"}}}},
            "code of Python's standard library",
        ),
        (
            {"environment": {"env_config": {"scorer": "os:system"}}},
            "code of Python's standard library",
        ),
        (
            {"environment": {"env_config": {"scorer": {NAME_KEY: "no_such_module:f"}}}},
            "no_such_module cannot be imported",
        ),
        ({"environment": {"env": "rllib_dapo/Gone-v0"}}, "no such environment"),
        ({"rollout": {"max_response_tokens": "many"}}, "must be a whole number"),
    ],
    ids=str,
)
def test_a_file_that_names_what_it_must_not_is_refused(
    described: Described, changes: dict[str, Any], told: str
) -> None:
    with pytest.raises(SettingsError, match=told) as caught:
        read_evaluation(str(described(_config(), **changes)))
    assert DESCRIPTION in str(caught.value)
    assert "\n" not in str(caught.value)


def test_engine_settings_that_may_name_code_are_not_taken_and_that_is_said(
    described: Described, tmp_path: Path
) -> None:
    config = _config().rollout(
        engine_kwargs={"num_beams": 2, "trust_remote_code": True, "custom_generate": "me/code"}
    )
    settings = read_evaluation(str(described(config)))
    assert settings.config.engine_kwargs == {"num_beams": 2}
    told = " ".join(_notes(settings, tmp_path))
    assert "rollout.engine_kwargs.custom_generate='me/code' of the run is not taken" in told
    assert "rollout.engine_kwargs.trust_remote_code=True of the run is not taken" in told


@pytest.mark.parametrize("kind", ["checkpoint", "model"])
def test_what_is_assumed_without_a_description_is_said_in_one_line(
    raw_model: Path, tmp_path: Path, kind: str
) -> None:
    folder = raw_model
    if kind == "checkpoint":
        folder = tmp_path / "old"
        (folder / MODULE_PATH).parent.mkdir(parents=True)
        (folder / MODULE_PATH).symlink_to(raw_model)
    settings = read_evaluation(
        str(folder),
        envs=[SUMS],
        overrides=["rollout.max_prompt_tokens=16", "rollout.max_response_tokens=8"],
        options={"evaluation.evaluation_samples_per_prompt": 2},
    )
    (told,) = [note for note in _notes(settings, tmp_path) if "assumed" in note]
    assert told == (
        f"{folder}: this {kind} does not describe a run, so these are assumed: temperature 1.0, "
        "top_p 0.7, dtype bfloat16, engine vllm, seed 0"
    )
