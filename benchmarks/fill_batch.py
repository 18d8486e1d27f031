"""Filling a batch from a stream, as `DAPO` does it, without an algorithm around it."""

from __future__ import annotations

from rllib_dapo.rollout.dynamic_sampler import DynamicSampler
from rllib_dapo.rollout.prompt_place import PromptPlace
from rllib_dapo.rollout.rollout_result import SampledGroup
from rllib_dapo.rollout.rollout_stream import RolloutStream


def fill_batch(
    stream: RolloutStream, place: PromptPlace
) -> tuple[DynamicSampler, dict[int, SampledGroup]]:
    """Samples groups until a batch is full, and goes on to the next one's first prompt.

    Args:
        stream: Brings groups.
        place: The place in the stream of prompts.

    Returns:
        The sampler with its decisions, and all groups that have arrived, by seed.
    """
    sampler, rates = place.begin_step()
    stream.begin_batch(rates)
    groups: dict[int, SampledGroup] = {}
    while not sampler.is_done:
        stream.put(sampler.ask())
        results = stream.take()
        arrived = {group.summary.seed: group for result in results for group in result.groups}
        under_way = {seed: group for result in results for seed, group in result.under_way.items()}
        sampler.offer((group.summary for group in arrived.values()), under_way)
        stream.drop(sampler.drop())
        groups |= arrived
    stream.give_up()
    place.end_step(sampler)
    return sampler, groups
