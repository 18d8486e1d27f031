"""A gloo group between the first Learner and the engines' workers, which can be given up.

It is no part of torch's default process group, which belongs to the Learners or to an engine. Its
members meet in a store that the driver keeps. There each notes what it is doing, and there the
driver says if a side has failed: whoever waits for that side is freed within a moment.
"""

from __future__ import annotations

from datetime import timedelta

from torch import Tensor
from torch.distributed import PrefixStore, TCPStore, Work  # type: ignore[attr-defined]
from torch.distributed.distributed_c10d import BroadcastOptions, ProcessGroupGloo

from rllib_dapo.findings import one_line

SENDER = 0
_FAULT = "fault"
_DOING = "doing"
# How often somebody who waits asks whether there is still something to wait for.
_POLL = timedelta(milliseconds=200)
_NO_LIMIT = timedelta(days=365)
# Begins the message of whoever was left alone: the fault is on another side.
PEER_LOST = "the other side of the transfer is gone"

# Groups with an operation that will never end. Deleting one would wait for that operation.
_GIVEN_UP: list[tuple[ProcessGroupGloo, list[Work]]] = []


class PeerLostError(RuntimeError):
    """Another side of the transfer has failed; begins with `PEER_LOST`."""

    def __init__(self, why: str) -> None:
        super().__init__(f"{PEER_LOST}: {why}")


class MeetingPlace:
    """The store in which the members of a group meet; the driver keeps it.

    Args:
        host: Address under which the others find this machine.
    """

    def __init__(self, host: str) -> None:
        self.host = host
        self._store = TCPStore("0.0.0.0", 0, is_master=True, wait_for_workers=False)

    @property
    def port(self) -> int:
        """The port, which the system has chosen."""
        return int(self._store.port)

    def report_fault(self, what: str) -> None:
        """Frees everybody who waits for somebody else."""
        self._store.set(_FAULT, what)

    def doing(self, rank: int) -> tuple[int, str]:
        """What a member is doing.

        Args:
            rank: Its place in the group.

        Returns:
            A number that grows as long as it is alive, and what it does in words; 0 and nothing
            before it has joined.
        """
        key = f"{_DOING}/{rank}"
        if not self._store.check([key]):
            return 0, ""
        beat, _, words = self._store.get(key).decode().partition(" ")
        return int(beat), words


class TransferGroup:
    """One member's end of the group.

    Args:
        host: Where the meeting place is.
        port: Its port.
        rank: Place of this member; the sender has 0.
        world_size: Number of members.
        timeout_seconds: Longest time that members wait for each other; None waits as long as it
            takes.

    Raises:
        PeerLostError: If the others do not come.
    """

    def __init__(
        self, *, host: str, port: int, rank: int, world_size: int, timeout_seconds: float | None
    ) -> None:
        self._rank = rank
        timeout = _NO_LIMIT if timeout_seconds is None else timedelta(seconds=timeout_seconds)
        self._beat, self._doing = 0, ""
        self._works: list[Work] = []
        self._group: ProcessGroupGloo | None = None
        try:
            self._store = TCPStore(
                host, port, is_master=False, wait_for_workers=False, timeout=timeout
            )
            self.note("joining the group")
            self._group = ProcessGroupGloo(
                PrefixStore("gloo", self._store), rank, world_size, timeout=timeout
            )
        except RuntimeError as error:
            raise PeerLostError(one_line(error)) from error
        self.note("idle")

    def note(self, doing: str) -> None:
        """Notes what this member is doing, for the message of a time-out.

        Args:
            doing: In words; whoever waits for others begins with `waiting`.

        Raises:
            PeerLostError: If the driver is gone.
        """
        self._doing = doing
        self._beat += 1
        try:
            self._store.set(f"{_DOING}/{self._rank}", f"{self._beat} {doing}")
        except RuntimeError as error:
            raise PeerLostError(one_line(error)) from error

    def broadcast(self, buffer: Tensor) -> Work:
        """Begins to send a buffer from the sender to all others; it must not be touched meanwhile.

        Args:
            buffer: Bytes in main memory.
        """
        if self._group is None:
            raise PeerLostError("this group was closed")
        options = BroadcastOptions()
        options.rootRank, options.rootTensor = SENDER, 0
        work: Work = self._group.broadcast([buffer], options)  # type: ignore[attr-defined]
        self._works.append(work)
        return work

    def wait(self, work: Work) -> None:
        """Waits until a buffer has been sent, or received.

        Raises:
            PeerLostError: If another member has failed, or time is over.
        """
        while True:
            try:
                work.wait(_POLL)
                break
            except RuntimeError as error:
                if work.is_completed():
                    raise PeerLostError(one_line(error)) from error
            self.note(self._doing)  # a sign of life
            self._refuse_fault()

        self._works.remove(work)
        self._refuse_fault()  # more may be on its way, of a transfer that has been given up

    def close(self) -> None:
        """Closes the connections; those with an operation under way stay as long as the process."""
        if self._group is not None and any(not work.is_completed() for work in self._works):
            _GIVEN_UP.append((self._group, self._works))
        self._works = []
        self._group = None

    def _refuse_fault(self) -> None:
        try:
            if not self._store.check([_FAULT]):
                return
            fault = self._store.get(_FAULT).decode()
        except RuntimeError as error:
            fault = one_line(error)
        raise PeerLostError(fault)
