"""Which trials may share an engine, and what they ask Ray for then."""

from __future__ import annotations

from typing import Any

import pytest

from rllib_dapo import DAPO, DAPOConfig
from rllib_dapo.config.engine_sharing import host_name
from rllib_dapo.findings import SettingsError
from rllib_dapo.run.preflight import check_placement


def _config(**rollout: Any) -> DAPOConfig:
    return (
        DAPOConfig()
        .environment("rllib_dapo/Arithmetic-v0")
        .language_model("tiny", lora={"rank": 8})
        .rollout(shared_engine=True, **rollout)
        .env_runners(num_env_runners=0)
        .learners(num_learners=0, num_cpus_per_learner=0.1)
        .resources(num_cpus_for_main_process=0.1)
    )


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda c: c.rollout(engine="transformers"), "needs rollout.engine=vllm"),
        (lambda c: c.language_model(lora=None), r"needs language_model\.lora, such as {rank: 16}"),
        (
            lambda c: c.rollout(colocate=True).env_runners(num_env_runners=1),
            "has one engine sample while others train",
        ),
        (
            lambda c: c.rollout(executor="ray", tensor_parallel_size=2),
            "set rollout.executor to mp",
        ),
    ],
)
def test_what_cannot_be_shared_is_refused_with_the_way_out(change: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        change(_config()).validate()
    _config().validate()


def test_trials_share_an_engine_if_they_differ_in_nothing_that_it_is_made_of() -> None:
    name = host_name(_config())
    alike = (
        _config(temperature=0.7, top_p=0.9).training(lr=1e-3, group_size=4),
        _config().debugging(seed=17),
        _config().environment(env_config={"max_operand": 3}),
    )
    assert {host_name(config) for config in alike} == {name}
    others = (
        _config(max_response_tokens=9),
        _config(engine_kwargs={"enforce_eager": True}),
        _config(max_concurrent_responses=8),
        _config().language_model(dtype="float32"),
        _config().language_model(lora={"rank": 16}),
        _config().language_model("smollm2-135m"),
    )
    assert len({host_name(config) for config in others} | {name}) == len(others) + 1
    assert host_name(_config().rollout(shared_engine=False)) is None


def test_a_trial_asks_for_no_part_of_the_engine() -> None:
    config = _config()
    assert DAPO.default_resource_request(config.to_dict()).bundles == [{"CPU": 0.1}]
    assert config.host_resources == {"num_cpus": 1, "num_gpus": 0}

    on_gpus = _config(tensor_parallel_size=2)
    on_gpus.env_runners(num_env_runners=1, num_gpus_per_env_runner=2)
    bundles = DAPO.default_resource_request(on_gpus.to_dict()).bundles
    assert bundles == [{"CPU": 0.1}, {"CPU": 1}]
    assert on_gpus.host_resources == {"num_cpus": 1, "num_gpus": 2}


def test_room_for_the_engine_is_counted_beside_a_trials() -> None:
    check_placement(_config(), {"CPU": 1.1})
    with pytest.raises(SettingsError, match=r"asks for 1\.1 CPUs .*shared engine 1 x 1"):
        check_placement(_config(), {"CPU": 1})
