"""The loop between engine and environments: responses are scored while others are sampled."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, wait
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import count
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

from rllib_dapo.core.types import Response
from rllib_dapo.envs.hosts.outcomes import StepOutcome, missing_outcome
from rllib_dapo.envs.tools import Tool
from rllib_dapo.models import observation_token_ids, response_reader
from rllib_dapo.rollout.conversation import Conversation
from rllib_dapo.rollout.engine import Engine, FinishedResponse, Request, Sampling
from rllib_dapo.rollout.env_stepper import EnvStepper, PendingStep
from rllib_dapo.rollout.group_so_far import GroupSoFar
from rllib_dapo.rollout.stop_strings import read_text
from rllib_dapo.rollout.tool_calls import ToolCallReader

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

logger = logging.getLogger(__name__)

_GRACE_SECONDS = 0.005  # what the engine may be kept waiting for environments that answer at once
_PATIENCE_SECONDS = 60.0  # of waiting for environments in silence


@dataclass(frozen=True, kw_only=True, slots=True)
class Prompt:
    """The beginning of a group of responses.

    Attributes:
        seed: Reset seed of the environment.
        token_ids: `[P]` token ids.
        lost: Why the environment gave no prompt, in one line; empty if it gave one.
        tools: The tools that the model may call.
    """

    seed: int
    token_ids: Sequence[int]
    lost: str = ""
    tools: Sequence[Tool] = ()


@dataclass(kw_only=True, slots=True)
class OpenGroup:
    """A group under way.

    Attributes:
        conversations: Its responses in the making.
        ended: Those of them that have ended.
    """

    conversations: list[Conversation]
    ended: list[Conversation] = field(default_factory=list)

    @property
    def unfinished(self) -> int:
        """How many of its responses go on."""
        return len(self.conversations) - len(self.ended)

    def so_far(self) -> GroupSoFar:
        """What is known of it."""
        verdicts = [conversation.verdict for conversation in self.ended]
        return GroupSoFar(
            rewards=tuple(reward for reward, _ in verdicts),
            is_correct=tuple(is_correct for _, is_correct in verdicts),
            unfinished=self.unfinished,
        )

    def responses(self) -> tuple[Response, ...]:
        """The group, once it has ended."""
        return tuple(conversation.response() for conversation in self.conversations)


class RolloutLoop:
    """Samples groups of responses, each to the end of its episode.

    Groups may be added, and given up, while others are under way. The engine goes on with other
    responses while an environment scores one. A response whose episode continues goes back to the
    engine at once, beside those still at their first turn.

    Attributes:
        engine_seconds: Time spent in the engine. The rest was spent in environments, or waiting for
            them.
    """

    def __init__(
        self,
        *,
        engine: Engine,
        env_stepper: EnvStepper,
        tokenizer: PreTrainedTokenizerBase,
        sampling: Sampling,
        max_turns: int,
        skip_special_tokens: bool | Literal["template"],
        sampling_seed: Callable[..., int],
        left_out: Mapping[int, Collection[int]] = MappingProxyType({}),
        on_response: Callable[[Conversation], None] | None = None,
        tool_calls: ToolCallReader | None = None,
    ) -> None:
        """Prepares a rollout.

        Args:
            engine: An idle engine.
            env_stepper: Steps the environments.
            tokenizer: The model's tokenizer.
            sampling: How to draw, and how many responses per prompt. Its `max_tokens` bounds a
                whole episode after the prompt, observations included.
            max_turns: Number of the policy's turns after which an episode is cut off.
            skip_special_tokens: Special tokens that environments do not see, see `response_text`.
            sampling_seed: Returns the engine's seed, given a prompt's reset seed and, from the
                second turn on, the response's place in its group and the number of turns so far.
            left_out: By reset seed, the places in the group of responses that are not wanted. The
                others are what they are without it.
            on_response: Called with each response as soon as its episode has ended.
            tool_calls: Reads the calls in responses to prompts with tools.
        """
        self._engine = engine
        self._env_stepper = env_stepper
        self._tokenizer = tokenizer
        self._sampling = sampling
        self._max_turns = max_turns
        self._read_response = response_reader(tokenizer, skip_special_tokens=skip_special_tokens)
        self._sampling_seed = sampling_seed
        self._left_out = left_out
        self._on_response = on_response
        self._tool_calls = tool_calls

        self._group_numbers, self._request_keys = count(), count()
        self._open: dict[int, OpenGroup] = {}
        # Request key -> the conversations that the engine still samples, by place in the request.
        self._generating: dict[int, dict[int, Conversation]] = {}
        self._stepping: list[tuple[Conversation, PendingStep]] = []
        self._idle_seconds = 0.0
        self._has_told = False
        self.engine_seconds = 0.0
        self._verdicts = 0

    @property
    def progress(self) -> int:
        """Changes as long as the engine computes, or an environment answers."""
        return self._engine.steps + self._verdicts

    def run(self, prompts: Sequence[Prompt]) -> list[tuple[Response, ...]]:
        """Samples a group for each prompt.

        Args:
            prompts: Prompts no longer than the engine allows.

        Returns:
            The groups, in the order of the prompts.
        """
        groups: dict[int, tuple[Response, ...]] = {}
        numbers = self.add(prompts)
        while not self.is_idle:
            groups |= self.advance()
        return [groups[number] for number in numbers]

    def add(self, prompts: Sequence[Prompt]) -> list[int]:
        """Asks for a group for each prompt, beside those that are under way.

        Args:
            prompts: Prompts no longer than the engine allows.

        Returns:
            A number for each group.
        """
        group_size = self._sampling.num_responses
        numbers = []
        with self._given_up_if_it_fails():
            for prompt in prompts:
                number = next(self._group_numbers)
                group = [
                    Conversation(
                        episode_id=number * group_size + index,
                        seed=prompt.seed,
                        index=index,
                        prompt_ids=prompt.token_ids,
                        tools=prompt.tools,
                    )
                    for index in range(group_size)
                    if index not in self._left_out.get(prompt.seed, ())
                ]
                self._open[number] = OpenGroup(conversations=group)
                self._env_stepper.begin_group(prompt.seed, [one.episode_id for one in group])
                numbers.append(number)

                seed = self._sampling_seed(prompt.seed)
                by_place = {conversation.index: conversation for conversation in group}
                self._request(by_place, prompt.token_ids, self._sampling, seed)
        return numbers

    @property
    def is_idle(self) -> bool:
        """Whether no group is under way."""
        return not self._open

    def so_far(self) -> dict[int, GroupSoFar]:
        """What is known of each group under way, by the groups' numbers."""
        return {number: group.so_far() for number, group in self._open.items()}

    def advance(self, *, most_seconds: float = math.inf) -> dict[int, tuple[Response, ...]]:
        """Steps the engine, or waits for an environment where there is nothing to sample.

        Args:
            most_seconds: Longest time to wait for one.

        Returns:
            The groups that have ended, by their numbers.
        """
        with self._given_up_if_it_fails():
            if self._generating or self._stepping:
                self._advance(most_seconds)

        ended = [number for number, group in self._open.items() if not group.unfinished]
        return {number: self._open.pop(number).responses() for number in ended}

    def give_up(self, numbers: Collection[int]) -> None:
        """Drops groups that are under way, and leaves nothing of them in engine or environments.

        Args:
            numbers: Numbers of groups; one that has ended is left out.
        """
        given_up = {number for number in numbers if number in self._open}
        keys = [
            key
            for key, by_place in self._generating.items()
            if self._group_of(next(iter(by_place.values()))) in given_up
        ]
        self._engine.abort(keys)
        for key in keys:
            del self._generating[key]
        self._stepping = [
            (conversation, step)
            for conversation, step in self._stepping
            if self._group_of(conversation) not in given_up
        ]
        for number in given_up:
            for conversation in self._open.pop(number).conversations:
                self._env_stepper.end_episode(conversation.episode_id)

    def _group_of(self, conversation: Conversation) -> int:
        return conversation.episode_id // self._sampling.num_responses

    @contextmanager
    def _given_up_if_it_fails(self) -> Iterator[None]:
        """Engine and environments outlive this rollout: nothing of it may reach the next one."""
        try:
            yield
        except BaseException:
            self._engine.abort()
            for group in self._open.values():
                for conversation in group.conversations:
                    self._env_stepper.end_episode(conversation.episode_id)
            self._open.clear()
            raise

    def _advance(self, most_seconds: float) -> None:
        if self._generating:
            self._idle_seconds = 0.0
            started = time.perf_counter()
            finished = self._engine.step()
            self.engine_seconds += time.perf_counter() - started

            for response in finished:
                self._begin_step(response)
            if finished and self._env_stepper.may_go_on:
                # A quick environment's episode goes on in the engine's next step.
                wait([step.future for _, step in self._stepping], _GRACE_SECONDS)
        else:
            self._wait_for_environments(most_seconds)

        still_stepping = []
        for conversation, step in self._stepping:
            if step.future.done():
                self._verdicts += 1
                self._end_or_continue(conversation, step.result())
            else:
                still_stepping.append((conversation, step))
        self._stepping = still_stepping

    def _wait_for_environments(self, most_seconds: float) -> None:
        """Waits for one of the environments, and says so where that takes long."""
        futures = [step.future for _, step in self._stepping]
        started = time.monotonic()
        done, _ = wait(futures, min(most_seconds, _PATIENCE_SECONDS), return_when=FIRST_COMPLETED)
        self._idle_seconds = 0.0 if done else self._idle_seconds + time.monotonic() - started
        if self._idle_seconds >= _PATIENCE_SECONDS and not self._has_told:
            self._has_told = True
            logger.warning(
                "nothing to sample for %g s: %d responses wait for the environment, the first of "
                "them to seed %d. environment.env_config.verify_in=process bounds every call by "
                "verify_seconds",
                _PATIENCE_SECONDS,
                len(futures),
                self._stepping[0][0].seed,
            )

    def _request(
        self,
        by_place: dict[int, Conversation],
        token_ids: Sequence[int],
        sampling: Sampling,
        seed: int,
    ) -> None:
        """Asks the engine for the next turn of conversations that have the same tokens so far."""
        if not by_place:
            return
        key = next(self._request_keys)
        self._generating[key] = by_place
        request = Request(
            key=key, prompt_ids=token_ids, sampling=sampling, seed=seed, places=list(by_place)
        )

        started = time.perf_counter()
        self._engine.add(request)
        self.engine_seconds += time.perf_counter() - started

    def _begin_step(self, finished: FinishedResponse) -> None:
        """Gives a turn that the engine has finished to the environment."""
        conversation = self._generating[finished.key].pop(finished.index)
        if not self._generating[finished.key]:
            del self._generating[finished.key]

        text = read_text(finished.completion, self._read_response)
        conversation.add_completion(finished.completion, text)

        if conversation.tools and self._tool_calls is not None:
            token_ids = finished.completion.token_ids.tolist()
            text = self._tool_calls.read(text, token_ids, conversation.tools)
        step = self._env_stepper.begin_step(conversation.episode_id, conversation.seed, text)
        self._stepping.append((conversation, step))

    def _end_or_continue(self, conversation: Conversation, result: StepOutcome) -> None:
        """Ends the episode, or adds the observation and asks the engine for the next turn."""
        # A template for single questions is right where the policy does not speak again.
        speaks_again = (
            conversation.policy_ended_turn and conversation.num_turns + 1 < self._max_turns
        )
        observation_ids: Sequence[int] = ()
        if not result.is_done and math.isfinite(result.reward) and speaks_again:
            result, observation_ids = self._read_observation(conversation, result)

        conversation.add_step_result(result)
        if result.is_done or not math.isfinite(result.reward):
            self._end(conversation)
            return

        tokens_left = self._sampling.max_tokens - conversation.num_tokens - len(observation_ids)
        if not speaks_again or tokens_left < 1:
            conversation.cut_off()
            self._end(conversation)
            return

        conversation.add_observation(observation_ids)
        self._request(
            {0: conversation},
            conversation.token_ids,
            replace(self._sampling, num_responses=1, max_tokens=tokens_left),
            self._sampling_seed(conversation.seed, conversation.index, conversation.num_turns),
        )

    def _read_observation(
        self, conversation: Conversation, result: StepOutcome
    ) -> tuple[StepOutcome, Sequence[int]]:
        """Returns what the model reads next. If it cannot be read, the reward is missing."""
        try:
            ids = observation_token_ids(
                self._tokenizer,
                result.observation,
                after=conversation.token_ids[-1],
                tools=conversation.tools,
            )
        except ValueError as error:
            return missing_outcome(f"crash: what step returned cannot be read: {error}"), ()
        return result, ids

    def _end(self, conversation: Conversation) -> None:
        """Ends an episode."""
        self._env_stepper.end_episode(conversation.episode_id)
        self._open[self._group_of(conversation)].ended.append(conversation)
        if self._on_response is not None:
            self._on_response(conversation)
