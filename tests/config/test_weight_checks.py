"""Which way weights take, and which ways are refused before anything starts."""

from __future__ import annotations

import re

import pytest

from rllib_dapo import DAPOConfig
from rllib_dapo.config.weight_checks import check_weights, transfer_way


def config(
    *, engine: str = "vllm", runners: int = 2, learner_gpus: float = 0, engine_gpus: float = 0
) -> DAPOConfig:
    return (
        DAPOConfig()
        .environment("rllib_dapo/Arithmetic-v0")
        .language_model("tiny")
        .rollout(engine=engine)
        .env_runners(num_env_runners=runners, num_gpus_per_env_runner=engine_gpus)
        .learners(num_learners=1, num_gpus_per_learner=learner_gpus)
    )


@pytest.mark.parametrize(
    ("settings", "way"),
    [
        ({}, "object_store"),
        ({"learner_gpus": 1, "engine_gpus": 1}, "nccl"),
        ({"learner_gpus": 1, "engine_gpus": 2}, "nccl"),
        ({"learner_gpus": 0.5, "engine_gpus": 0.5}, "ipc"),
        ({"learner_gpus": 0.7, "engine_gpus": 0.5}, "object_store"),
        ({"learner_gpus": 1}, "object_store"),
        ({"engine_gpus": 1}, "object_store"),
        ({"learner_gpus": 1, "engine_gpus": 1, "engine": "transformers"}, "object_store"),
        ({"learner_gpus": 1, "engine_gpus": 1, "runners": 0}, "object_store"),
    ],
)
def test_auto_takes_the_way_that_works_and_is_never_refused(
    settings: dict[str, float | str], way: str
) -> None:
    chosen = config(**settings)  # type: ignore[arg-type]
    assert transfer_way(chosen) == way
    assert list(check_weights(chosen)) == []
    if way != "object_store":
        assert list(check_weights(chosen.weights(transfer=way))) == []  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("settings", "way", "said"),
    [
        ({}, "nccl", "learners.num_gpus_per_learner=0"),
        ({"learner_gpus": 0.5, "engine_gpus": 0.5}, "nccl", "needs a whole GPU"),
        ({}, "ipc", "env_runners.num_gpus_per_env_runner=0"),
        ({"learner_gpus": 1, "engine_gpus": 1}, "ipc", "share"),
        ({"learner_gpus": 0.7, "engine_gpus": 0.5}, "ipc", "share"),
        ({"engine": "transformers"}, "gloo", "rollout.engine=vllm"),
        ({"engine": "transformers"}, "nccl", "rollout.engine=vllm"),
        ({"runners": 0}, "gloo", "env_runners.num_env_runners=0"),
    ],
)
def test_a_way_that_cannot_work_is_refused_in_one_line(
    settings: dict[str, float | str], way: str, said: str
) -> None:
    chosen = config(**settings).weights(transfer=way)  # type: ignore[arg-type]
    (line,) = check_weights(chosen)
    assert line.startswith(f"weights.transfer={way!r} ")
    assert said in line
    assert "set weights.transfer to auto" in line
    assert "\n" not in line
    with pytest.raises(ValueError, match=r"weights\.transfer"):
        chosen.validate()


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"transfer": "rdma"}, "weights.transfer='rdma' must be one of"),
        ({"bucket_mib": 0}, "weights.bucket_mib=0 must be positive"),
        ({"bucket_mib": "64"}, "weights.bucket_mib='64' must be a number"),
        ({"bucket_mib": float("nan")}, "weights.bucket_mib=nan must be"),
        ({"timeout_s": 0}, "weights.timeout_s=0 must be positive"),
        ({"timeout_s": -1}, "weights.timeout_s=-1 must be positive"),
    ],
)
def test_values_that_mean_nothing_are_refused(settings: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match=re.escape(said)):
        config().weights(**settings).validate()  # type: ignore[arg-type]


def test_vllms_own_setting_for_it_is_refused() -> None:
    chosen = config().rollout(engine_kwargs={"weight_transfer_config": {"backend": "nccl"}})
    assert ["use that" in line for line in check_weights(chosen)] == [True]


def test_the_time_out_is_known_by_its_earlier_name() -> None:
    assert config().weights(timeout_s=7).weight_sync_timeout_s == 7
    earlier = config()
    earlier.weight_sync_timeout_s = 5.0
    assert DAPOConfig.from_dict(earlier.to_dict()).weight_sync_timeout_s == 5.0


def test_engines_are_told_the_way_that_reaches_their_workers() -> None:
    def backend(chosen: DAPOConfig) -> object:
        return chosen._model_config_auto_includes["engine_settings"]["transfer_backend"]

    assert backend(config()) is None
    assert backend(config().weights(transfer="gloo")) == "gloo"
    assert backend(config(learner_gpus=1, engine_gpus=1)) == "nccl"
