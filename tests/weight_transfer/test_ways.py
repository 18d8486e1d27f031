"""Whole transfers: real Learners, real engines in processes of their own, one way after another."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from ray.rllib.core import DEFAULT_MODULE_ID

from rllib_dapo import DAPOConfig
from rllib_dapo.learner.learner_group import ask_learners
from rllib_dapo.weight_transfer.make_way import make_transfer_way

pytestmark = pytest.mark.slow
Make = Callable[..., DAPOConfig]

# Some buckets hold several weights, and some weights are larger than a bucket.
BUCKET_MIB = 0.05


@pytest.fixture
def make_config(raw_model: Path) -> Make:
    def make(
        way: str,
        *,
        engine: str = "vllm",
        num_engines: int = 1,
        num_learners: int = 1,
        dtype: str = "float32",
        restarts: bool = False,
        timeout_s: float = 120.0,
    ) -> DAPOConfig:
        return (
            DAPOConfig()
            .environment("rllib_dapo/Arithmetic-v0", env_config={"max_operand": 9})
            .language_model(str(raw_model), dtype=dtype, num_threads=1)
            .rollout(
                engine=engine, max_prompt_tokens=16, max_response_tokens=4, cpu_kv_cache_gib=0.1
            )
            .weights(transfer=way, bucket_mib=BUCKET_MIB, timeout_s=timeout_s)
            .env_runners(num_env_runners=num_engines, num_cpus_per_env_runner=0.5)
            .learners(num_learners=num_learners, num_cpus_per_learner=0.5)
            .training(lr=1e-3, prompts_per_step=4, group_size=4, minibatch_size=16)
            .dynamic_sampling(enabled=False)
            .overlong(buffer_tokens=1)
            .fault_tolerance(
                restart_failed_env_runners=restarts, delay_between_env_runner_restarts_s=0
            )
            .debugging(seed=3)
        )

    return make


@pytest.fixture
def build(cluster: None) -> Iterator[Callable[[DAPOConfig], Any]]:
    built: list[Any] = []

    def make(config: DAPOConfig) -> Any:
        built.append(config.build_algo())
        return built[-1]

    yield make
    for algo in built:
        algo.stop()


def engine_of(runner: Any) -> Any:
    return runner.module[DEFAULT_MODULE_ID].engine


def model_of(runner: Any) -> Any:
    """The model of an engine whose worker is in its own process."""
    executor = engine_of(runner).llm.llm_engine.engine_core.engine_core.model_executor
    return executor.driver_worker.worker.model_runner.get_model()


def held_logprobs(algo: Any) -> list[Any]:
    """What each engine samples after a prompt, and the log-probabilities of it."""

    def sample(runner: Any) -> Any:
        from rllib_dapo.rollout.engine import Sampling

        sampling = Sampling(num_responses=4, max_tokens=4)
        (group,) = engine_of(runner).generate([[1, 22, 16, 23, 34]], sampling=sampling, seeds=[1])
        return [(c.token_ids.tolist(), c.logprobs.tolist()) for c in group]

    return algo.env_runner_group.foreach_env_runner(sample, local_env_runner=False)


def held_weights(algo: Any) -> list[dict[str, torch.Tensor]]:
    """The weights of each vLLM engine that are kept as the checkpoint has them."""

    def read(runner: Any) -> dict[str, torch.Tensor]:
        named = model_of(runner).named_parameters()
        return {name: tensor.detach().clone() for name, tensor in named}

    return algo.env_runner_group.foreach_env_runner(read, local_env_runner=False)


def learners_weights(algo: Any) -> dict[str, torch.Tensor]:
    def read(learner: Any) -> dict[str, torch.Tensor]:
        dtype = learner.policy_module.settings.dtype
        return {name: t.detach().to(dtype, copy=True) for name, t in learner.engine_weights()}

    return ask_learners(algo.learner_group, read)[0]


@pytest.mark.parametrize(
    "dtype", [pytest.param("float32", marks=pytest.mark.exhaustive), "bfloat16"]
)
def test_the_ways_bring_the_same_bits(
    build: Callable[[DAPOConfig], Any], make_config: Make, tmp_path: Path, dtype: str
) -> None:
    """To the same engines one after the other; and to those of a trial that takes them over."""
    algo = build(make_config("gloo", num_engines=2, dtype=dtype))
    algo.train()
    first, second = held_weights(algo)
    sent, sampled = learners_weights(algo), held_logprobs(algo)
    norms = [name for name in first if name.endswith("norm.weight")]
    assert norms
    # As far as vLLM keeps weights as they are, they are the Learner's, to the bit.
    assert all(torch.equal(first[name], sent[name]) for name in norms)
    assert all(torch.equal(tensor, second[name]) for name, tensor in first.items())
    assert str(sampled[0]) == str(sampled[1])

    saved = algo.save_to_path(str(tmp_path))
    algo.train()
    assert str(held_logprobs(algo)) != str(sampled)
    # As Tune does, where trials share actors; and then restores a checkpoint.
    assert algo.reset_config(make_config("gloo", num_engines=2, dtype=dtype).to_dict())
    algo.restore_from_path(saved)
    assert str(held_logprobs(algo)) == str(sampled)

    algo.train()
    by_gloo = held_weights(algo)
    way = make_transfer_way("object_store", algo.learner_group, algo.env_runner_group, algo.config)
    transfer = way.transfer()
    assert transfer.versions == [2, 2]
    for one, other in zip(by_gloo, held_weights(algo), strict=True):
        assert all(torch.equal(tensor, other[name]) for name, tensor in one.items())


@pytest.mark.parametrize(
    ("num_learners", "deepspeed"),
    [(0, None), (2, None), (2, {"zero_optimization": {"stage": 3}})],
    ids=["in the driver", "two", "ZeRO-3"],
)
def test_learners_of_every_kind_send_over_gloo(
    build: Callable[[DAPOConfig], Any],
    make_config: Make,
    num_learners: int,
    deepspeed: dict[str, Any] | None,
) -> None:
    if deepspeed:
        pytest.importorskip("deepspeed")
    config = make_config("gloo", num_learners=num_learners).deepspeed(config=deepspeed)
    algo = build(config)
    for version in (1, 2):
        algo.train()
        assert algo._weights_version == version
    (held,) = held_weights(algo)
    sent = learners_weights(algo)
    norms = [name for name in held if name.endswith("norm.weight")]
    assert norms
    assert all(torch.equal(held[name], sent[name]) for name in norms)


def test_an_engine_that_dies_in_the_middle_costs_the_others_nothing(
    build: Callable[[DAPOConfig], Any], make_config: Make
) -> None:
    """The rest gets the weights as a smaller group, and the restarted one when it is back."""
    algo = build(make_config("gloo", num_engines=2, restarts=True))
    algo.train()

    def die_in_the_middle(runner: Any) -> None:
        def die(update: Any) -> None:
            os.kill(os.getpid(), signal.SIGKILL)

        if runner.worker_index == 2:
            engine_of(runner).receive_transfer = die

    algo.env_runner_group.foreach_env_runner(die_in_the_middle, local_env_runner=False)
    algo._sync_weights()
    assert algo.engines.keys() == {"1"}
    before = held_logprobs(algo)

    while not algo.restore_env_runners(algo.env_runner_group):
        pass
    assert algo.engines.keys() == {"1", "2"}
    assert held_logprobs(algo) == before * 2
    algo.train()


def refusal(runner: Any) -> str:
    try:
        runner.sample_groups([0])
    except RuntimeError as error:
        return str(error)
    return "sampled"


def refusals(algo: Any) -> list[str]:
    """What engines say when they are asked to sample, whatever state they are in."""
    return algo.env_runner_group.foreach_env_runner(refusal, local_env_runner=False)


def fail_as_engine(runner: Any) -> None:
    """The first engine raises in its next transfer, with one weight loaded."""
    model = model_of(runner)
    load = model.load_weights

    def fail(weights: Any) -> None:
        model.load_weights = load
        load([next(iter(weights))])
        raise RuntimeError("no memory left")

    if runner.worker_index == 1:
        model.load_weights = fail


def source_of(learner: Any) -> Any:
    """What the Learner's weights come out of, whichever way they take."""
    return (learner.weight_sender or learner.weight_pieces).source


