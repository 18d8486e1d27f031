"""`rollout.colocate`: what follows from it, and what is refused before anything starts."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import pytest

from rllib_dapo import DAPOConfig
from rllib_dapo.config import engine_resources
from rllib_dapo.config.value_checks import check_settings
from rllib_dapo.config.weight_checks import transfer_way

NEEDS_DEEPSPEED = pytest.mark.skipif(
    find_spec("deepspeed") is None, reason="DeepSpeed is not installed"
)
STAGE2 = {"zero_optimization": {"stage": 2}}
OFFLOADED = {"zero_optimization": {"stage": 2, "offload_optimizer": {"device": "cpu"}}}


def colocated(**settings: Any) -> DAPOConfig:
    return (
        DAPOConfig()
        .environment("rllib_dapo/Arithmetic-v0")
        .language_model("tiny")
        .rollout(colocate=True)
        .learners(num_learners=1)
        .update_from_dict(settings)
    )


@pytest.fixture
def on_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the vLLM that is installed here were the one for GPUs."""
    monkeypatch.setattr(engine_resources, "vllm_wants_gpus", lambda: True)


@pytest.mark.parametrize("pairs", [1, 4])
def test_on_gpus_each_pair_has_one_and_weights_stay_on_it(on_gpus: None, pairs: int) -> None:
    config = colocated(num_learners=pairs, num_env_runners=pairs)
    assert (config.num_gpus_per_env_runner, config.num_gpus_per_learner) == (0.6, 0.4)
    assert transfer_way(config) == "ipc"
    assert list(check_settings(config)) == []


def test_a_learner_in_the_driver_shares_a_gpu_too(on_gpus: None) -> None:
    config = colocated(num_learners=0)
    assert config.num_gpus_per_learner == 0.4
    assert list(check_settings(config)) == []


def test_on_cpus_weights_go_through_the_object_store() -> None:
    config = colocated(num_gpus_per_env_runner=0)
    assert (config.num_gpus_per_env_runner, config.num_gpus_per_learner) == (0, 0)
    assert transfer_way(config) == "object_store"
    assert list(check_settings(config)) == []


def test_without_it_nothing_follows(on_gpus: None) -> None:
    config = colocated(colocate=False)
    assert (config.num_gpus_per_env_runner, config.num_gpus_per_learner) == (1, 0)
    assert config.engine_settings["sleeps"] is False


def test_shares_that_somebody_gives_are_kept(on_gpus: None) -> None:
    config = colocated(num_gpus_per_env_runner=0.5, num_gpus_per_learner=0.25)
    assert (config.num_gpus_per_env_runner, config.num_gpus_per_learner) == (0.5, 0.25)
    assert list(check_settings(config)) == []
    copied = DAPOConfig().update_from_dict(config.to_dict())
    assert (copied.num_gpus_per_env_runner, copied.num_gpus_per_learner) == (0.5, 0.25)


def test_evaluation_which_has_no_learner_is_not_looked_at() -> None:
    config = colocated(evaluation_interval=1)
    evaluation = config.get_evaluation_config_object()
    assert evaluation is not None
    assert [line for line in check_settings(evaluation) if "colocate" in line] == []


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"colocate": "yes"}, "rollout.colocate='yes' must be true or false"),
        ({"engine": "transformers"}, "needs rollout.engine=vllm, whose engines can sleep"),
        ({"num_env_runners": 0}, "env_runners.num_env_runners=0 puts the engine into the driver"),
        ({"num_env_runners": 2}, "set env_runners.num_env_runners to 1"),
        ({"num_learners": 2}, "set env_runners.num_env_runners to 2"),
        ({"tensor_parallel_size": 2}, "rollout.tensor_parallel_size=2 spreads an engine"),
        ({"pipeline_parallel_size": 2}, "rollout.pipeline_parallel_size=2 spreads an engine"),
        ({"num_gpus_per_learner": 1}, "there are learners.num_gpus_per_learner=1 and"),
        ({"num_gpus_per_learner": 0}, "there are learners.num_gpus_per_learner=0 and"),
        ({"num_gpus_per_env_runner": 1}, "env_runners.num_gpus_per_env_runner=1: leave both out"),
        ({"num_gpus_per_env_runner": 0.7}, "env_runners.num_gpus_per_env_runner=0.7: leave"),
        (
            {
                "num_learners": 2,
                "num_env_runners": 2,
                "num_gpus_per_env_runner": 0.5,
                "num_gpus_per_learner": 0.5,
            },
            "give each engine more than half of one",
        ),
        ({"weight_transfer": "gloo"}, "weights.transfer='gloo' does not go with"),
        ({"weight_transfer": "nccl"}, "weights.transfer='nccl' does not go with"),
        ({"engine_kwargs": {"enable_sleep_mode": False}}, "enable_sleep_mode=False is set by"),
        pytest.param(
            {"deepspeed_config": STAGE2},
            "add {offload_optimizer: {device: cpu}}",
            marks=NEEDS_DEEPSPEED,
        ),
        pytest.param(
            {"deepspeed_config": {}}, "or leave deepspeed.config out", marks=NEEDS_DEEPSPEED
        ),
    ],
)
def test_what_cannot_take_turns_is_refused_in_one_line(
    on_gpus: None, settings: dict[str, Any], said: str
) -> None:
    findings = list(check_settings(colocated(**settings)))
    (about,) = [line for line in findings if said in line]
    assert "\n" not in about
    with pytest.raises(ValueError, match=r"colocate|num_gpus|transfer"):
        colocated(**settings).validate()


@NEEDS_DEEPSPEED
def test_an_optimizer_in_main_memory_rests_already(on_gpus: None) -> None:
    assert list(check_settings(colocated(deepspeed_config=OFFLOADED))) == []


@NEEDS_DEEPSPEED
def test_on_cpus_everything_is_in_main_memory_already() -> None:
    config = colocated(deepspeed_config=STAGE2, num_gpus_per_env_runner=0)
    assert list(check_settings(config)) == []
