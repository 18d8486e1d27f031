"""A response as RLlib's kind of episode, for callbacks and for tools that expect one."""

from __future__ import annotations

from ray.rllib.env.single_agent_episode import SingleAgentEpisode

from rllib_dapo.core.types import PromptGroup, Response


def to_episode(group: PromptGroup, response: Response) -> SingleAgentEpisode:
    """One finished single-step episode: observation is the prompt, action the response's text.

    Token ids and log-probabilities ride along as `extra_model_outputs`.

    Args:
        group: The response's group.
        response: One of its responses.
    """
    episode = SingleAgentEpisode()
    episode.add_env_reset(group.prompt, infos={"seed": group.seed})
    episode.add_env_step(
        "",
        response.text,
        response.reward,
        infos={"is_correct": response.is_correct},
        terminated=True,
        extra_model_outputs={
            "token_ids": response.token_ids,
            "action_logp": response.logprobs,
            "weights_seq_no": group.weights_version,
        },
    )
    return episode
