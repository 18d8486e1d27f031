"""The EnvRunner: a group of responses for each prompt seed, sampled, scored and handed over."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import pytest
import ray
import torch
from ray.rllib.core import COMPONENT_RL_MODULE, DEFAULT_MODULE_ID
from ray.rllib.env.single_agent_episode import SingleAgentEpisode
from ray.rllib.utils.metrics import WEIGHTS_SEQ_NO

from rllib_dapo import DAPOConfig
from rllib_dapo.core import PromptGroup
from rllib_dapo.learner.weight_source import LearnerWeights
from rllib_dapo.models import load_causal_lm, load_tokenizer
from rllib_dapo.rollout import rollout_result
from rllib_dapo.rollout.env_runner import TextEnvRunner
from rllib_dapo.rollout.group_decisions import Decision, decide
from rllib_dapo.stored_group import CutGroup, WholeGroup, store_group
from rllib_dapo.weight_transfer.object_store import load_pieces
from rllib_dapo.weight_transfer.pieces import WeightPieces

MakeConfig = Callable[..., DAPOConfig]


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


def test_another_run_seed_samples_other_responses_to_the_same_prompts(
    rollout_config: MakeConfig,
) -> None:
    one, two = (TextEnvRunner(config=rollout_config().debugging(seed=seed)) for seed in (0, 1))
    one_group, two_group = groups_of(one, [3])[0], groups_of(two, [3])[0]
    assert one_group.prompt == two_group.prompt
    assert tokens_of([one_group]) != tokens_of([two_group])


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
    decisions = [decide(group.summary()) is Decision.PROMPT_TOO_LONG for group in groups]
    assert decisions == [not fit for fit in fits]
    assert all(group.prompt for group in groups)


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


# Weights


def state_of(folder: Any) -> list[tuple[str, np.ndarray]]:
    return [
        (name, tensor.numpy())
        for name, tensor in load_causal_lm(folder, dtype=torch.float32).state_dict().items()
    ]


def logprobs_under(folder: Any, group: PromptGroup, response: Any) -> np.ndarray:
    model = load_causal_lm(folder, dtype=torch.float32)
    ids = torch.tensor([[*group.prompt_ids.tolist(), *response.token_ids.tolist()]])
    with torch.no_grad():
        logprobs = model(ids).logits[0, len(group.prompt_ids) - 1 : -1].log_softmax(-1)
    return logprobs.gather(-1, ids[0, len(group.prompt_ids) :, None]).squeeze(-1).numpy()


def test_new_weights_change_the_version_and_what_is_sampled(
    cluster: None, rollout_config: MakeConfig, raw_model: Any, other_raw_model: Any
) -> None:
    runner = TextEnvRunner(config=rollout_config())
    before = tokens_of(groups_of(runner, range(3)))
    for version, folder in ((0, other_raw_model), (7, other_raw_model), (0, raw_model)):
        weights = [(name, torch.from_numpy(array)) for name, array in state_of(folder)]
        source = LearnerWeights(partial(iter, weights), dtype=torch.float32, converted=False)
        pieces = [ray.put(piece) for piece in WeightPieces(source, max_bytes=100_000)]
        assert runner.take_weights(load_pieces(pieces), version) == version

        groups = groups_of(runner, range(3))
        assert [group.weights_version for group in groups] == [version] * 3
        assert runner.get_state()[WEIGHTS_SEQ_NO] == version
        assert (tokens_of(groups) == before) == (folder == raw_model)
        for group in groups:
            for response in group.responses:
                np.testing.assert_allclose(
                    response.logprobs, logprobs_under(folder, group, response), atol=1e-4
                )


def test_a_state_leaves_engine_and_version_alone(
    rollout_config: MakeConfig, other_raw_model: Any
) -> None:
    """RLlib would send weights this way, whole and through the algorithm's process."""
    runner = TextEnvRunner(config=rollout_config())
    before = tokens_of(groups_of(runner, range(2)))
    weights = {COMPONENT_RL_MODULE: {DEFAULT_MODULE_ID: dict(state_of(other_raw_model))}}
    runner.set_state({WEIGHTS_SEQ_NO: 5, "num_env_steps_sampled_lifetime": 100, **weights})
    assert runner.get_state() == {WEIGHTS_SEQ_NO: 0, "num_env_steps_sampled_lifetime": 100}
    assert tokens_of(groups_of(runner, range(2))) == before


@pytest.mark.parametrize(
    ("num_learners", "evaluation", "kind"),
    [(2, False, CutGroup), (2, True, WholeGroup), (1, False, WholeGroup), (0, False, WholeGroup)],
)
def test_a_group_is_cut_where_several_learners_will_train_on_it(
    cluster: None,
    rollout_config: MakeConfig,
    runner: TextEnvRunner,
    num_learners: int,
    evaluation: bool,
    kind: type,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """And is otherwise one object, or none where the driver runs in the same process."""
    monkeypatch.setattr(rollout_result, "store_group", partial(store_group, small=-1))
    config = rollout_config().learners(num_learners=num_learners)
    remote = TextEnvRunner(config=config, worker_index=1, num_workers=1)
    try:
        (sampled,) = remote.sample_groups([3], evaluation=evaluation).groups
        assert isinstance(sampled.data, kind)
        assert sampled.group().summary() == sampled.summary
    finally:
        remote.stop()
    (here,) = runner.sample_groups([3]).groups
    assert isinstance(here.data, PromptGroup)


def test_an_env_runner_without_an_engine_keeps_its_version(rollout_config: MakeConfig) -> None:
    runner = TextEnvRunner(config=rollout_config().env_runners(num_env_runners=1), worker_index=0)
    assert runner.take_weights(load_pieces([]), 3) == 0
