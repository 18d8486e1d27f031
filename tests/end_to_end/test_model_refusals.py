"""A model is trained rightly, or refused in one line before its first step."""

from __future__ import annotations

import importlib.util
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from rllib_dapo import DAPOConfig
from rllib_dapo.findings import SettingsError
from rllib_dapo.model_check.model_report import FILE_NAME, ModelReport
from rllib_dapo.run import preflight
from rllib_dapo.run.run_settings import read_settings

TOOLS = Path(__file__).parents[2] / "tools"
Make = Callable[..., DAPOConfig]


@pytest.fixture(scope="module")
def architectures() -> ModuleType:
    """`tools/architectures.py`."""
    spec = importlib.util.spec_from_file_location("architectures", TOOLS / "architectures.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["architectures"] = module
    spec.loader.exec_module(module)
    return module


def build(config: DAPOConfig) -> None:
    config.build_algo().stop()


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"max_response_tokens": 4096}, "rollout.max_response_tokens=4096"),
        ({"max_prompt_tokens": 511, "max_response_tokens": 2}, "rollout.max_prompt_tokens=511"),
    ],
)
def test_more_tokens_than_positions_are_refused_before_an_actor_starts(
    small_config: Make, settings: dict[str, int], said: str
) -> None:
    config = small_config(engine="transformers").rollout(**settings)
    with pytest.raises(ValueError, match="positions") as caught:
        build(config)
    assert said in str(caught.value)
    assert "512" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_command_refuses_them_before_ray_starts(raw_model: Path, tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text(
        f"base: tiny_arithmetic\nlanguage_model: {{name: {raw_model}}}\n"
        "rollout: {max_response_tokens: 20480}\noverlong: {buffer_tokens: 2}\n"
    )
    with pytest.raises(SettingsError, match=r"run\.yaml: .*rollout\.max_response_tokens=20480"):
        preflight.check_models(read_settings(file))


def test_the_report_on_the_model_stands_in_the_trials_folder(
    cluster: None, small_config: Make
) -> None:
    algo = small_config(engine="transformers").build_algo()
    try:
        text = (Path(algo.logdir) / FILE_NAME).read_text()
    finally:
        algo.stop()
    report = ModelReport.from_json(text)
    assert json.loads(text)["architecture"] == report.architecture == "LlamaForCausalLM"
    assert {finding.verdict for finding in report.findings} == {"right"}
    assert {"positions", "log-probabilities", "checkpoint"} <= {f.check for f in report.findings}


@pytest.mark.slow
def test_rows_are_not_shared_where_that_would_be_another_model(
    cluster: None, small_config: Make, architectures: ModuleType, tmp_path: Path, caplog: Any
) -> None:
    folder = architectures.make_model("BLOOM", tmp_path / "model")
    config = small_config(engine="transformers").language_model(str(folder), dtype="float32")
    algo = config.training(max_shared_row_tokens=64).build_algo()
    try:
        assert algo.config.max_shared_row_tokens == 0
        algo.train()
    finally:
        algo.stop()
    assert "shared rows: " in caplog.text
    assert "training.max_shared_row_tokens=0" in caplog.text


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("SmolLM3", "set env_runners.num_env_runners to 1, or rollout.engine to transformers"),
        ("Cohere 2", "that vLLM and transformers compute differently"),
        ("Qwen2, window", "rollout.engine=vllm cannot run"),
        ("Mamba", "rollout.engine=vllm cannot sample from"),
    ],
)
def test_what_vllm_cannot_run_rightly_is_refused_in_one_line(
    cluster: None,
    small_config: Make,
    architectures: ModuleType,
    tmp_path: Path,
    name: str,
    said: str,
) -> None:
    folder = architectures.make_model(name, tmp_path / "model")
    config = small_config(engine="vllm").language_model(str(folder), dtype="float32")
    with pytest.raises((ValueError, RuntimeError), match=said) as caught:
        build(config)
    assert "\n" not in str(caught.value)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("error", "said"),
    [
        (
            RuntimeError("this engine has not taken model.norm.weight"),
            "this engine has not taken model.norm.weight",
        ),
        (TypeError("cannot pickle this"), "TypeError: cannot pickle this"),
        (MemoryError(), "MemoryError: MemoryError"),
    ],
)
def test_an_engine_elsewhere_that_takes_no_weights_ends_the_run(
    cluster: None, small_config: Make, error: Exception, said: str
) -> None:
    """RLlib would log the error of a remote EnvRunner, restart it after a minute and go on."""
    config = small_config(engine="transformers", num_env_runners=1)
    config.dynamic_sampling(enabled=False).fault_tolerance(restart_failed_env_runners=True)

    def refuse_weights(runner: Any) -> None:
        def refuse(weights: Any) -> None:
            raise error

        runner.module["default_policy"].engine.load_weights = refuse

    algo = config.build_algo()
    try:
        algo.env_runner_group.foreach_env_runner(refuse_weights, local_env_runner=False)
        with pytest.raises(RuntimeError, match=rf"^EnvRunner 1 .*: {re.escape(said)}$"):
            algo.train()
    finally:
        algo.stop()


@pytest.mark.slow
def test_an_engine_elsewhere_that_cannot_sample_ends_the_run_at_its_start(
    cluster: None, small_config: Make
) -> None:
    config = small_config(engine="transformers", num_env_runners=1)
    config.rollout(engine_kwargs={"no_such_argument": 1})
    config.fault_tolerance(restart_failed_env_runners=True)
    with pytest.raises(RuntimeError, match=r"rollout\.engine=transformers cannot sample") as caught:
        build(config)
    assert "no_such_argument" in str(caught.value)
    assert "\n" not in str(caught.value)
