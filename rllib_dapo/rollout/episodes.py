"""A response as one of RLlib's episodes, for callbacks and for tools that expect them."""

from __future__ import annotations

import numpy as np
from ray.rllib.env.single_agent_episode import SingleAgentEpisode

from rllib_dapo.core.types import PromptGroup, Response, TurnRecord


def to_episode(group: PromptGroup, response: Response) -> SingleAgentEpisode:
    """Builds a finished episode, with one step for each turn of the response.

    The first observation is the prompt, and an action is the text of a turn. The sampled tokens and
    their log-probabilities are in each step's `extra_model_outputs`.

    Args:
        group: The group of the response.
        response: One of the group's responses.
    """
    episode = SingleAgentEpisode()
    episode.add_env_reset(group.prompt, infos={"seed": group.seed})

    turns = response.turns or (
        TurnRecord(said=response.text, reward=response.reward, observation=""),
    )
    spans = _sampled_spans(response)

    for number, (turn, span) in enumerate(zip(turns, spans, strict=True), start=1):
        is_last = number == len(turns)
        episode.add_env_step(
            turn.observation,
            turn.said,
            turn.reward,
            infos={"is_correct": response.is_correct} if is_last else {},
            terminated=is_last,
            extra_model_outputs={
                "token_ids": response.token_ids[span],
                "action_logp": response.logprobs[span],
                "weights_seq_no": group.weights_version,
            },
        )

    return episode


def _sampled_spans(response: Response) -> list[slice]:
    """Finds each turn's tokens: the runs of True in the loss mask."""
    edges = np.flatnonzero(np.diff(response.loss_mask, prepend=False, append=False))
    return [
        slice(int(start), int(stop)) for start, stop in zip(edges[::2], edges[1::2], strict=True)
    ]
