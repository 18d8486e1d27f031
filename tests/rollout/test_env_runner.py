"""The EnvRunner: a group of responses for each prompt seed, sampled, scored and handed over."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import gymnasium as gym
import numpy as np
import psutil
import pytest
import ray
import torch
from ray.rllib.callbacks.callbacks import RLlibCallback
from ray.rllib.core import COMPONENT_RL_MODULE, DEFAULT_MODULE_ID
from ray.rllib.env.single_agent_episode import SingleAgentEpisode
from ray.rllib.utils.metrics import WEIGHTS_SEQ_NO

from rllib_dapo import DAPOConfig
from rllib_dapo.core import PromptGroup
from rllib_dapo.envs import Problem, SingleStepTextEnv, TextSpace, Verdict
from rllib_dapo.models import load_causal_lm, load_tokenizer
from rllib_dapo.rollout.dynamic_sampler import Decision, judge
from rllib_dapo.rollout.env_runner import (
    EVALUATION_STREAM,
    TRAINING_STREAM,
    TextEnvRunner,
    sampling_seed,
)

MakeConfig = Callable[..., DAPOConfig]


class ParityEnv(gym.Env):
    """Asks for an odd number; how it treats even ones is a setting."""

    def __init__(self, config: dict[str, Any]) -> None:
        self.observation_space = self.action_space = TextSpace(100)
        self.even = config.get("even", "raise")

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> tuple[str, dict]:
        return f"{seed}+0=", {}

    def step(self, action: str) -> tuple[str, float, bool, bool, dict]:
        if action[-1:] in ("1", "3", "5", "7", "9"):
            return "", 1.0, True, False, {"is_correct": True}
        if self.even == "raise":
            raise OverflowError("this text was not foreseen")
        if self.even == "infinite":
            return "", math.inf, True, False, {"is_correct": False}
        return "", -1.0, True, False, {"is_correct": False}


@pytest.fixture(scope="module")
def runner(rollout_config: MakeConfig) -> Iterator[TextEnvRunner]:
    """A local EnvRunner that no test changes."""
    runner = TextEnvRunner(config=rollout_config())
    yield runner
    runner.stop()


def groups_of(runner: TextEnvRunner, seeds: range | list[int], **kwargs: Any) -> list[PromptGroup]:
    return [sampled.group() for sampled in runner.sample_groups(seeds, **kwargs).groups]


def tokens_of(groups: list[PromptGroup]) -> list[list[list[int]]]:
    return [[response.token_ids.tolist() for response in group.responses] for group in groups]


# What a group carries


def test_a_group_carries_its_tokens_as_sampled(runner: TextEnvRunner) -> None:
    groups = groups_of(runner, range(6))
    assert [group.seed for group in groups] == list(range(6))
    tokenizer, finish_reasons = runner.tokenizer, set()
    for group in groups:
        assert group.weights_version == 0
        assert group.prompt_ids.dtype == np.int32
        assert group.prompt_ids[0] == tokenizer.bos_token_id
        assert tokenizer.decode(group.prompt_ids.tolist(), skip_special_tokens=True) == group.prompt
        assert len(group.responses) == 4
        for response in group.responses:
            assert response.token_ids.dtype == np.int32
            assert response.logprobs.dtype == np.float32
            assert len(response.token_ids) == len(response.loss_mask) == len(response.logprobs) <= 2
            assert response.loss_mask.all()
            assert (response.logprobs <= 0).all()
            assert (
                tokenizer.decode(response.token_ids.tolist(), skip_special_tokens=True)
                == response.text
            )
            ends = response.token_ids == tokenizer.eos_token_id
            assert not ends[:-1].any()
            assert response.finish_reason == ("stop" if ends[-1] else "length")
            assert response.finish_reason == "stop" or len(response.token_ids) == 2
            finish_reasons.add(response.finish_reason)
    assert finish_reasons == {"stop", "length"}


def test_rewards_are_the_environments_verdicts_on_the_texts(runner: TextEnvRunner) -> None:
    groups = groups_of(runner, range(30))
    for group in groups:
        a, b = group.prompt.removesuffix("=").split("+")
        for response in group.responses:
            correct = response.text.isdigit() and int(response.text) == int(a) + int(b)
            assert (response.reward, response.is_correct) == (
                (1.0, True) if correct else (-1.0, False)
            )
    assert any(response.is_correct for group in groups for response in group.responses)


def test_the_same_seed_and_weights_give_the_same_group_in_any_batch(runner: TextEnvRunner) -> None:
    together = tokens_of(groups_of(runner, range(6)))
    alone = [tokens_of(groups_of(runner, [seed]))[0] for seed in range(6)]
    backwards = tokens_of(groups_of(runner, [5, 4, 3, 2, 1, 0]))
    assert together == alone == backwards[::-1]


def test_engine_seeds_differ_by_run_stream_weights_and_prompt() -> None:
    seeds = [
        sampling_seed(run, stream, version, prompt)
        for run in range(3)
        for stream in (TRAINING_STREAM, EVALUATION_STREAM)
        for version in range(3)
        for prompt in range(3)
    ]
    assert len(set(seeds)) == len(seeds)
    assert all(0 <= seed < 2**31 for seed in seeds)


def test_another_run_seed_samples_other_responses_to_the_same_prompts(
    rollout_config: MakeConfig,
) -> None:
    one, two = (TextEnvRunner(config=rollout_config().debugging(seed=seed)) for seed in (0, 1))
    one_group, two_group = groups_of(one, [3])[0], groups_of(two, [3])[0]
    assert one_group.prompt == two_group.prompt
    assert tokens_of([one_group]) != tokens_of([two_group])


def test_evaluation_has_its_own_environment_sampling_and_draws(rollout_config: MakeConfig) -> None:
    config = rollout_config(split="train").evaluation(
        evaluation_config={"env_config": {"template": "{expression} ="}},
        evaluation_samples_per_prompt=4,
        evaluation_top_p=1.0,
    )
    runner = TextEnvRunner(config=config)
    (training,), (evaluation,) = groups_of(runner, [3]), groups_of(runner, [3], evaluation=True)
    assert training.prompt.replace("=", " =") == evaluation.prompt
    assert len(evaluation.responses) == 4
    plain = TextEnvRunner(
        config=rollout_config().evaluation(evaluation_samples_per_prompt=4, evaluation_top_p=1.0)
    )
    assert tokens_of(groups_of(plain, [3])) != tokens_of(groups_of(plain, [3], evaluation=True))


def test_a_prompt_over_the_limit_gives_an_empty_group_beside_full_ones(
    rollout_config: MakeConfig,
) -> None:
    # <bos> and "a+b=": one token more for each operand of two digits
    config = rollout_config(max_operand=99).rollout(max_prompt_tokens=6)
    groups = groups_of(TextEnvRunner(config=config), range(20))
    fits = [len(group.prompt_ids) <= 6 for group in groups]
    assert any(fits)
    assert not all(fits)
    assert [len(group.responses) for group in groups] == [4 if fit else 0 for fit in fits]
    decisions = [judge(group.summary()) is Decision.PROMPT_TOO_LONG for group in groups]
    assert decisions == [not fit for fit in fits]
    assert all(group.prompt for group in groups)


# Environments that misbehave


@pytest.mark.parametrize("even", ["raise", "infinite"])
def test_an_environment_without_a_verdict_gives_a_missing_reward(
    rollout_config: MakeConfig, even: str
) -> None:
    runner = TextEnvRunner(config=rollout_config(ParityEnv, even=even))
    responses = [response for group in groups_of(runner, range(6)) for response in group.responses]
    for response in responses:
        if response.text[-1:] in ("1", "3", "5", "7", "9"):
            assert (response.reward, response.is_correct, response.is_missing) == (1.0, True, False)
        else:
            assert math.isnan(response.reward)
            assert response.is_correct is None
            assert response.is_missing
            raised = "crash: the environment raised OverflowError: this text was not foreseen"
            assert response.reason == (raised if even == "raise" else "the reward is inf")
    assert {response.is_missing for response in responses} == {True, False}


def hostile_env() -> type[SingleStepTextEnv]:
    """An environment whose scorer does not survive every digit; the class is sent whole, as one from a notebook is."""

    class HostileEnv(SingleStepTextEnv):
        def problem(self, seed: int) -> Problem:
            return Problem(prompt=f"{seed}+0=", answer="", problem_id=str(seed))

        def score(self, problem: Problem, response: str) -> Verdict:
            import os

            eaten = []
            while response[-1:] in ("0", "4"):
                eaten += [bytearray(1 << 24)] if response[-1:] == "4" else []
            if response[-1:] == "2":
                os._exit(1)
            return Verdict(is_correct=response[-1:] in ("1", "3", "5", "7", "9"))

    return HostileEnv


HOSTILE_SETTINGS = {
    "verify_in": "process",
    "verify_seconds": 2,
    "verify_memory_mib": 64,
    "verify_processes": 2,
}
REASONS = {
    "0": "timeout: no verdict",
    "2": "crash: the process ended with status 1",
    "4": "crash: out of memory",
}


def test_a_scorer_that_hangs_exits_or_eats_memory_costs_its_own_verdicts_alone(
    rollout_config: MakeConfig,
) -> None:
    runner = TextEnvRunner(config=rollout_config(hostile_env(), **HOSTILE_SETTINGS))
    responses = [response for group in groups_of(runner, range(10)) for response in group.responses]
    for response in responses:
        digit = response.text[-1:]
        assert response.is_missing is (digit in REASONS)
        assert response.reason.startswith(REASONS.get(digit, ""))
        assert (response.reason == "") is (digit not in REASONS)
        if not response.is_missing:
            assert response.is_correct is (digit in ("1", "3", "5", "7", "9"))
    assert {response.text[-1:] for response in responses} >= REASONS.keys()
    processes = psutil.Process().children()
    runner.stop()
    assert not [
        process
        for process in processes
        if process.is_running() and "child.py" in str(process.cmdline())
    ]


def test_training_goes_on_beside_a_scorer_that_fails(
    rollout_config: MakeConfig, cluster: None
) -> None:
    config = rollout_config(hostile_env(), **HOSTILE_SETTINGS).env_runners(num_env_runners=1)
    algo = (
        config.training(prompts_per_step=4, group_size=8)
        .dynamic_sampling(enabled=False)
        .build_algo()
    )
    try:
        results = [algo.train() for _ in range(2)]
    finally:
        algo.stop()
    for result in results:
        assert 0 < result["env_runners"]["missing_reward_fraction"] < 1
        assert result["learners"][DEFAULT_MODULE_ID]["trained_tokens"] > 0


class DoubledEnv(gym.Wrapper):
    """Doubles the rewards of sums."""

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__(gym.make("rllib_dapo/Arithmetic-v0", max_operand=9))

    def step(self, action: str) -> tuple[str, float, bool, bool, dict]:
        observation, reward, *rest = super().step(action)
        return observation, 2 * float(reward), *rest


def test_a_wrapper_has_its_say_in_every_reward(rollout_config: MakeConfig) -> None:
    runner = TextEnvRunner(config=rollout_config(DoubledEnv))
    rewards = {
        response.reward for group in groups_of(runner, range(20)) for response in group.responses
    }
    assert rewards == {-2.0, 2.0}


def test_training_leaves_missing_rewards_out(rollout_config: MakeConfig, cluster: None) -> None:
    config = (
        rollout_config(ParityEnv)
        .training(prompts_per_step=4, group_size=8)
        .dynamic_sampling(enabled=False)
    )
    expected = [group.summary() for group in groups_of(TextEnvRunner(config=config), range(4))]
    known = [[not math.isnan(reward) for reward in group.rewards] for group in expected]
    assert {judge(group, dynamic_sampling=False) for group in expected} == {Decision.ACCEPTED}
    assert sum(map(sum, known)) < 32
    algo = config.build_algo()
    try:
        result = algo.train()
    finally:
        algo.stop()
    trained = sum(
        np.dot(group.loss_tokens, row) for group, row in zip(expected, known, strict=True)
    )
    assert result["learners"][DEFAULT_MODULE_ID]["trained_tokens"] == trained
    assert result["env_runners"]["missing_reward_fraction"] == 1 - sum(map(sum, known)) / 32
    assert result["env_runners"]["episode_return_mean"] == 1.0


# RLlib's interface


def test_sample_returns_whole_groups_as_episodes_of_ever_new_prompts(
    rollout_config: MakeConfig,
) -> None:
    runner = TextEnvRunner(config=rollout_config())
    first, second = runner.sample(num_episodes=5), runner.sample()
    assert [len(first), len(second)] == [8, 4]
    assert all(
        isinstance(episode, SingleAgentEpisode) and episode.is_done for episode in first + second
    )
    seeds = [episode.get_infos(0)["seed"] for episode in first + second]
    assert seeds == [0] * 4 + [1] * 4 + [2] * 4
    texts = [response.text for group in groups_of(runner, range(3)) for response in group.responses]
    assert [episode.get_actions(0) for episode in first + second] == texts
    assert runner.num_env_steps_sampled_lifetime == 24


class Recorder(RLlibCallback):
    """Notes what it is called with."""

    calls: list[tuple[str, Any]]

    def on_environment_created(self, *, env: gym.Env, **kwargs: Any) -> None:
        type(self).calls = [("environment_created", env)]

    def on_episode_end(self, *, episode: SingleAgentEpisode, **kwargs: Any) -> None:
        self.calls.append(("episode_end", episode.get_return()))

    def on_sample_end(
        self, *, samples: list[SingleAgentEpisode], env_runner: TextEnvRunner, **kwargs: Any
    ) -> None:
        self.calls.append(("sample_end", [episode.get_return() for episode in samples]))


def test_callbacks_see_the_environment_every_episode_and_every_sample(
    rollout_config: MakeConfig,
) -> None:
    runner = TextEnvRunner(config=rollout_config().callbacks(Recorder))
    groups = groups_of(runner, range(2))
    rewards = [response.reward for group in groups for response in group.responses]
    assert Recorder.calls[0] == ("environment_created", runner.env)
    assert Recorder.calls[1:] == [("episode_end", reward) for reward in rewards] + [
        ("sample_end", rewards)
    ]


def test_a_callback_may_be_a_plain_function_that_logs_a_metric(rollout_config: MakeConfig) -> None:
    def log_length(*, episode: SingleAgentEpisode, metrics_logger: Any, **kwargs: Any) -> None:
        metrics_logger.log_value("letters", len(episode.get_actions(0)), reduce="sum")

    runner = TextEnvRunner(config=rollout_config().callbacks(on_episode_end=log_length))
    (group,) = groups_of(runner, [0])
    assert runner.get_metrics()["letters"].peek() == sum(
        len(response.text) for response in group.responses
    )


def state_of(folder: Any) -> list[tuple[str, np.ndarray]]:
    return [
        (name, tensor.numpy())
        for name, tensor in load_causal_lm(folder, dtype=torch.float32).state_dict().items()
    ]


def test_new_weights_change_the_version_and_what_is_sampled(
    cluster: None, rollout_config: MakeConfig, raw_model: Any, other_raw_model: Any
) -> None:
    runner = TextEnvRunner(config=rollout_config())
    before = tokens_of(groups_of(runner, range(3)))
    for version, folder in ((0, other_raw_model), (7, other_raw_model), (0, raw_model)):
        arrays = state_of(folder)
        pieces = [ray.put(arrays[start : start + 5]) for start in range(0, len(arrays), 5)]
        assert runner.load_weights(pieces, version) == version
        groups = groups_of(runner, range(3))
        assert [group.weights_version for group in groups] == [version] * 3
        assert runner.get_state()[WEIGHTS_SEQ_NO] == version
        assert (tokens_of(groups) == before) == (folder == raw_model)
        for group in groups:
            for response in group.responses:
                np.testing.assert_allclose(
                    response.logprobs, logprobs_under(folder, group, response), atol=1e-4
                )


def logprobs_under(folder: Any, group: PromptGroup, response: Any) -> np.ndarray:
    model = load_causal_lm(folder, dtype=torch.float32)
    ids = torch.tensor([[*group.prompt_ids.tolist(), *response.token_ids.tolist()]])
    with torch.no_grad():
        logprobs = model(ids).logits[0, len(group.prompt_ids) - 1 : -1].log_softmax(-1)
    return logprobs.gather(-1, ids[0, len(group.prompt_ids) :, None]).squeeze(-1).numpy()


def test_a_state_leaves_engine_and_version_alone(
    rollout_config: MakeConfig, other_raw_model: Any
) -> None:
    """RLlib would send weights so, whole and through the algorithm's process."""
    runner = TextEnvRunner(config=rollout_config())
    before = tokens_of(groups_of(runner, range(2)))
    weights = {COMPONENT_RL_MODULE: {DEFAULT_MODULE_ID: dict(state_of(other_raw_model))}}
    runner.set_state({WEIGHTS_SEQ_NO: 5, "num_env_steps_sampled_lifetime": 100, **weights})
    assert runner.get_state() == {WEIGHTS_SEQ_NO: 0, "num_env_steps_sampled_lifetime": 100}
    assert tokens_of(groups_of(runner, range(2))) == before


