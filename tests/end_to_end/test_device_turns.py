"""Engines and Learners in turns on one device: a real vLLM engine beside a real Learner, on CPUs.

vLLM's build for CPUs stops its scheduler when it sleeps and keeps its memory, so what is looked at
here is the order of calls, and that the numbers are those of engines and Learners side by side.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest
import ray
from ray.rllib.core import DEFAULT_MODULE_ID

from rllib_dapo import DAPO, DAPOConfig
from rllib_dapo.learner.learner_group import ask_learners
from rllib_dapo.rollout.engine import Sampling

pytestmark = pytest.mark.slow

# The engine's answers with checksums prove what has arrived; the guard scores in two iterations.
SAMPLING_TURN = ["sample", "checksums"]
TRAINING_TURN = ["sleep", "resume", "update"]
GUARDED_TURN = ["sleep", "resume", "score", "update"]
HAND_OVER = ["rest", "wake weights", "weights arrive", "checksums", "wake kv_cache"]


@pytest.fixture
def make_config(small_config: Callable[..., DAPOConfig]) -> Callable[..., DAPOConfig]:
    def make(*, colocate: bool = True) -> DAPOConfig:
        return (
            small_config(engine="vllm", num_env_runners=1)
            .rollout(colocate=colocate)
            .training(prompts_per_step=2, minibatch_size=8)
            .evaluation(evaluation_num_prompts=2, evaluation_samples_per_prompt=1)
            .dynamic_sampling(enabled=False)
        )

    return make


@pytest.fixture
def build(cluster: None) -> Iterator[Callable[[DAPOConfig], DAPO]]:
    built: list[DAPO] = []

    def make(config: DAPOConfig) -> DAPO:
        built.append(config.build_algo())
        return built[-1]

    yield make
    for algo in built:
        algo.stop()


def note_calls(owner: Any, names: dict[str, str]) -> None:
    """Has some methods of an object write down when they were called, in its `calls`."""
    owner.calls = getattr(owner, "calls", [])

    def noted(method: Callable[..., Any], name: str) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            part = f" {arguments[0]}" if name == "wake" else ""
            owner.calls.append((time.monotonic_ns(), name + part))
            return method(*arguments, **options)

        return call

    for attribute, name in names.items():
        setattr(owner, attribute, noted(getattr(owner, attribute), name))


def note_both_sides(algo: DAPO) -> None:
    """From now on engine and Learner write down what is asked of them."""
    on_engine = {
        "step": "sample",
        "sleep": "sleep",
        "wake": "wake",
        "load_weights": "weights arrive",
        "weight_checksums": "checksums",
    }
    note = note_calls
    algo.env_runner_group.foreach_env_runner(
        lambda runner: note(runner.module[DEFAULT_MODULE_ID].engine, on_engine),
        local_env_runner=False,
    )
    on_learner = {
        "resume": "resume",
        "measure_sampler_gap": "score",
        "_train_minibatch": "update",
        "rest": "rest",
    }
    ask_learners(algo.learner_group, lambda learner: note(learner, on_learner))


def calls(algo: DAPO) -> list[str]:
    """What was asked of both since the last time, each as often as something else came between."""

    def take(owner: Any) -> list[tuple[int, str]]:
        taken = list(owner.calls)
        owner.calls.clear()
        return taken

    engines = algo.env_runner_group.foreach_env_runner(
        lambda runner: take(runner.module[DEFAULT_MODULE_ID].engine), local_env_runner=False
    )
    both = [*engines, *ask_learners(algo.learner_group, take)]
    everything = sorted(call for taken in both for call in taken)
    return [name for name, _ in groupby(name for _, name in everything)]


def of_engine(algo: DAPO, question: Callable[[Any], Any]) -> Any:
    (answer,) = algo.env_runner_group.foreach_env_runner(
        lambda runner: question(runner.module[DEFAULT_MODULE_ID].engine), local_env_runner=False
    )
    return answer


def is_asleep(algo: DAPO) -> bool:
    """Whether vLLM itself says so."""
    return bool(of_engine(algo, lambda engine: engine.llm.llm_engine.is_sleeping()))


def fingerprint(algo: DAPO) -> list[int]:
    return ask_learners(algo.learner_group, lambda learner: learner.fingerprint())


def test_each_side_has_its_turn_and_the_numbers_do_not_change(
    build: Callable[[DAPOConfig], DAPO], make_config: Callable[..., DAPOConfig], tmp_path: Path
) -> None:
    colocated, beside = build(make_config()), build(make_config(colocate=False))
    assert not is_asleep(colocated)
    note_both_sides(colocated)

    # Three iterations, so that moments matter that have rested in between.
    for turn in (GUARDED_TURN, GUARDED_TURN, TRAINING_TURN):
        colocated.train()
        beside.train()
        assert calls(colocated) == [*SAMPLING_TURN, *turn, *HAND_OVER]
        assert fingerprint(colocated) == fingerprint(beside)

    # An evaluation is the engines' affair alone.
    colocated.evaluate()
    assert calls(colocated) == ["sample"]

    # A checkpoint is written while the optimizer's state rests, and restored in the Learners' turn.
    colocated.save_to_path(tmp_path)
    assert calls(colocated) == []
    colocated.train()
    trained = fingerprint(colocated)
    calls(colocated)

    colocated.restore_from_path(tmp_path)
    assert calls(colocated) == ["sleep", "resume", *HAND_OVER]
    assert fingerprint(colocated) == fingerprint(beside)
    colocated.train()
    assert fingerprint(colocated) == trained

    beside.restore_from_path(tmp_path)  # a checkpoint does not depend on turns
    beside.train()
    assert fingerprint(beside) == trained


def test_whatever_happens_each_side_is_met_in_the_state_that_it_needs(
    build: Callable[[DAPOConfig], DAPO], make_config: Callable[..., DAPOConfig]
) -> None:
    config = make_config().fault_tolerance(restart_failed_env_runners=True)
    algo = build(config)
    note_both_sides(algo)

    # An update fails: its engine has no weights, and says so rather than sample.
    def fail_once(learner: Any) -> None:
        step = learner._step

        def fail(*arguments: Any, **options: Any) -> Any:
            learner._step = step
            raise ValueError("no room")

        learner._step = fail

    ask_learners(algo.learner_group, fail_once)
    with pytest.raises(ValueError, match="no room"):
        algo.train()
    assert calls(algo) == [*SAMPLING_TURN, *GUARDED_TURN]
    assert is_asleep(algo)
    one = Sampling(num_responses=1, max_tokens=1)
    said = of_engine(algo, lambda engine: _refusal(engine, one))
    assert "the engine sleeps (rollout.colocate)" in said

    # Whoever wants to sample next gives it weights first.
    algo.evaluate()
    assert calls(algo) == [*HAND_OVER, "sample"]
    assert not is_asleep(algo)
    gradients = ask_learners(
        algo.learner_group,
        lambda learner: [p.grad for p in learner.policy_module.parameters() if p.grad is not None],
    )
    assert gradients == [[]]

    # A new engine begins awake, and is given weights like any other.
    (actor,) = algo.env_runner_group._worker_manager.actors().values()
    ray.kill(actor, no_restart=False)
    algo.train()
    assert not is_asleep(algo)
    note_both_sides(algo)
    calls(algo)

    # Another run with the same engine.
    algo.reset_config(config.copy(copy_frozen=False).training(lr=5e-4))
    note_both_sides(algo)
    algo.train()
    assert not is_asleep(algo)


def _refusal(engine: Any, sampling: Sampling) -> str:
    try:
        engine.generate([[1, 2]], sampling=sampling, seeds=[0])
    except RuntimeError as error:
        return str(error)
    return ""
