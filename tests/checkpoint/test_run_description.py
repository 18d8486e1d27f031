"""What a checkpoint says of its run is what the run was."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from rllib_dapo import DAPOConfig
from rllib_dapo.checkpoint.json_values import NAME_KEY
from rllib_dapo.checkpoint.run_description import (
    DESCRIPTION,
    describe_run,
    read_description,
    write_description,
)
from rllib_dapo.envs.arithmetic import ArithmeticEnv


def _described(config: DAPOConfig, folder: Path) -> Any:
    """What is read after it was written."""
    write_description(describe_run(config, training_iteration=3, weights_version=12), folder)
    return read_description(folder)


def _config(env: Any = "rllib_dapo/Arithmetic-v0", **env_config: Any) -> DAPOConfig:
    return DAPOConfig().environment(env, env_config=env_config).language_model("tiny")


def test_settings_come_back_by_their_names(tmp_path: Path) -> None:
    config = (
        _config(max_operand=49, operations="+-")
        .evaluation(
            evaluation_config={"env_config": {"split": "heldout", "max_operand": 9}},
            evaluation_temperature=0.5,
            evaluation_num_prompts=7,
        )
        .rollout(engine="transformers", engine_kwargs={"a": [1, 2.5, None, True]})
        .training(adam_betas=(0.9, 0.95))
        .debugging(seed=11)
    )
    found = _described(config, tmp_path)
    settings = found.settings
    assert (found.training_iteration, found.weights_version, found.left_out) == (3, 12, {})
    assert settings["environment"] == {
        "env": "rllib_dapo/Arithmetic-v0",
        "env_config": {"max_operand": 49, "operations": "+-"},
    }
    # Only what differs, so that what is given for training holds for evaluation too.
    assert settings["evaluation"]["evaluation_config"] == {
        "env_config": {"split": "heldout", "max_operand": 9}
    }
    assert settings["evaluation"]["evaluation_temperature"] == 0.5
    assert settings["rollout"]["engine_kwargs"] == {"a": [1, 2.5, None, True]}
    assert settings["training"]["adam_betas"] == [0.9, 0.95]
    assert settings["debugging"] == {"seed": 11}


def test_the_file_is_plain_json(tmp_path: Path) -> None:
    _described(_config(), tmp_path)
    (file,) = tmp_path.iterdir()
    assert file.name == DESCRIPTION
    assert json.loads(file.read_text())["settings"]["language_model"]["name"] == "tiny"


def test_classes_and_functions_are_named_where_that_finds_them_again(tmp_path: Path) -> None:
    class Local(gym.Env[Any, Any]):
        pass

    found = _described(
        _config(
            ArithmeticEnv,
            of_a_module=json.dumps,
            a_lambda=lambda: None,
            inside={"local": Local, "kept": 1},
            listed=[1, object()],
            path=tmp_path,
            number=np.float64(0.25),
            pair=(1, 2),
        ),
        tmp_path,
    )
    assert found.settings["environment"] == {
        "env": "rllib_dapo.envs.arithmetic:ArithmeticEnv",
        "env_config": {
            "of_a_module": {NAME_KEY: "json:dumps"},
            "inside": {"kept": 1},
            "path": str(tmp_path),
            "number": 0.25,
            "pair": [1, 2],
        },
    }
    start = "environment.env_config."
    assert found.left_out == {
        f"{start}a_lambda": f"a lambda of {__name__}",
        f"{start}inside.local": f"the class {Local.__qualname__} of {__name__}",
        f"{start}listed": "a list with a object",
    }
    assert "env" not in _described(_config(Local), tmp_path).settings["environment"]


def test_secrets_stay_out(tmp_path: Path) -> None:
    found = _described(
        _config(
            api_key="sk-1",
            hf_token="hf-1",
            url="https://me:secret@host/",
            max_tokens=5,
            password="",
        ),
        tmp_path,
    )
    kept = {"max_tokens": 5, "password": ""}
    assert found.settings["environment"]["env_config"] == kept
    assert set(found.left_out.values()) == {"a secret"}
    text = (tmp_path / DESCRIPTION).read_text()
    assert "sk-1" not in text
    assert "hf-1" not in text
    assert "me:secret" not in text


@pytest.mark.parametrize("text", ["", "{", "[]", '{"settings": 3}', '{"settings": {"rollout": 3}}'])
def test_another_file_of_that_name_is_refused_in_one_line(tmp_path: Path, text: str) -> None:
    (tmp_path / DESCRIPTION).write_text(text)
    with pytest.raises(ValueError, match=DESCRIPTION) as caught:
        read_description(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_folder_without_the_file_says_nothing(tmp_path: Path) -> None:
    assert read_description(tmp_path) is None
