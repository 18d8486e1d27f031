"""A prompt with its group of responses, and the short summary of it that the driver sees."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from rllib_dapo.core.prompt_key import prompt_key

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

FinishReason = Literal["stop", "length"]


@dataclass(frozen=True, kw_only=True, slots=True)
class TurnRecord:
    """One turn of an episode, as text.

    Attributes:
        said: What the policy said.
        reward: Reward of the step.
        observation: What the environment said back.
    """

    said: str
    reward: float
    observation: str


@dataclass(frozen=True, kw_only=True, slots=True)
class ResponseTokens:
    """The tokens of one sampled response: all of it that an update reads.

    Attributes:
        token_ids: `[T]` int32, every token after the prompt, exactly as sampled (end-of-sequence
            included).
        loss_mask: `[T]` bool, True where the policy chose the token (False on the environment's own
            tokens).
        logprobs: `[T]` float32, the sampler's log-probability of each token, in nats, at the
            sampling temperature.
    """

    token_ids: NDArray[np.int32]
    loss_mask: NDArray[np.bool_]
    logprobs: NDArray[np.float32]


@dataclass(frozen=True, kw_only=True, slots=True)
class Response(ResponseTokens):
    """One sampled response `o_i` and the environment's verdict on it.

    Attributes:
        finish_reason: The finish reason that the engine reports; `"length"` is the only sign of
            truncation.
        reward: Raw reward of the environment, summed over its steps; NaN if there was no verdict
            (the reward is *missing*).
        is_correct: The environment's `info["is_correct"]`; None if it does not say, or if there
            was no verdict.
        text: The response as text, including what the environment said back; for people to read,
            never tokenized again.
        reason: Why the reward is missing, one line: `timeout: ...`, `crash: ...`, `too long: ...`.
        prediction: The answer that the environment found in the response; equal answers are equal
            texts. Empty if it found none.
        components: What the reward is made of, by name.
        metrics: Other figures of the scorer, by name.
        turns: What was said on both sides, turn by turn; a single turn unless the environment
            speaks back.
        version_starts: The first token that each version of the weights has sampled, and the
            version, in their order; empty where the engine does not say, which has one alone then.
    """

    finish_reason: FinishReason
    reward: float
    is_correct: bool | None
    text: str
    reason: str = ""
    prediction: str = ""
    components: Mapping[str, float] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    turns: tuple[TurnRecord, ...] = ()
    version_starts: tuple[tuple[int, int], ...] = ()

    @property
    def tokens(self) -> ResponseTokens:
        """The tokens alone, without text and verdict."""
        return ResponseTokens(
            token_ids=self.token_ids, loss_mask=self.loss_mask, logprobs=self.logprobs
        )

    @property
    def num_turns(self) -> int:
        """How often the policy spoke, which is how often the environment was stepped."""
        return max(1, len(self.turns))

    @property
    def is_missing(self) -> bool:
        """Whether the verdict is missing (then the response takes no part in training)."""
        return math.isnan(self.reward)


@dataclass(frozen=True, kw_only=True, slots=True)
class PromptGroup:
    """The group of `G` responses to one prompt `q`.

    Attributes:
        seed: Reset seed of the environment; the problem is a pure function of it.
        prompt: The observation as one text, for people to read.
        prompt_ids: `[P]` int32, the tokens of the prompt, made once.
        responses: The `G` responses.
        weights_version: Version of the weights that sampled the group (RLlib's `weights_seq_no`);
            of several the oldest one.
        lost: Why the environment gave no prompt, in one line; there are no responses then.
        skipped: Whether nothing was sampled because no signal is expected of the prompt.
    """

    seed: int
    prompt: str
    prompt_ids: NDArray[np.int32]
    responses: tuple[Response, ...]
    weights_version: int
    lost: str = ""
    skipped: bool = False

    def tokens_of(self, indices: Iterable[int]) -> GroupTokens:
        """Returns the tokens of the responses at these places in the group, and of the prompt."""
        return GroupTokens(
            prompt_ids=self.prompt_ids,
            responses={i: self.responses[i].tokens for i in indices},
        )

    def summary(self) -> GroupSummary:
        """Returns everything that the driver bases its decisions on, without a token array."""
        responses = self.responses
        return GroupSummary(
            seed=self.seed,
            weights_version=self.weights_version,
            prompt_tokens=len(self.prompt_ids),
            response_tokens=tuple(len(r.token_ids) for r in responses),
            loss_tokens=tuple(int(r.loss_mask.sum()) for r in responses),
            rewards=tuple(r.reward for r in responses),
            is_correct=tuple(r.is_correct for r in responses),
            is_truncated=tuple(r.finish_reason == "length" for r in responses),
            reasons=tuple(r.reason for r in responses),
            predictions=tuple(r.prediction for r in responses),
            components=tuple(r.components for r in responses),
            metrics=tuple(r.metrics for r in responses),
            num_turns=tuple(r.num_turns for r in responses),
            lost=self.lost,
            skipped=self.skipped,
            prompt_key=prompt_key(self.prompt_ids),
            tokens_by_version=self._tokens_by_version(),
        )

    def _tokens_by_version(self) -> Mapping[int, int]:
        """How many of the policy's tokens each version of the weights has sampled."""
        counts: Counter[int] = Counter()
        for response in self.responses:
            starts = response.version_starts or ((0, self.weights_version),)
            ends = [start for start, _ in starts[1:]] + [len(response.token_ids)]
            for (start, version), end in zip(starts, ends, strict=True):
                counts[version] += int(response.loss_mask[start:end].sum())
        return dict(counts)


@dataclass(frozen=True, kw_only=True, slots=True)
class GroupTokens:
    """The tokens of some responses of a group, and of their prompt.

    Attributes:
        prompt_ids: `[P]` int32, the tokens of the prompt.
        responses: The tokens of each response, by its place in the group.
    """

    prompt_ids: NDArray[np.int32]
    responses: Mapping[int, ResponseTokens]

    def tokens_of(self, indices: Iterable[int]) -> GroupTokens:
        """Returns the responses at these places in the group alone."""
        return GroupTokens(
            prompt_ids=self.prompt_ids, responses={i: self.responses[i] for i in indices}
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class GroupSummary:
    """A `PromptGroup` without its tokens; every tuple has one entry per response.

    (That of `metrics` may be empty where the scorer gives none.)

    Where the environment gave no prompt, `lost` says why and all tuples are empty. So they are
    where nothing was sampled (`skipped`). `tokens_by_version` counts the policy's tokens.
    """

    seed: int
    weights_version: int
    prompt_tokens: int
    response_tokens: tuple[int, ...]
    loss_tokens: tuple[int, ...]
    rewards: tuple[float, ...]
    is_correct: tuple[bool | None, ...]
    is_truncated: tuple[bool, ...]
    reasons: tuple[str, ...]
    predictions: tuple[str, ...]
    components: tuple[Mapping[str, float], ...]
    num_turns: tuple[int, ...]
    metrics: tuple[Mapping[str, float], ...] = ()
    lost: str = ""
    skipped: bool = False
    prompt_key: int = 0
    tokens_by_version: Mapping[int, int] = field(default_factory=dict)

    @property
    def missing_reason(self) -> str:
        """Why the prompt, or else the first verdict that is missing, is; empty if none is."""
        if self.lost:
            return self.lost
        for reward, reason in zip(self.rewards, self.reasons, strict=True):
            if math.isnan(reward):
                return reason or "the environment gave no reason"
        return ""
