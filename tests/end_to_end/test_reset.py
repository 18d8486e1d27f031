"""An algorithm that begins again under another configuration is a new one, but for its engine."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ray.rllib.core import DEFAULT_MODULE_ID

from rllib_dapo import DAPO, DAPOConfig
from rllib_dapo.learner.learner_group import ask_learners
from rllib_dapo.weight_transfer.wire.weight_arrays import to_numpy

MakeConfig = Callable[..., DAPOConfig]
ITERATIONS = 2


def _changed(config: DAPOConfig) -> DAPOConfig:
    """Settings that act on the engine's requests, the plan, the Learner, and evaluation."""
    return (
        config.rollout(temperature=0.9)
        .training(
            lr=2e-3,
            epsilon_low=0.05,
            epsilon_high=0.5,
            prompts_per_step=3,
            group_size=6,
            minibatch_size=6,
            adam_betas=(0.8, 0.99),
            loss_aggregation="sequence_mean",
        )
        .kl(coefficient=0.1)
        .evaluation(
            evaluation_interval=2, evaluation_num_prompts=4, evaluation_samples_per_prompt=2
        )
        .debugging(seed=11)
    )


def _train(algo: DAPO) -> dict[str, str]:
    """What does not depend on clocks in the results of some iterations, by name.

    As text, since NaN equals nothing.
    """
    results = [algo.train() for _ in range(ITERATIONS)]
    kept = [
        {
            "iteration": result["training_iteration"],
            "rollout": _without_clocks(result["env_runners"]),
            "learner": _without_clocks(result["learners"]["default_policy"]),
            "steps": result["num_env_steps_sampled_lifetime"],
            "evaluation": result.get("evaluation", {}).get("env_runners") or {},
        }
        for result in results
    ]
    return {
        f"{i}/{part}/{name}": repr(value)
        for i, result in enumerate(kept)
        for part, figures in result.items()
        for name, value in (figures.items() if isinstance(figures, dict) else [("", figures)])
    }


# How much is asked for besides what a batch is chosen from depends on which group is faster.
BESIDES = (
    "groups_generated",
    "groups_surplus",
    "groups_given_up",
    "sampling_rounds",
    "tokens_per_accepted_group",
)


def _without_clocks(figures: dict[str, Any]) -> dict[str, Any]:
    return {
        n: value
        for n, value in figures.items()
        if not any(word in n for word in ("second", "throughput", "time", *BESIDES))
    }


def _state(algo: DAPO) -> list[Any]:
    """Weights and optimizer state as bytes, and the place in the schedule."""

    def of(learner: Any) -> list[Any]:
        weights = {
            name: to_numpy(w, w.dtype).tobytes()
            for name, w in learner.policy_module.lm.state_dict().items()
        }
        optimizer = learner.get_optimizer(DEFAULT_MODULE_ID).state_dict()
        moments = {
            key: {name: to_numpy(tensor, tensor.dtype).tobytes() for name, tensor in state.items()}
            for key, state in optimizer["state"].items()
        }
        return [weights, moments, learner.updates_after_warmup, learner.weights_version]

    return ask_learners(algo.learner_group, of)


@pytest.fixture
def build() -> Iterator[Callable[[DAPOConfig], DAPO]]:
    """Builds algorithms and stops them in the end."""
    built: list[DAPO] = []

    def make(config: DAPOConfig) -> DAPO:
        built.append(config.build_algo())
        return built[-1]

    yield make
    for algo in built:
        algo.stop()


@pytest.mark.parametrize(
    ("engine", "num_env_runners", "num_learners"),
    [
        pytest.param("transformers", 0, 0, marks=pytest.mark.slow),
        pytest.param("transformers", 2, 2, marks=pytest.mark.slow),
        pytest.param("vllm", 1, 0, marks=pytest.mark.slow),
    ],
)
def test_after_a_reset_an_algorithm_trains_as_a_new_one_would(
    cluster: None,
    small_config: MakeConfig,
    build: Callable[[DAPOConfig], DAPO],
    engine: str,
    num_env_runners: int,
    num_learners: int,
) -> None:
    def make() -> DAPOConfig:
        return small_config(
            engine=engine, num_env_runners=num_env_runners, num_learners=num_learners
        )

    fresh = build(_changed(make()))
    before = _state(fresh)
    expected = _train(fresh)
    after = _state(fresh)
    fresh.stop()

    algo = build(make())
    other = _train(algo)
    engines = algo.train()["engines"]
    assert algo.reset(_changed(make()).to_dict())
    assert _state(algo) == before
    assert _train(algo) == expected
    assert _state(algo) == after
    assert algo.train()["engines"] == engines
    assert other != expected


@pytest.fixture
def algo(cluster: None, small_config: MakeConfig, build: Callable[[DAPOConfig], DAPO]) -> DAPO:
    return build(small_config(engine="transformers"))


def test_what_an_engine_or_an_actor_was_made_with_is_not_taken_over(
    algo: DAPO, small_config: MakeConfig, other_raw_model: Path
) -> None:
    before = algo.config
    for change in (
        lambda config: config.language_model(str(other_raw_model)),
        lambda config: config.language_model(dtype="bfloat16"),
        lambda config: config.rollout(engine="vllm"),
        lambda config: config.rollout(max_response_tokens=7),
        lambda config: config.rollout(engine_kwargs={"num_beams": 1}),
        lambda config: config.environment(env_config={"max_operand": 4}),
        lambda config: config.env_runners(num_env_runners=1),
        lambda config: config.learners(num_learners=1),
        lambda config: config.evaluation(evaluation_config={"env_config": {"max_operand": 3}}),
    ):
        changed = change(small_config(engine="transformers"))
        with pytest.raises(ValueError, match="cannot follow on another in the same actors"):
            algo.reset_config(changed.to_dict())
        assert algo.config is before
    assert algo.train()["training_iteration"] == 1


def test_a_reset_and_a_checkpoint_go_on_where_that_was_saved_under_other_bounds(
    algo: DAPO, small_config: MakeConfig, tmp_path: Path
) -> None:
    # What population based training does with the worse trial.
    for _ in range(2):
        algo.train()
    algo.save_to_path(tmp_path / "checkpoint")
    saved = _state(algo)
    algo.train()
    narrow = small_config(engine="transformers").training(epsilon_low=1e-6, epsilon_high=2e-6)
    changed = narrow.dynamic_sampling(
        enabled=False
    )  # with every group there are several mini-batches
    assert algo.reset(changed.to_dict())
    algo.restore_from_path(tmp_path / "checkpoint")
    assert _state(algo) == saved
    result = algo.train()
    assert (algo.config.epsilon_low, algo.config.epsilon_high) == (1e-6, 2e-6)
    assert {
        (c.epsilon_low, c.epsilon_high)
        for c in ask_learners(algo.learner_group, lambda one: one.config)
    } == {(1e-6, 2e-6)}
    assert result["env_runners"]["weights_seq_no"] == 2
    learner = result["learners"]["default_policy"]
    assert learner["gradient_updates"] == 2
    assert learner["clip_fraction_low"] + learner["clip_fraction_high"] > 0


def test_an_engines_process_and_start_stand_in_every_result(algo: DAPO) -> None:
    (facts,) = algo.train()["engines"].values()
    assert set(facts) == {"pid", "started"}
    assert algo.train()["engines"] == {"0": facts}
