"""Which side of a transfer has failed, in one line."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from rllib_dapo.weight_transfer.wire.transfer_group import PEER_LOST

LEARNERS = "the Learner"


def name_of(runner: int) -> str:
    """An EnvRunner's name in messages."""
    return f"EnvRunner {runner}" if runner else "the EnvRunner in the driver"


class SideError(RuntimeError):
    """A side has failed; the message names it, in one line.

    Attributes:
        died: Indices of EnvRunners whose process has ended, where that is the whole cause.
    """

    def __init__(self, message: str, *, died: frozenset[int] = frozenset()) -> None:
        super().__init__(message)
        self.died = died


def raise_fault(
    faults: Mapping[str, str],
    pending: set[str],
    *,
    died: set[int],
    has_failed: bool,
    timeout_seconds: float | None,
    what: str,
    on_fault: Callable[[str], None],
    doing: Callable[[], Mapping[str, str]],
) -> None:
    """Names the side that has failed, if one has: not those that it has taken along.

    Args:
        faults: Why each side that has failed has failed, by its name.
        pending: Names of those who have not answered.
        died: Indices of EnvRunners whose process has ended.
        has_failed: Whether the wait ended because of a failure, and not because time was over.
        timeout_seconds: The setting `weights.timeout_s`.
        what: What was done, such as `the transfer of version 3 of the weights`.
        on_fault: Frees those who still wait.
        doing: What each side is doing, by its name, where anybody knows; what begins with `waiting`
            is not that side's fault.

    Raises:
        SideError: One line.
    """
    # Those who only say that somebody else is gone are not the cause.
    own = {side: reason for side, reason in faults.items() if PEER_LOST not in reason} or faults
    if own:
        line = "; ".join(f"{side} failed in {what}: {reason}" for side, reason in own.items())
        is_death = set(own) == {name_of(runner) for runner in died}
        raise SideError(line, died=frozenset(died) if is_death else frozenset())
    if not pending or has_failed:
        return

    states = doing()
    at_work = sorted(side for side in pending if not states.get(side, "").startswith("waiting"))
    late = at_work or sorted(pending)
    on_fault(f"{' and '.join(late)}: time is over")

    def told(sides: Iterable[str]) -> str:
        return ", ".join(f"{s} ({states[s]})" if states.get(s) else s for s in sides)

    others = told(sorted(pending - set(late)))
    raise SideError(
        f"weights.timeout_s={timeout_seconds} is over in {what}, and this side has not come to an "
        f"end: {told(late)}"
        + (f"; it keeps waiting {others}" if others else "")
        + ". Look at that "
        "process, or raise weights.timeout_s"
    )