def test_an_env_runner_without_an_engine_keeps_its_version(rollout_config: MakeConfig) -> None:
    runner = TextEnvRunner(config=rollout_config().env_runners(num_env_runners=1), worker_index=0)
    assert runner.load_weights([], 3) == 0


def test_the_local_env_runner_beside_remote_ones_knows_its_spaces_and_holds_no_engine(
    rollout_config: MakeConfig,
) -> None:
    runner = TextEnvRunner(config=rollout_config().env_runners(num_env_runners=1), worker_index=0)
    assert runner.get_spaces()[DEFAULT_MODULE_ID] == (
        runner.env.observation_space,
        runner.env.action_space,
    )
    with pytest.raises(RuntimeError, match="EnvRunner 0 holds no engine"):
        runner.sample_groups([0])


def test_a_stopped_env_runner_closes_its_engine(rollout_config: MakeConfig) -> None:
    runner = TextEnvRunner(config=rollout_config())
    runner.stop()
    with pytest.raises(RuntimeError, match="holds no engine"):
        runner.sample_groups([0])
    runner.stop()


def test_the_tokenizer_is_the_models_own(runner: TextEnvRunner, raw_model: Any) -> None:
    assert runner.tokenizer.get_vocab() == load_tokenizer(raw_model).get_vocab()


def test_an_evaluation_on_what_is_trained_on_is_refused(
    rollout_config: MakeConfig, tmp_path: Any
) -> None:
    path = tmp_path / "sums.jsonl"
    path.write_text("".join(f'{{"question": "{n}+1=", "answer": "{n + 1}"}}\n' for n in range(9)))
    config = rollout_config("rllib_dapo/Math-v0", path=str(path), template="{problem}")
    TextEnvRunner(config=config).stop()
    config.evaluation(evaluation_interval=1)
    with pytest.raises(ValueError, match="9 of 9 held-out problems are also trained on"):
        TextEnvRunner(config=config)
