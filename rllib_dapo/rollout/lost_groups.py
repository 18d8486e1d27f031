"""Groups whose tokens were lost with the EnvRunner that had sampled them.

Tokens stay in the object store of the node that made them, and belong to the process that did.
Where that ends before Learners have fetched them, they are gone, though the driver has the groups'
summaries. A problem is a pure function of its seed, so they are sampled again.
"""

from __future__ import annotations

import logging

from ray.exceptions import ObjectLostError

from rllib_dapo.rollout.dynamic_sampler import DynamicSampler
from rllib_dapo.rollout.rollout_result import SampledGroup
from rllib_dapo.rollout.rollout_stream import RolloutStream

logger = logging.getLogger(__name__)


def sample_lost_again(
    stream: RolloutStream, sampler: DynamicSampler, groups: dict[int, SampledGroup]
) -> None:
    """Samples groups of the batch again whose tokens cannot be fetched any more.

    Every one is fetched for that, one at a time: call it only where an EnvRunner was lost.

    Args:
        stream: Samples them.
        sampler: Has chosen the batch; takes the new summaries, which are the old ones where
            the engine gives the same responses again.
        groups: All groups by prompt seed; lost ones are replaced.
    """
    batch = [summary.seed for summary in sampler.accepted]
    replaced = set()
    while lost := [seed for seed in batch if _is_lost(groups[seed])]:
        logger.warning(
            "%d groups were lost with the EnvRunner that had sampled them: they are sampled again",
            len(lost),
        )
        replaced |= set(lost)
        for result in stream.sample(lost):
            groups.update({group.summary.seed: group for group in result.groups})
            # Where EnvRunners go on with the next batch, others have come, too.
            sampler.offer(g.summary for g in result.groups if g.summary.seed not in replaced)

    sampler.take_again(groups[seed].summary for seed in replaced)


def _is_lost(sampled: SampledGroup) -> bool:
    try:
        sampled.group()
    except ObjectLostError:
        return True
    return False