def fail_as_learner(learner: Any) -> None:
    """The Learner's next transfer brings other weights than were announced."""
    source = source_of(learner)
    before = source._weights

    def fail(**options: Any) -> Iterator[tuple[str, torch.Tensor]]:
        source._weights = before
        yield "model.embed_tokens.weight", torch.zeros(1)

    source._weights = fail


def stop_as_engine(runner: Any) -> None:
    """The second engine's process stops in its next transfer, with one weight loaded."""
    model = model_of(runner)
    load = model.load_weights

    def load_and_stop(weights: Any) -> Any:
        model.load_weights = load

        def first() -> Iterator[tuple[str, torch.Tensor]]:
            for number, named in enumerate(weights):
                if number == 1:
                    os.kill(os.getpid(), signal.SIGSTOP)
                yield named

        return load(first())

    if runner.worker_index == 2:
        model.load_weights = load_and_stop


def signal_as_learner(number: int) -> Callable[[Any], int]:
    """The Learner's process gets a signal in its next transfer, with some weights sent."""

    def prepare(learner: Any) -> int:
        source = source_of(learner)
        weights = source._weights

        def send(**options: Any) -> Iterator[tuple[str, torch.Tensor]]:
            source._weights = weights
            for place, named in enumerate(weights(**options)):
                if place == 10:
                    os.kill(os.getpid(), number)
                yield named

        source._weights = send
        return os.getpid()

    return prepare


