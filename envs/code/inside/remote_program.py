"""The model's program, seen from the tests: functions and objects that live in another sandbox."""

from __future__ import annotations

import builtins
import json
from collections.abc import Iterator
from typing import Any, BinaryIO

from rllib_dapo.envs.code.inside.plain_values import decode, encode

_LONGEST_REPLY = 1 << 24  # bytes of a line


class ProgramLost(Exception):
    """The program's process has ended, or says what makes no sense."""


class ProgramRaised(Exception):
    """The program raised what is not a built-in exception."""


class UnsendableValue(Exception):
    """A test gives the program what cannot be sent to another process, such as a function."""


class RemoteProgram:
    """Calls what a program defines. What comes back is plain data, or a `RemoteValue`."""

    def __init__(self, requests: BinaryIO, replies: BinaryIO) -> None:
        self._requests, self._replies = requests, replies

    def ask(self, what: str, target: str | int, **details: Any) -> Any:
        """Has the program's process do one thing, and returns the value.

        Args:
            what: One of "call", "attribute", "item", "length", "elements", "text" and
                "value".
            target: A name that the program defines, or the number of a value.
            **details: What belongs to it.

        Raises:
            ProgramLost: If there is no reply.
            Exception: What the program raised, where that is a built-in exception, or
                `ProgramRaised`.
        """
        line = json.dumps({"do": what, "target": target, **details}).encode() + b"\n"
        try:
            self._requests.write(line)
            self._requests.flush()
            reply = json.loads(self._read())
        except (OSError, ValueError, RecursionError) as error:
            raise ProgramLost(f"no reply: {type(error).__name__}") from None

        match reply:
            case {"value": content}:
                return self._decoded(content)
            case {"error": str(name), "text": str(text)}:
                raise _exception(name, text)
        raise ProgramLost("a reply that makes no sense")

    def encoded(self, value: Any) -> Any:
        """Returns an argument of a call as JSON."""
        return encode(value, _number_of)

    def _decoded(self, content: Any) -> Any:
        try:
            return decode(content, lambda number: RemoteValue(self, number))
        except (ValueError, TypeError, RecursionError, ArithmeticError):
            raise ProgramLost("a reply that makes no sense") from None

    def _read(self) -> bytes:
        line = self._replies.readline(_LONGEST_REPLY)
        if not line.endswith(b"\n"):
            raise ProgramLost("the program's process has ended, or says too much")
        return line


class RemoteValue:
    """A value of the program: a function by its name, or an object by its number.

    It equals nothing but itself. What the program's classes think of equality is not asked, nor
    what they think they contain: a program could say yes to everything.
    """

    def __init__(self, program: RemoteProgram, target: str | int) -> None:
        self.__dict__ |= {"_program": program, "_target": target}

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        """Calls it in the program's process."""
        encoded = self._program.encoded
        return self._program.ask(
            "call",
            self._target,
            arguments=[encoded(one) for one in arguments],
            named={name: encoded(value) for name, value in named.items()},
        )

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return self._program.ask("attribute", self._target, name=name)

    def __getitem__(self, key: Any) -> Any:
        return self._program.ask("item", self._target, key=self._program.encoded(key))

    def __len__(self) -> int:
        return int(self._program.ask("length", self._target))

    def __bool__(self) -> bool:
        return True

    def __iter__(self) -> Iterator[Any]:
        return iter(self._program.ask("elements", self._target))

    def __str__(self) -> str:
        return str(self._program.ask("text", self._target))


def _number_of(value: Any) -> int:
    """Returns the number of an object of the program, which a test hands back to it."""
    if isinstance(value, RemoteValue) and isinstance(value.__dict__["_target"], int):
        return int(value.__dict__["_target"])
    raise UnsendableValue(f"a value of the type {type(value).__name__}")


def _exception(name: str, text: str) -> Exception:
    kind = getattr(builtins, name, None)
    if isinstance(kind, type) and issubclass(kind, Exception) and kind is not AssertionError:
        try:
            return kind(text)
        except TypeError:  # some want more than a text
            pass
    return ProgramRaised(f"{name}: {text}")
