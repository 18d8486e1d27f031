"""A response as one of RLlib's episodes."""

from __future__ import annotations

import numpy as np

from rllib_dapo.core import PromptGroup, Response
from rllib_dapo.rollout.episodes import to_episode


def test_an_episode_shows_prompt_response_and_verdict() -> None:
    response = Response(
        token_ids=np.array([5, 6, 2], dtype=np.int32),
        loss_mask=np.ones(3, dtype=np.bool_),
        logprobs=np.array([-0.5, -0.25, -0.125], dtype=np.float32),
        finish_reason="stop",
        reward=-1.0,
        is_correct=False,
        text="12",
    )
    group = PromptGroup(
        seed=7,
        prompt="4+5=",
        prompt_ids=np.array([1, 3], dtype=np.int32),
        responses=(response,),
        weights_version=9,
    )
    episode = to_episode(group, response)
    assert episode.is_terminated
    assert not episode.is_truncated
    assert len(episode) == 1
    assert episode.get_return() == -1.0
    assert episode.get_observations(0) == "4+5="
    assert episode.get_actions(0) == "12"
    assert episode.get_infos() == [{"seed": 7}, {"is_correct": False}]
    assert episode.get_extra_model_outputs("token_ids", 0).tolist() == [5, 6, 2]
    assert episode.get_extra_model_outputs("action_logp", 0).tolist() == [-0.5, -0.25, -0.125]
    assert episode.get_extra_model_outputs("weights_seq_no", 0) == 9
