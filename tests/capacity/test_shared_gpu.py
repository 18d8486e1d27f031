"""One GPU in turns: its peak is the larger of both turns, and each side's share follows from it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from rllib_dapo import DAPOConfig
from rllib_dapo.capacity.asked_hardware import asked_gpus, chosen_hardware
from rllib_dapo.capacity.hardware import GIB
from rllib_dapo.capacity.model_shape import ModelShape
from rllib_dapo.capacity.plan_findings import plan_findings
from rllib_dapo.capacity.plan_table import plan_lines
from rllib_dapo.capacity.run_plan import RunPlan, make_plan, plan_as_json
from rllib_dapo.capacity.shared_gpu import ASLEEP, with_rest_of_learner
from rllib_dapo.rollout.vllm_settings import USABLE, share_beside, turn_arguments

Make = Callable[..., DAPOConfig]
KIND = "rtx4090-24gb"


@pytest.fixture
def shared(config: Make) -> Make:
    def make(**attributes: Any) -> DAPOConfig:
        shares = {"num_gpus_per_env_runner": 0.6, "num_gpus_per_learner": 0.4}
        given = {"colocate": True, "gradient_checkpointing": True, **shares, **attributes}
        return config(**given)

    return make


def _plan(shape: ModelShape, config: DAPOConfig, kind: str = KIND) -> RunPlan:
    return make_plan(config, shape, chosen_hardware(asked_gpus([config]), kind))


def test_a_pair_asks_for_one_gpu_and_each_turn_has_all_of_it(
    small: ModelShape, shared: Make, config: Make
) -> None:
    made = shared()
    plan = _plan(small, made)
    assert (asked_gpus([made]), plan.gpus) == (1, 1)
    assert plan_findings(plan, made) == []

    memory = 0.0 if plan.hardware.gpu is None else plan.hardware.gpu.memory
    assert plan.training_total == plan.learner.total + ASLEEP
    assert plan.learner_room == memory - ASLEEP
    assert plan.sampling_total is not None
    assert plan.sampling_total <= USABLE * memory < plan.sampling_total + 0.02 * memory
    assert plan.training_total + plan.engine.total > USABLE * memory, "the sum does not fit"

    # Of a Learner at rest there are the weights, and no optimizer.
    apart = _plan(small, config(gradient_checkpointing=True))
    assert plan.at_rest == pytest.approx(4 * small.parameters + 0.925 * GIB, rel=0.001)
    assert plan.learner.device == apart.learner.device
    assert plan.learner.host == {"optimizer": apart.learner.device["optimizer"]}
    assert apart.at_rest is None


def test_an_engine_is_given_what_was_planned(small: ModelShape, shared: Make) -> None:
    plan = _plan(small, shared())
    assert plan.hardware.gpu is not None
    told = with_rest_of_learner(shared())
    assert told._is_frozen
    assert told.learner_bytes_at_rest == plan.at_rest
    assert told.engine_settings["reserved_bytes"] == plan.at_rest
    arguments = turn_arguments(
        {},
        device_bytes=plan.hardware.gpu.memory,
        reserved_bytes=told.engine_settings["reserved_bytes"],
    )
    assert arguments == {
        "enable_sleep_mode": True,
        "gpu_memory_utilization": plan.engines.utilization,
    }


def test_without_turns_on_a_gpu_a_configuration_stays_as_it_is(config: Make, shared: Make) -> None:
    for made in (config(), shared(num_gpus_per_env_runner=0, num_gpus_per_learner=0)):
        assert with_rest_of_learner(made) is made


def test_a_reference_and_several_learners_count(small: ModelShape, shared: Make) -> None:
    alone = _plan(small, shared())
    referenced = _plan(small, shared(kl_coefficient=0.1))
    assert referenced.at_rest == alone.at_rest, "the reference rests in main memory too"
    assert referenced.learner.host["reference"] == 4 * small.parameters
    pairs = _plan(small, shared(num_learners=2, num_env_runners=2), "h100-80gb")
    assert pairs.gpus == 2
    assert pairs.at_rest == pytest.approx(8 * small.parameters + 1.925 * GIB, rel=0.001)


def test_a_users_own_share_wins_and_both_are_told(
    small: ModelShape, shared: Make, caplog: pytest.LogCaptureFixture
) -> None:
    computed = _plan(small, shared()).engines.utilization
    made = shared(engine_kwargs={"gpu_memory_utilization": 0.5})
    plan = _plan(small, made)
    assert plan.engines.utilization == 0.5
    assert plan_findings(plan, made) == []
    assert any("0.5, as given" in line and f"{computed:g}" in line for line in _table(plan))

    own = {"gpu_memory_utilization": 0.5}
    turn_arguments(own, device_bytes=10 * GIB, reserved_bytes=3 * GIB)
    (line,) = caplog.messages
    assert "gpu_memory_utilization=0.5 is taken" in line
    assert "rests with 3.0 GiB it would be 0.65" in line

    greedy = shared(engine_kwargs={"gpu_memory_utilization": 0.92})
    (finding,) = plan_findings(_plan(small, greedy), greedy)
    assert finding.startswith("rollout.engine_kwargs.gpu_memory_utilization=0.92 leaves a Learner")
    assert finding.endswith(f"leave it out, and it is {computed:g}")


def _table(plan: RunPlan) -> list[str]:
    return plan_lines(plan, name="run", model="model")


def test_the_table_says_what_each_turn_takes(small: ModelShape, shared: Make) -> None:
    plan = _plan(small, shared())
    lines = _table(plan)
    assert "one GPU for both, in turns (rollout.colocate)" in lines
    for row in ("a Learner trains", "an engine samples"):
        assert any(row in line and "fits" in line for line in lines)
    assert any(f"{plan.engines.utilization:g}, computed" in line for line in lines)
    turns = plan_as_json(plan)["turns"]
    assert (turns["training_bytes"], turns["fits"]) == (plan.training_total, True)


def test_sides_that_do_not_fit_side_by_side_are_told_of_turns(
    small: ModelShape, config: Make
) -> None:
    beside = config(
        gradient_checkpointing=True,
        num_gpus_per_env_runner=0.7,
        num_gpus_per_learner=0.3,
        engine_kwargs={"gpu_memory_utilization": 0.7},
    )
    (finding,) = plan_findings(_plan(small, beside), beside)
    assert finding.endswith("set rollout.colocate to true")


def test_in_turns_nobody_is_told_to_take_more_gpus(large: ModelShape, shared: Make) -> None:
    made = shared()
    findings = plan_findings(_plan(large, made, "h100-80gb"), made)
    assert findings
    assert not any("num_learners" in line or "tensor_parallel" in line for line in findings)


def test_shares_are_hundredths_that_leave_room() -> None:
    assert share_beside(0, device_bytes=10 * GIB) == 0.95
    assert share_beside(3.33 * GIB, device_bytes=10 * GIB) == 0.61
    assert share_beside(20 * GIB, device_bytes=10 * GIB) == 0.01  # of which vLLM says why not
