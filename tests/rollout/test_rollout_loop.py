"""Episodes of several turns: what is sampled, read and trained on, and how episodes end."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from ray.rllib.core import DEFAULT_MODULE_ID

from rllib_dapo import DAPOConfig
from rllib_dapo.core import PromptGroup
from rllib_dapo.core.collate import collate
from rllib_dapo.envs import TextSpace
from rllib_dapo.models import load_causal_lm
from rllib_dapo.planning import plan_update
from rllib_dapo.rollout.engine import FinishedResponse, Request
from rllib_dapo.rollout.env_runner import TextEnvRunner
from rllib_dapo.rollout.episodes import to_episode
from rllib_dapo.rollout.read_prompts import read_prompts

MakeConfig = Callable[..., DAPOConfig]
LIMIT = 24


class TalkEnv(gym.Env):
    """Takes `turns` responses, repeats each with a tail, and pays for every odd last digit."""

    made = 0

    def __init__(self, config: dict[str, Any]) -> None:
        self.observation_space = self.action_space = TextSpace(1000)
        self.settings = {"turns": 3, "tail": "=", "fault": None, **config}
        self.is_closed = False
        type(self).made += 1

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> tuple[str, dict]:
        super().reset(seed=seed)
        self.heard: list[str] = []
        self.prompt = f"{seed}+0="
        return self.prompt, {}

    def step(self, action: str) -> tuple[Any, float, bool, bool, dict]:
        self.heard.append(action)
        is_last = len(self.heard) == self.settings["turns"]
        odd = sum(text[-1:] in ("1", "3", "5", "7", "9") for text in self.heard)
        if len(self.heard) == 2 and self.settings["fault"] == "raise":
            raise OverflowError("unforeseen")
        observation = (
            None if self.settings["fault"] == "no text" else f"{action}{self.settings['tail']}"
        )
        reward = (
            math.nan if len(self.heard) == 2 and self.settings["fault"] == "nan" else float(odd)
        )
        info = {"is_correct": odd > 1, "reward_if_cut_off": -10.0}
        return observation, reward, is_last, False, info

    def close(self) -> None:
        self.is_closed = True


class Recorder:
    """Notes what goes into an engine and what comes out; the engine itself is the real one."""

    def __init__(self, runner: TextEnvRunner) -> None:
        engine = runner.module[DEFAULT_MODULE_ID].engine
        self.requests: dict[int, Request] = {}
        self.finished: list[FinishedResponse] = []
        add, step = engine.add, engine.step

        def recorded_add(request: Request) -> None:
            self.requests[request.key] = request
            add(request)

        def recorded_step() -> list[FinishedResponse]:
            self.finished += (finished := step())
            return finished

        engine.add, engine.step = recorded_add, recorded_step


@pytest.fixture
def talk_config(rollout_config: MakeConfig) -> MakeConfig:
    def make(**env_config: Any) -> DAPOConfig:
        return rollout_config(TalkEnv, **env_config).rollout(max_response_tokens=LIMIT)

    return make


@pytest.fixture
def make_runner() -> Iterator[Callable[[DAPOConfig], TextEnvRunner]]:
    made: list[TextEnvRunner] = []

    def make(config: DAPOConfig) -> TextEnvRunner:
        made.append(TextEnvRunner(config=config))
        return made[-1]

    yield make
    for runner in made:
        runner.stop()


MakeRunner = Callable[[DAPOConfig], TextEnvRunner]


def groups_of(runner: TextEnvRunner, seeds: range | list[int]) -> list[PromptGroup]:
    return [sampled.group() for sampled in runner.sample_groups(seeds).groups]


def spans(mask: np.ndarray) -> list[tuple[int, int]]:
    """Where the runs of True begin and end."""
    edges = np.flatnonzero(np.diff(mask, prepend=False, append=False)).tolist()
    return list(zip(edges[::2], edges[1::2], strict=True))


@pytest.mark.parametrize("engine", ["transformers", "vllm"])
def test_every_trained_token_is_one_that_the_engine_sampled_and_was_sent_back_unchanged(
    talk_config: MakeConfig, make_runner: MakeRunner, engine: str
) -> None:
    config = talk_config().rollout(engine=engine, cpu_kv_cache_gib=0.25)
    config.training(prompts_per_step=3, group_size=4, minibatch_size=12)
    runner = make_runner(config)
    recorder = Recorder(runner)
    sampled_groups = runner.sample_groups(range(3)).groups

    # What the engine made of each sequence that it was asked to continue.
    continued: dict[tuple[int, ...], list[tuple[list[int], list[float]]]] = defaultdict(list)
    for f in recorder.finished:
        what = (f.completion.token_ids.tolist(), f.completion.logprobs.tolist())
        continued[tuple(recorder.requests[f.key].prompt_ids)].append(what)

    sampled: dict[tuple[int, int], list[int]] = {}
    for g, group in enumerate(s.group() for s in sampled_groups):
        for i, response in enumerate(group.responses):
            ids, turns = response.token_ids.tolist(), spans(response.loss_mask)
            assert len(turns) == response.num_turns

            for start, stop in turns:
                before = (*group.prompt_ids.tolist(), *ids[:start])
                continued[before].remove((ids[start:stop], response.logprobs[start:stop].tolist()))

            assert not response.logprobs[~response.loss_mask].any()
            sampled[g, i] = [token for start, stop in turns for token in ids[start:stop]]

    assert any(response.num_turns == 3 for s in sampled_groups for response in s.group().responses)
    assert not any(continued.values()), "sampled, and in no response"

    # The same for what a Learner gets.
    config.dynamic_sampling(enabled=False)
    data, _ = plan_update(
        [s.summary for s in sampled_groups], {s.summary.seed: s for s in sampled_groups}, config
    )
    assert data is not None
    (micro_batches,) = data.shards[0]
    for plan in micro_batches:
        batch = collate(plan, data.groups, pad_token_id=0)
        for row, planned in enumerate(plan.responses):
            mask = batch["mask"][row]
            trained = batch["response_ids"][row][mask].tolist()
            assert trained == sampled.pop((planned.group, planned.index))
            assert batch["input_ids"].flatten()[batch["predictor"][row][mask] + 1].shape == (
                len(trained),
            )
    assert not sampled


def test_logprobs_of_later_turns_are_those_of_a_plain_forward_pass_over_the_whole_episode(
    talk_config: MakeConfig, make_runner: MakeRunner, raw_model: Any
) -> None:
    model = load_causal_lm(raw_model, dtype=torch.float32)
    for group in groups_of(make_runner(talk_config()), range(3)):
        for response in group.responses:
            ids = torch.tensor([[*group.prompt_ids.tolist(), *response.token_ids.tolist()]])
            with torch.no_grad():
                logprobs = model(ids).logits[0, len(group.prompt_ids) - 1 : -1].log_softmax(-1)
            plain = logprobs.gather(-1, ids[0, len(group.prompt_ids) :, None]).squeeze(-1).numpy()
            mask = response.loss_mask
            np.testing.assert_allclose(response.logprobs[mask], plain[mask], atol=1e-4)


def test_what_is_read_between_turns_is_the_environments_observation(
    talk_config: MakeConfig, make_runner: MakeRunner
) -> None:
    runner = make_runner(talk_config())
    for group in groups_of(runner, range(4)):
        for response in group.responses:
            ids = response.token_ids.tolist()
            edges = [edge for span in spans(response.loss_mask) for edge in span][1:-1]
            read = [
                runner.tokenizer.decode(ids[a:b])
                for a, b in zip(edges[::2], edges[1::2], strict=True)
            ]
            assert read == [turn.observation for turn in response.turns[: len(read)]]
            assert response.text == "".join(turn.said + turn.observation for turn in response.turns)


def test_rewards_are_summed_and_the_last_verdict_counts(
    talk_config: MakeConfig, make_runner: MakeRunner
) -> None:
    responses = [
        r for group in groups_of(make_runner(talk_config()), range(6)) for r in group.responses
    ]
    whole = [response for response in responses if response.finish_reason == "stop"]
    assert whole
    for response in whole:
        odd = np.cumsum([turn.said[-1:] in ("1", "3", "5", "7", "9") for turn in response.turns])
        assert response.num_turns == 3
        assert response.reward == odd.sum()
        assert response.is_correct == (odd[-1] > 1)


@pytest.mark.parametrize(
    ("env_config", "rollout", "turns"),
    [
        ({"turns": 9}, {"max_turns": 2}, 2),
        ({"turns": 99, "tail": "+1="}, {}, None),
        ({"tail": "1" * LIMIT}, {}, 1),
    ],
    ids=["turns", "tokens", "no room for the observation"],
)
def test_an_episode_is_cut_off_for_want_of_turns_or_tokens(
    talk_config: MakeConfig,
    make_runner: MakeRunner,
    env_config: dict,
    rollout: dict,
    turns: int | None,
) -> None:
    responses = [
        response
        for group in groups_of(make_runner(talk_config(**env_config).rollout(**rollout)), range(4))
        for response in group.responses
    ]
    for response in responses:
        assert response.finish_reason == "length"
        assert len(response.token_ids) <= LIMIT
        assert response.loss_mask[-1]
        assert turns is None or response.num_turns <= turns
        assert response.reward <= -10 + sum(range(1, response.num_turns + 1))
    assert turns is None or {response.num_turns for response in responses} == {turns}


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("raise", "crash: the environment raised OverflowError: unforeseen"),
        ("nan", "the reward is nan"),
        (
            "no text",
            "crash: step must return a text to go on with, or messages: a prompt must be a text "
            "or a list of messages, not NoneType: None",
        ),
    ],
)
def test_a_fault_in_the_middle_gives_a_missing_reward(
    talk_config: MakeConfig, make_runner: MakeRunner, fault: str, reason: str
) -> None:
    runner = make_runner(talk_config(fault=fault))
    responses = [response for group in groups_of(runner, range(3)) for response in group.responses]
    missing = [response for response in responses if response.is_missing]
    assert missing
    assert all(
        response.finish_reason == "length" for response in responses if not response.is_missing
    )
    assert {response.reason for response in missing} == {reason}
    assert all(response.is_correct is None for response in missing)


def test_a_seed_gives_the_same_episodes_in_any_batch_and_with_any_number_of_threads(
    talk_config: MakeConfig, make_runner: MakeRunner
) -> None:
    def tokens(groups: list[PromptGroup]) -> list[list[list[int]]]:
        return [[response.token_ids.tolist() for response in group.responses] for group in groups]

    runner = make_runner(talk_config())
    together = tokens(groups_of(runner, range(4)))
    alone = [tokens(groups_of(runner, [seed]))[0] for seed in range(4)]
    in_threads = tokens(groups_of(make_runner(talk_config().rollout(num_env_threads=4)), range(4)))
    assert together == alone == in_threads


def test_each_episode_has_an_environment_of_its_own_and_all_are_used_again_and_closed(
    talk_config: MakeConfig, make_runner: MakeRunner
) -> None:
    TalkEnv.made = 0
    runner = make_runner(talk_config())
    groups_of(runner, range(2))
    made = TalkEnv.made

    assert 1 < made <= 8
    groups_of(runner, range(2))
    assert TalkEnv.made == made

    env = runner.env
    runner.stop()
    assert env.is_closed


@pytest.mark.parametrize("env", ["rllib_dapo/Arithmetic-v0", TalkEnv], ids=["one turn", "several"])
def test_responses_are_judged_while_others_are_sampled(
    rollout_config: MakeConfig, make_runner: MakeRunner, env: Any
) -> None:
    runner = make_runner(rollout_config(env).rollout(max_response_tokens=LIMIT))
    events: list[str] = []
    engine = runner.module[DEFAULT_MODULE_ID].engine
    env_stepper = runner.environments.stepper()
    step, begin_step = engine.step, env_stepper.begin_step
    engine.step = lambda: events.append("sampled") or step()
    env_stepper.begin_step = lambda *arguments: events.append("stepped") or begin_step(*arguments)
    groups_of(runner, range(3))
    assert events[:6] == ["sampled", *["stepped"] * 4, "sampled"]


def test_an_episode_for_callbacks_has_a_step_for_each_turn(
    talk_config: MakeConfig, make_runner: MakeRunner
) -> None:
    (group,) = groups_of(make_runner(talk_config()), [1])
    for response in group.responses:
        episode = to_episode(group, response)
        assert len(episode) == response.num_turns
        assert episode.is_done
        assert episode.get_observations() == [
            group.prompt,
            *(turn.observation for turn in response.turns),
        ]
        assert episode.get_actions() == [turn.said for turn in response.turns]
        assert episode.get_return() == pytest.approx(response.reward)
        steps = episode.get_extra_model_outputs("token_ids")
        assert np.concatenate(steps).tolist() == response.token_ids[response.loss_mask].tolist()


@pytest.mark.parametrize("engine", ["transformers", "vllm"])
def test_groups_that_are_added_and_given_up_on_the_way_change_none_of_the_others(
    talk_config: MakeConfig, make_runner: MakeRunner, engine: str
) -> None:
    runner = make_runner(talk_config().rollout(engine=engine, cpu_kv_cache_gib=0.25))
    stepper = runner.environments.stepper(evaluation=False)
    read = read_prompts(runner.tokenizer, stepper.prompts(range(5)), runner.config)
    prompts = [prompt for _, prompt in read]
    alone = runner._make_loop(stepper, evaluation=False).run(prompts)

    loop = runner._make_loop(stepper, evaluation=False)
    first, given_up = loop.add(prompts[:2])
    ended = loop.advance()
    loop.give_up([given_up])
    numbers = [first, *loop.add(prompts[2:])]
    loop.give_up([given_up])  # again: nothing happens
    while not loop.is_idle:
        ended |= loop.advance()

    assert ended.keys() == set(numbers)
    expected = [alone[0], *alone[2:]]
    for number, group in zip(numbers, expected, strict=True):
        assert [r.token_ids.tolist() for r in ended[number]] == [
            r.token_ids.tolist() for r in group
        ]
        assert [r.reward for r in ended[number]] == [r.reward for r in group]
    assert runner.module[DEFAULT_MODULE_ID].engine.is_idle
