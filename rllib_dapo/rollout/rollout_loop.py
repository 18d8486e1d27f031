"""Engine and environments at work together: responses are judged, and answered, while others are still sampled."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, wait
from dataclasses import dataclass, replace
from itertools import count
from typing import TYPE_CHECKING

from rllib_dapo.core.types import Response
from rllib_dapo.models import answer_token_ids
from rllib_dapo.rollout.conversation import Conversation
from rllib_dapo.rollout.engine import Engine, Finished, Request, Sampling
from rllib_dapo.rollout.env_stepper import Answer, Answerer, Asked

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True, kw_only=True, slots=True)
class Prompt:
    """What a group of responses begins with: reset seed, `[P]` token ids, and the engine's seed."""

    seed: int
    token_ids: Sequence[int]
    sampling_seed: int


class RolloutLoop:
    """Samples groups of responses, each to the end of its episode.

    Whatever the environments need, the engine goes on with the other responses meanwhile. A
    response to which the environment answers goes back to the engine at once, beside those that are
    still at their first turn.

    Attributes:
        engine_seconds: Time in the engine. The rest was spent waiting for environments, or in them.
    """

    def __init__(
        self,
        *,
        engine: Engine,
        answerer: Answerer,
        tokenizer: PreTrainedTokenizerBase,
        sampling: Sampling,
        max_turns: int,
        turn_seed: Callable[[int, int, int], int],
    ) -> None:
        """Prepares a rollout.

        Args:
            engine: Idle.
            answerer: Of the environment.
            tokenizer: The model's.
            sampling: Its `max_tokens` bounds a whole episode after the prompt, an environment's
                answers included.
            max_turns: An episode is cut off after so many turns of the policy.
            turn_seed: The engine's seed for reset seed, place in the group and turn, from the
                second turn on.
        """
        self._engine = engine
        self._answerer = answerer
        self._tokenizer = tokenizer
        self._sampling = sampling
        self._max_turns = max_turns
        self._turn_seed = turn_seed
        self._requests = count()
        self._speaking: dict[int, dict[int, Conversation]] = {}
        self._asked: list[tuple[Conversation, Asked]] = []
        self.engine_seconds = 0.0

    def run(self, prompts: Sequence[Prompt]) -> list[tuple[Response, ...]]:
        """Samples a group for each prompt.

        Args:
            prompts: Each no longer than the engine allows.

        Returns:
            The groups, in the order of the prompts.
        """
        size = self._sampling.num_responses
        groups = [
            [
                Conversation(
                    episode=g * size + i,
                    group=g,
                    seed=prompt.seed,
                    index=i,
                    prompt_ids=prompt.token_ids,
                )
                for i in range(size)
            ]
            for g, prompt in enumerate(prompts)
        ]
        try:
            for prompt, group in zip(prompts, groups, strict=True):
                self._send(group, prompt.token_ids, self._sampling, prompt.sampling_seed)
            while self._speaking or self._asked:
                self._advance()
        except BaseException:  # the engine will be asked again, and must not answer this
            self._engine.abort()
            for conversation in (one for group in groups for one in group):
                self._answerer.leave(conversation.episode)
            raise
        return [tuple(conversation.response() for conversation in group) for group in groups]

    def _advance(self) -> None:
        if self._speaking:
            started = time.perf_counter()
            finished = self._engine.step()
            self.engine_seconds += time.perf_counter() - started
            for one in finished:
                self._ask(one)
        else:
            wait([asked.future for _, asked in self._asked], return_when=FIRST_COMPLETED)
        still_asked = []
        for conversation, asked in self._asked:
            if asked.future.done():
                self._take_answer(conversation, asked.read())
            else:
                still_asked.append((conversation, asked))
        self._asked = still_asked

    def _send(
        self,
        conversations: list[Conversation],
        token_ids: Sequence[int],
        sampling: Sampling,
        seed: int,
    ) -> None:
        key = next(self._requests)
        self._speaking[key] = dict(enumerate(conversations))
        started = time.perf_counter()
        self._engine.add(Request(key=key, prompt_ids=token_ids, sampling=sampling, seed=seed))
        self.engine_seconds += time.perf_counter() - started

    def _ask(self, finished: Finished) -> None:
        """Puts a response to the environment."""
        conversation = self._speaking[finished.key].pop(finished.index)
        if not self._speaking[finished.key]:
            del self._speaking[finished.key]
        text = self._tokenizer.decode(
            finished.completion.token_ids.tolist(), skip_special_tokens=True
        )
        conversation.speak(finished.completion, text)
        self._asked.append(
            (conversation, self._answerer.ask(conversation.episode, conversation.seed, text))
        )

    def _take_answer(self, conversation: Conversation, answer: Answer) -> None:
        """Ends the episode, or lets the policy read the answer and go on."""
        conversation.hear(answer)
        if answer.is_over or not math.isfinite(answer.reward):
            self._answerer.leave(conversation.episode)
            return
        token_ids = answer_token_ids(
            self._tokenizer, answer.observation, after=conversation.token_ids[-1]
        )
        tokens_left = self._sampling.max_tokens - conversation.num_tokens - len(token_ids)
        if (
            not conversation.ended_itself
            or conversation.num_turns >= self._max_turns
            or tokens_left < 1
        ):
            conversation.cut_off()
            self._answerer.leave(conversation.episode)
            return
        conversation.read(token_ids)
        self._send(
            [conversation],
            conversation.token_ids,
            replace(self._sampling, num_responses=1, max_tokens=tokens_left),
            self._turn_seed(conversation.seed, conversation.index, conversation.num_turns),
        )
