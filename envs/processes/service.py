"""What a child process offers to the process that started it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


class Refused(ValueError):
    """The service cannot be made with its settings; the message is one line and is passed on."""


class Service:
    """What runs in a child process; a subclass is made there, by its name and settings.

    Whatever a method raises becomes the error of its reply and ends nothing. Its module is imported
    in the child, so it should import little.
    """

    def load(self, content: Any) -> Any:
        """Gets ready for certain calls, such as by importing what they need.

        Not bounded in memory, for what this takes is not the fault of any later call.

        Args:
            content: What the other side sent, made of JSON.

        Returns:
            What JSON can hold; most have nothing to say.
        """
        raise NotImplementedError

    def begin(self, contents: Sequence[Any]) -> None:
        """Looks at calls that have come together, before the first of them is made.

        A service whose calls wait for something else can have them wait side by side from here on.

        Args:
            contents: What `call` will be called with, in this order.
        """

    def call(self, content: Any) -> Any:
        """Does what is asked.

        Args:
            content: What the other side sent, made of JSON.

        Returns:
            What JSON can hold.
        """
        raise NotImplementedError
