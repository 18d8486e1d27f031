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
        worker = engine_of(runner).llm.llm_engine.engine_core.engine_core.model_executor
        model = worker.driver_worker.worker.model_runner.get_model()
        return {name: tensor.detach().clone() for name, tensor in model.named_parameters()}

    return algo.env_runner_group.foreach_env_runner(read, local_env_runner=False)


def learners_weights(algo: Any) -> dict[str, torch.Tensor]:
    def read(learner: Any) -> dict[str, torch.Tensor]:
        dtype = learner.policy_module.settings.dtype
        return {name: t.detach().to(dtype, copy=True) for name, t in learner.engine_weights()}

    return ask_learners(algo.learner_group, read)[0]


def test_the_ways_bring_the_same_bits(
    build: Callable[[DAPOConfig], Any], make_config: Make
) -> None:
    """After an update, engines of either way hold the Learner's weights, and so sample alike."""
    for dtype in ("float32", "bfloat16"):
        held, sampled, sent = {}, {}, {}
        for way in ("object_store", "gloo"):
            algo = build(make_config(way, num_engines=2, dtype=dtype))
            algo.train()
            held[way], sampled[way] = held_weights(algo), held_logprobs(algo)
            sent[way] = learners_weights(algo)
            algo.stop()

        assert all(map(torch.equal, sent["gloo"].values(), sent["object_store"].values()))
        (first, *others) = [*held["object_store"], *held["gloo"]]
        assert len(others) == 3
        for other in others:
            assert first.keys() == other.keys()
            assert all(torch.equal(tensor, other[name]) for name, tensor in first.items())
        assert len({str(group) for groups in sampled.values() for group in groups}) == 1

        # As far as vLLM keeps weights as they are, they are the Learner's, to the bit.
        norms = [name for name in first if name.endswith("norm.weight")]
        assert norms
        assert all(torch.equal(first[name], sent["gloo"][name]) for name in norms)


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
    assert algo._engines.keys() == {"1"}
    before = held_logprobs(algo)

    while not algo.restore_env_runners(algo.env_runner_group):
        pass
    assert algo._engines.keys() == {"1", "2"}
    assert held_logprobs(algo) == before * 2
    algo.train()


def test_an_engine_that_hangs_is_named_and_none_samples_from_half(
    build: Callable[[DAPOConfig], Any], make_config: Make
) -> None:
    algo = build(make_config("gloo", num_engines=2))
    algo._weight_transfer._timeout_seconds = 4.0  # only now: connecting took longer

    def stop_in_the_middle(runner: Any) -> None:
        engine = engine_of(runner)
        model = engine.llm.llm_engine.engine_core.engine_core.model_executor.driver_worker.worker
        load = model.model_runner.get_model().load_weights

        def load_slowly(weights: Any) -> Any:
            def first() -> Any:
                yield next(iter(weights))
                os.kill(os.getpid(), signal.SIGSTOP)

            return load(first())

        if runner.worker_index == 2:
            model.model_runner.get_model().load_weights = load_slowly

    algo.env_runner_group.foreach_env_runner(stop_in_the_middle, local_env_runner=False)
    pid = algo._engines["2"]["pid"]
    try:
        with pytest.raises(RuntimeError) as caught:
            algo._sync_weights()
    finally:
        os.kill(pid, signal.SIGCONT)
    said = str(caught.value)
    assert "weights.timeout_s=4.0 is over" in said
    assert "EnvRunner 2 (loading bucket" in said
    assert "\n" not in said

    results = algo.env_runner_group.foreach_env_runner(refusal, local_env_runner=False)
    assert len(results) == 2
    assert all("holds half of version 0" in result for result in results)


def refusal(runner: Any) -> str:
    try:
        runner.sample_groups([0])
    except RuntimeError as error:
        return str(error)
    return "sampled"


def test_a_learner_that_dies_in_the_middle_is_named_and_no_engine_samples_from_half(
    build: Callable[[DAPOConfig], Any], make_config: Make
) -> None:
    algo = build(make_config("gloo", num_engines=2))

    def die_in_the_middle(learner: Any) -> None:
        weights = learner.engine_weights

        def die(**options: Any) -> Any:
            for number, named in enumerate(weights(**options)):
                if number == 5:
                    os.kill(os.getpid(), signal.SIGKILL)
                yield named

        learner.weight_sender.source._weights = die

    ask_learners(algo.learner_group, die_in_the_middle)
    with pytest.raises(RuntimeError, match=r"^the Learner failed .*its process has ended$"):
        algo._sync_weights()
    results = algo.env_runner_group.foreach_env_runner(refusal, local_env_runner=False)
    assert len(results) == 2
    assert all("holds half of version 0" in result for result in results)


def test_a_trial_that_takes_over_the_engines_connects_them_anew(
    build: Callable[[DAPOConfig], Any], make_config: Make, tmp_path: Path
) -> None:
    """As Tune does, where trials share actors; and then restores a checkpoint."""
    config = make_config("gloo")
    algo = build(config)
    algo.train()
    saved, sampled = algo.save_to_path(str(tmp_path)), held_logprobs(algo)
    algo.train()

    assert algo.reset_config(make_config("gloo").training(lr=1e-4).to_dict())
    algo.restore_from_path(saved)
    assert held_logprobs(algo) == sampled
    assert algo.train()["training_iteration"]


@pytest.mark.parametrize("side", ["EnvRunner 1", "the Learner"])
def test_a_side_that_raises_is_the_one_that_is_named(
    build: Callable[[DAPOConfig], Any], make_config: Make, side: str
) -> None:
    algo = build(make_config("gloo", num_engines=2))

    def fail_as_engine(runner: Any) -> None:
        def fail(update: Any) -> None:
            raise RuntimeError("no memory left")

        if runner.worker_index == 1:
            engine_of(runner).receive_transfer = fail

    def fail_as_learner(learner: Any) -> None:
        def fail(**options: Any) -> Any:
            yield "model.embed_tokens.weight", torch.zeros(1)

        learner.weight_sender.source._weights = fail

    if side == "the Learner":
        ask_learners(algo.learner_group, fail_as_learner)
    else:
        algo.env_runner_group.foreach_env_runner(fail_as_engine, local_env_runner=False)
    with pytest.raises(
        RuntimeError, match=rf"^{side} failed in the transfer of version 0"
    ) as caught:
        algo._sync_weights()
    said = str(caught.value)
    assert ("no memory left" if side == "EnvRunner 1" else "changed since") in said
    assert said.count(" failed in ") == 1
