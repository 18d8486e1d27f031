"""An environment's way to the verifier pool, and the settings that say when it is taken."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Future
from types import MappingProxyType
from typing import Any

from rllib_dapo.envs.env_settings import check_choice, check_integer, is_finite_number
from rllib_dapo.envs.verify.sent_rule import Rule, SentRule, prepare
from rllib_dapo.envs.verify.verdict import Verdict
from rllib_dapo.envs.verify.verifier_pool import PoolLease, PoolSettings, VerifierPool

PLACES = ("auto", "process", "here")
SCORING_SETTINGS: Mapping[str, Any] = MappingProxyType(
    {
        "verify_in": "auto",
        "verify_seconds": 5.0,
        "verify_memory_mib": 1024,
        "verify_processes": None,
    }
)


class ProcessScoring:
    """Scores one environment's responses in processes.

    Environments with equal settings share their processes.
    """

    def __init__(self, given: Mapping[str, Any]) -> None:
        """Starts nothing yet.

        Args:
            given: A value for each of `SCORING_SETTINGS`.

        Raises:
            ValueError: If one of them is refused.
        """
        self.place = check_choice("verify_in", given["verify_in"], PLACES)
        seconds, processes = given["verify_seconds"], given["verify_processes"]
        if not is_finite_number(seconds) or seconds <= 0:
            raise ValueError(f"verify_seconds={seconds!r}: must be a number above 0")

        self._settings = PoolSettings(
            seconds=float(seconds),
            memory_mib=check_integer("verify_memory_mib", given["verify_memory_mib"], low=16),
            processes=None
            if processes is None
            else check_integer("verify_processes", processes, low=1, high=1024),
        )

        self._rule: SentRule | None = None
        self._lease: PoolLease | None = None

    def prepare(self, rule: Callable[[], Rule]) -> None:
        """Makes the rule ready for sending; does nothing the second time.

        Args:
            rule: Returns the rule.

        Raises:
            ValueError: If the rule cannot be sent.
        """
        if self._rule is None:
            try:
                self._rule = prepare(rule())
            except ValueError as error:
                raise ValueError(
                    f"verify_in={self.place!r}: {error}; use verify_in='here'"
                ) from error

    def submit(self, *arguments: str | float) -> Future[Verdict]:
        """Asks the pool for a verdict, by the rule that was prepared."""
        return self._pool.submit(self._prepared, *arguments)

    def submit_group(self, *arguments: str | float, size: int) -> Future[list[Verdict]]:
        """Asks the pool for verdicts on so many responses, by the rule that was prepared."""
        return self._pool.submit_group(self._prepared, *arguments, size=size)

    def close(self) -> None:
        """Gives back the share in the pool; the next call of `submit` takes a new one."""
        if self._lease is not None:
            self._lease.release()
            self._lease = None

    @property
    def _prepared(self) -> SentRule:
        assert self._rule is not None
        return self._rule

    @property
    def _pool(self) -> VerifierPool:
        if self._lease is None:
            self._lease = PoolLease(self._settings)
        return self._lease.pool

    def __getstate__(self) -> dict[str, Any]:
        # A copy, in whatever process, takes a share of its own. The rule is left out because it may
        # hold the environment that is being copied.
        return self.__dict__ | {"_rule": None, "_lease": None}
