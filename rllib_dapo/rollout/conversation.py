"""One response in the making: the policy's turns, and the environment's observations in between."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from rllib_dapo.core.types import FinishReason, Response, TurnRecord
from rllib_dapo.envs.hosts.outcomes import StepOutcome, missing_outcome
from rllib_dapo.envs.messages import plain_text
from rllib_dapo.envs.tools import Tool
from rllib_dapo.rollout.engine import Completion

# Predictions travel to the driver with every summary. A longer one is wrong whatever follows.
_PREDICTION_CHARACTERS = 256


@dataclass(kw_only=True)
class Conversation:
    """The tokens after a prompt, turn by turn.

    Tokens are only ever added. The engine continues exactly what it sampled before, followed by the
    tokens of the environment's observation. No text is tokenized a second time: rendering the whole
    conversation anew may give other ids for the same text, and then the sampler's log-probabilities
    would belong to another sequence than the one trained on.

    All turns make one response, with observations masked: one forward pass gives all turns'
    log-probabilities, and the group's advantage holds for every token that the policy chose.

    Attributes:
        episode_id: Number of the episode within the rollout.
        seed: Reset seed of the prompt.
        index: Place of the response in its group.
        prompt_ids: `[P]` token ids of the prompt.
        tools: The tools that the model may call.
        last_text: Text of the policy's latest turn.
    """

    episode_id: int
    seed: int
    index: int
    prompt_ids: Sequence[int]
    tools: Sequence[Tool] = ()
    last_text: str = ""
    _token_ids: list[NDArray[np.int32]] = field(default_factory=list)
    _logprobs: list[NDArray[np.float32]] = field(default_factory=list)
    _is_sampled: list[bool] = field(default_factory=list)
    _turns: list[TurnRecord] = field(default_factory=list)
    _version_starts: list[tuple[int, int]] = field(default_factory=list)
    _finish_reason: FinishReason = "stop"
    _outcome: StepOutcome = field(default_factory=lambda: missing_outcome("not stepped"))

    @property
    def num_tokens(self) -> int:
        """Number of tokens after the prompt."""
        return sum(map(len, self._token_ids))

    @property
    def num_turns(self) -> int:
        """Number of turns that the environment was stepped with."""
        return len(self._turns)

    @property
    def policy_ended_turn(self) -> bool:
        """Whether the policy ended its latest turn itself, rather than the token limit."""
        return self._finish_reason == "stop"

    @property
    def token_ids(self) -> list[int]:
        """Token ids of the prompt and everything after it."""
        return [*self.prompt_ids, *(token for piece in self._token_ids for token in piece.tolist())]

    def add_completion(self, completion: Completion, text: str) -> None:
        """Adds a turn of the policy.

        Args:
            completion: Sampled tokens of the turn.
            text: The turn as text, for the environment.
        """
        before = self.num_tokens
        for start, version in completion.version_starts:
            if not self._version_starts or self._version_starts[-1][1] != version:
                self._version_starts.append((before + start, version))
        self._add(completion.token_ids, completion.logprobs, is_sampled=True)
        self._finish_reason = completion.finish_reason
        self.last_text = text

    def add_step_result(self, result: StepOutcome) -> None:
        """Records what the environment returned for the latest turn."""
        self._turns.append(
            TurnRecord(
                said=self.last_text,
                reward=result.reward,
                observation=plain_text(result.observation),
            )
        )
        self._outcome = result

    def add_observation(self, token_ids: Sequence[int]) -> None:
        """Adds an observation's tokens. They have no loss, and no log-probability."""
        self._add(
            np.asarray(token_ids, np.int32), np.zeros(len(token_ids), np.float32), is_sampled=False
        )

    def cut_off(self) -> None:
        """Ends the episode because tokens or turns ran out.

        The last turn's reward then includes `reward_if_cut_off`, if the environment put that into
        its info.
        """
        self._finish_reason = "length"

        last = self._turns[-1]
        self._turns[-1] = TurnRecord(
            said=last.said,
            reward=last.reward + self._outcome.reward_if_cut_off,
            observation=last.observation,
        )

    @property
    def verdict(self) -> tuple[float, bool | None]:
        """The reward of the episode, and whether it was correct; NaN and None if it is missing."""
        reward = self._reward
        return (reward, self._outcome.is_correct) if np.isfinite(reward) else (float("nan"), None)

    @property
    def _reward(self) -> float:
        return sum(turn.reward for turn in self._turns)

    def response(self) -> Response:
        """Returns the finished response."""
        reward, is_correct = self.verdict
        is_missing = np.isnan(reward)
        outcome = self._outcome

        return Response(
            token_ids=np.concatenate(self._token_ids),
            loss_mask=np.repeat(self._is_sampled, [len(piece) for piece in self._token_ids]),
            logprobs=np.concatenate(self._logprobs),
            finish_reason=self._finish_reason,
            reward=reward,
            is_correct=is_correct,
            text="".join(turn.said + turn.observation for turn in self._turns),
            reason=(outcome.reason or f"the reward is {self._reward}") if is_missing else "",
            prediction=outcome.prediction[:_PREDICTION_CHARACTERS],
            components=dict(outcome.components),
            metrics=dict(outcome.metrics),
            turns=tuple(self._turns),
            version_starts=tuple(self._version_starts),
        )

    def _add(
        self, token_ids: NDArray[np.int32], logprobs: NDArray[np.float32], *, is_sampled: bool
    ) -> None:
        self._token_ids.append(token_ids)
        self._logprobs.append(logprobs)
        self._is_sampled.append(is_sampled)
