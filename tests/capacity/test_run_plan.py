"""Plans of whole runs: every preset, what does not fit, and the way out that is told."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rllib_dapo import DAPOConfig
from rllib_dapo.capacity.asked_hardware import asked_gpus, chosen_hardware
from rllib_dapo.capacity.hardware import GIB, GPUS, Hardware
from rllib_dapo.capacity.model_shape import ModelShape, model_shape
from rllib_dapo.capacity.plan_findings import plan_findings
from rllib_dapo.capacity.plan_table import duration, gib, plan_lines
from rllib_dapo.capacity.run_plan import RunPlan, make_plan, plan_as_json
from rllib_dapo.run import preflight
from rllib_dapo.run.memory_warnings import memory_warnings
from rllib_dapo.run.planned_configs import planned_configs
from rllib_dapo.run.preset_files import preset_files
from rllib_dapo.run.run_settings import read_settings

Make = Callable[..., DAPOConfig]
# All but a file for evaluations, and a base without a model.
TRAINING = [n for n in preset_files() if n not in ("evaluate_aime2024", "two_cores")]
LAPTOP = Hardware(name="a laptop", cpus_per_node=4, memory_per_node=8 * GIB)


def _plan(shape: ModelShape, config: DAPOConfig, kind: str = "h100-80gb") -> RunPlan:
    return make_plan(config, shape, chosen_hardware(asked_gpus([config]), kind))


def _findings(shape: ModelShape, config: DAPOConfig, kind: str = "h100-80gb") -> list[str]:
    return plan_findings(_plan(shape, config, kind), config)


@pytest.mark.parametrize("name", TRAINING)
def test_every_preset_is_planned_in_seconds(name: str) -> None:
    started = time.monotonic()
    configs, run = planned_configs(preset_files()[name], [])
    hardware = chosen_hardware(asked_gpus(configs), "h100-80gb")
    for config in configs:
        plan = make_plan(config, model_shape(str(config.model_name), fetch=False), hardware)
        lines = plan_lines(plan, name=run, model=str(config.model_name))
        assert max(map(len, lines)) <= 80
        assert plan_as_json(plan)["model"]["parameters"] == plan.shape.parameters
    assert time.monotonic() - started < 60  # 10 on an idle machine


@pytest.mark.parametrize("name", [n for n in TRAINING if n != "dapo"])
def test_every_preset_fits_what_it_is_for(name: str) -> None:
    """All but `dapo`, whose one Learner is for a smaller model, as its header says."""
    kind = "rtx4090-24gb" if name == "one_gpu_0.5b" else "h100-80gb"
    configs, _ = planned_configs(preset_files()[name], [])
    hardware = chosen_hardware(asked_gpus(configs), kind)
    if not asked_gpus(configs):
        hardware = LAPTOP
    for config in configs:
        shape = model_shape(str(config.model_name), fetch=False)
        assert plan_findings(make_plan(config, shape, hardware), config) == []


def test_the_way_out_of_a_full_learner_is_one_that_fits(large: ModelShape, config: Make) -> None:
    (finding,) = _findings(large, config(gradient_checkpointing=True, num_env_runners=0))[:1]
    assert "a Learner needs" in finding
    assert "learners.num_learners to 16 and deepspeed.config" in finding
    cured = config(
        gradient_checkpointing=True,
        num_learners=16,
        deepspeed_config={"zero_optimization": {"stage": 3}},
    )
    assert _plan(large, cured).learner_fits


def test_the_cheapest_way_out_comes_first(small: ModelShape, config: Make) -> None:
    crowded = config(max_tokens_per_microbatch=65_536)
    (finding,) = _findings(small, crowded)
    assert finding.endswith("set training.max_tokens_per_microbatch to 4096")
    longer = config(max_response_tokens=31_744, max_tokens_per_microbatch=4096)
    (finding,) = _findings(small, longer, "a100-40gb")
    assert finding.endswith("set language_model.gradient_checkpointing to true")


def test_an_engine_without_room_for_one_response_is_told_how_to_get_it(
    large: ModelShape, config: Make
) -> None:
    made = config(max_response_tokens=60_000, num_learners=16, gradient_checkpointing=True)
    made.deepspeed_config = {"zero_optimization": {"stage": 3}}
    findings = _findings(large, made)
    (finding,) = [text for text in findings if text.startswith("an engine")]
    assert finding.endswith("set rollout.tensor_parallel_size to 2")


def test_a_cache_on_cpus_that_holds_no_response_is_found(small: ModelShape, config: Make) -> None:
    made = config(
        num_gpus_per_env_runner=0,
        num_gpus_per_learner=0,
        cpu_kv_cache_gib=0.01,
        gradient_checkpointing=True,
    )
    findings = plan_findings(make_plan(made, small, replace(LAPTOP, memory_per_node=None)), made)
    assert findings == [
        "an engine has 0.0 GiB left for keys and values, too few for one sequence of 4096 tokens: "
        "rollout.cpu_kv_cache_gib=0.01 must be at least 0.047"
    ]


def test_engines_that_share_a_gpu_must_share_its_memory(small: ModelShape, config: Make) -> None:
    made = config(num_env_runners=2, num_gpus_per_env_runner=0.5, gradient_checkpointing=True)
    assert any("gpu_memory_utilization to 0.47" in text for text in _findings(small, made))


@pytest.mark.parametrize(
    ("hardware", "told"),
    [
        (LAPTOP, "asks for 2 GPUs and a laptop has none"),
        (
            Hardware(name="one GPU", gpus_per_node=1, gpu=GPUS["h100-80gb"]),
            "asks for 2 GPUs and one GPU has 1",
        ),
    ],
)
def test_too_few_gpus_are_found(
    hardware: Hardware, told: str, small: ModelShape, config: Make
) -> None:
    made = config(gradient_checkpointing=True)
    assert any(told in text for text in plan_findings(make_plan(made, small, hardware), made))


def test_learners_of_one_machine_may_not_fit_while_they_load(
    large: ModelShape, config: Make
) -> None:
    made = config(num_learners=8, gradient_checkpointing=True)
    made.deepspeed_config = {"zero_optimization": {"stage": 2}}
    hardware = replace(chosen_hardware(16, "h200"), memory_per_node=500 * GIB)
    findings = plan_findings(make_plan(made, large, hardware), made)
    assert any("main memory: each Learner of a machine reads the whole" in f for f in findings)


def test_with_settings_of_engines_over_several_gpus(large: ModelShape, config: Make) -> None:
    """The degree may be a setting of our own or vLLM's argument; both give the same plan."""
    one = config(engine_kwargs={"tensor_parallel_size": 4})
    other = config()
    other.tensor_parallel_size = 4
    assert _plan(large, one).engine == _plan(large, other).engine


