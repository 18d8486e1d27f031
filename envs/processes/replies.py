"""What comes back from a child process: a reply, or the reason why there is none."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


class ProcessFailure(RuntimeError):
    """There is no reply; the message says why, in one line."""


class ProcessDied(ProcessFailure):
    """The process ended, or said what it must not say; the message says which."""


class DeadlineMissed(ProcessFailure):
    """The process took too long."""


class LoadFailed(ProcessFailure):
    """The service could not load what the call needs; the message is the service's error."""


class ServiceFailed(ProcessFailure):
    """The service raised something; the message is the service's error."""


class ServiceRefused(ProcessFailure):
    """The service cannot be made with its settings; the message is the service's own."""


class PoolClosed(ProcessFailure):
    """Somebody closed the pool while this process was waited for."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Reply:
    """What a service made of one request.

    Attributes:
        value: What it returned.
        error: What it raised, in one line; empty if it returned something.
        is_out_of_memory: Whether what it raised is that its memory was at an end.
        is_worn: Whether the process holds so much memory by now that it should be replaced.
    """

    value: Any = None
    error: str = ""
    is_out_of_memory: bool = False
    is_worn: bool = False


def read_greeting(message: Any) -> None:
    """Reads a process's first message.

    Raises:
        ServiceRefused: If the service could not be made with its settings.
        ProcessDied: If it is not such a message.
    """
    match message:
        case {"ready": True}:
            return
        case {"refused": str(reason)}:
            raise ServiceRefused(reason)
    raise no_reply()


def read_reply(message: Any) -> Reply:
    """Takes a reply apart. It is data from a process that has read a model's text.

    Raises:
        ProcessDied: If it is not a reply.
    """
    match message:
        case {"value": value, "is_worn": bool(is_worn)}:
            return Reply(value=value, is_worn=is_worn)
        case {"error": str(error), "is_worn": bool(is_worn)}:
            is_out_of_memory = message.get("is_out_of_memory") is True
            return Reply(error=error, is_out_of_memory=is_out_of_memory, is_worn=is_worn)
    raise no_reply()


def no_reply() -> ProcessDied:
    """Returns the failure of a process that said something other than a reply."""
    return ProcessDied("the process said what is not a reply")