@pytest.mark.parametrize("way", ["gloo", "object_store"])
def test_the_side_that_fails_is_named_and_no_engine_samples_from_half(
    build: Callable[[DAPOConfig], Any], make_config: Make, way: str
) -> None:
    """One failure after another; after each but the last, the next transfer brings all."""
    algo = build(make_config(way, num_engines=2))
    runners = algo.env_runner_group
    half = "the engine holds half of version 0"

    def all_is_well() -> bool:
        algo._sync_weights()
        return refusals(algo) == ["sampled", "sampled"]

    runners.foreach_env_runner(fail_as_engine, local_env_runner=False)
    with pytest.raises(RuntimeError, match=r"^EnvRunner 1 failed in .* version 0") as caught:
        algo._sync_weights()
    assert str(caught.value).endswith("no memory left")
    assert str(caught.value).count(" failed in ") == 1
    assert half in refusals(algo)[0]  # the other one may have got all before
    assert all_is_well()

    ask_learners(algo.learner_group, fail_as_learner)
    with pytest.raises(RuntimeError, match=r"^the Learner failed in .*changed since") as caught:
        algo._sync_weights()
    assert str(caught.value).count(" failed in ") == 1
    assert all(half in told for told in refusals(algo))
    assert all_is_well()

    runners.foreach_env_runner(stop_as_engine, local_env_runner=False)
    algo._weight_transfer._timeout_seconds = 15.0  # only now: connecting may take longer
    try:
        with pytest.raises(RuntimeError, match=r"^weights\.timeout_s=15\.0 is over") as caught:
            algo._sync_weights()
    finally:
        os.kill(algo.engines["2"]["pid"], signal.SIGCONT)
    engine = "EnvRunner 2 (loading bucket " if way == "gloo" else "EnvRunner 2. "
    assert f"an end: {engine}" in str(caught.value)
    # What is in the object store stays there: an engine that goes on after all finds the rest.
    assert (half if way == "gloo" else "sampled") in refusals(algo)[1]

    algo._weight_transfer._timeout_seconds = None
    assert all_is_well()

    (pid,) = ask_learners(algo.learner_group, signal_as_learner(signal.SIGSTOP))
    algo._weight_transfer._timeout_seconds = 15.0
    try:
        with pytest.raises(RuntimeError, match=r"^weights\.timeout_s=15\.0 is over") as caught:
            algo._sync_weights()
    finally:
        os.kill(pid, signal.SIGCONT)
    late, _, kept = str(caught.value).partition("; it keeps waiting ")
    assert "an end: the Learner (" in late
    assert "EnvRunner 1 (waiting for " in kept
    assert "EnvRunner 2 (waiting for " in kept
    algo._weight_transfer._timeout_seconds = None
    assert all_is_well()

    ask_learners(algo.learner_group, signal_as_learner(signal.SIGKILL))
    with pytest.raises(RuntimeError, match=r"^the Learner failed in .*its process has ended$"):
        algo._sync_weights()
    assert all(half in told for told in refusals(algo))