def test_sizes_and_durations_are_told_briefly() -> None:
    assert [gib(size) for size in (5e5, 2e9, 2e11)] == ["0 MiB", "1.9 GiB", "186 GiB"]
    times = [duration(s) for s in (0.0123, 3.21, 77, 3000, 90_000)]
    assert times == ["12 ms", "3.2 s", "77 s", "50 min", "25.0 h"]


# The warning of `train`


def test_train_warns_of_a_machine_that_is_too_small(config: Make) -> None:
    made = config(num_gpus_per_env_runner=0, num_gpus_per_learner=0)
    found = memory_warnings([made], LAPTOP)
    assert list(found.values()) == [made]
    assert "a Learner needs" in next(iter(found))
    assert "rllib-dapo plan" in next(iter(found))


@pytest.mark.parametrize("name", ["tiny", "some-lab/not-at-hand"])
def test_train_is_silent_on_what_fits_or_is_not_known(name: str, config: Make) -> None:
    settings: dict[str, Any] = {"num_gpus_per_env_runner": 0, "num_gpus_per_learner": 0}
    assert memory_warnings([config(model_name=name, **settings)], LAPTOP) == {}


def test_files_say_how_large_a_model_is(config: Make, raw_model: Path) -> None:
    made = config(model_name=str(raw_model), num_gpus_per_env_runner=0, num_gpus_per_learner=0)
    small = replace(LAPTOP, memory_per_node=2**25)
    assert any("a Learner needs" in finding for finding in memory_warnings([made], small))


def test_the_warning_is_one_of_those_before_a_run() -> None:
    """A Learner of 72 billion parameters wants more than a terabyte on a CPU."""
    settings = read_settings(
        preset_files()["tiny_arithmetic"], ["language_model.name=Qwen/Qwen2.5-72B"]
    )
    told = [line for line in preflight.warnings(settings) if "a Learner needs" in line]
    # Where a cluster is running, its machines are not this one.
    assert len(told) == (0 if preflight.uses_cluster() else 1)
    assert all("\n" not in line for line in told)
