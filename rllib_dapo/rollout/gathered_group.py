"""A group whose responses are gathered until all of them can be scored at once."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future

from rllib_dapo.envs.hosts.outcomes import StepOutcome


class GatheredGroup:
    """The responses to one prompt, as they come in.

    Attributes:
        outcomes: What each episode's step will give, by the episode's number.
    """

    def __init__(self, episode_ids: Sequence[int]) -> None:
        """Begins without a response.

        Args:
            episode_ids: The episodes of the group, in its order.
        """
        self.outcomes: dict[int, Future[StepOutcome]] = {one: Future() for one in episode_ids}
        self._texts: dict[int, str] = {}

    def add(self, episode_id: int, text: str) -> Future[StepOutcome]:
        """Adds a response, and returns where the outcome of its step will be."""
        self._texts[episode_id] = text
        return self.outcomes[episode_id]

    @property
    def is_whole(self) -> bool:
        """Whether all responses are there."""
        return len(self._texts) == len(self.outcomes)

    @property
    def texts(self) -> list[str]:
        """The responses, in the group's order and not in that in which they ended."""
        return [self._texts[episode_id] for episode_id in self.outcomes]
