"""Values of Python as JSON, and back: exact types of plain data, and nothing that has behaviour.

What is read was written by a program that may lie. It becomes numbers, texts and containers of the
built-in types themselves, whose comparison no program can change.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from typing import Any

_SMALL = 2**53
_CONTAINERS: dict[str, type[Any]] = {
    "tuple": tuple,
    "set": set,
    "frozenset": frozenset,
    "deque": deque,
}


def encode(value: Any, refer: Callable[[Any], int]) -> Any:
    """Returns a value as what JSON can hold.

    Subclasses of the built-in types are what they derive from, as named tuples are tuples.

    Args:
        value: Any value.
        refer: Returns the number by which a value is known that is not plain data; may raise.

    Raises:
        RecursionError: If it is nested too deeply.
    """
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        number = int(value)
        # Written in decimal, long numbers take quadratic time.
        return number if -_SMALL < number < _SMALL else {"type": "int", "value": hex(number)}
    if isinstance(value, float):
        return float(value)
    if isinstance(value, str):
        return str(value)
    if isinstance(value, list):
        return [encode(one, refer) for one in value]

    if isinstance(value, dict):
        pairs = [[encode(k, refer), encode(v, refer)] for k, v in value.items()]
        return {"type": "dict", "value": pairs}
    for name, kind in _CONTAINERS.items():
        if isinstance(value, kind):
            return {"type": name, "value": [encode(one, refer) for one in value]}
    if isinstance(value, bytes | bytearray):
        name = "bytes" if isinstance(value, bytes) else "bytearray"
        return {"type": name, "value": bytes(value).hex()}
    if isinstance(value, complex):
        return {"type": "complex", "value": [value.real, value.imag]}
    if type(value) is range:
        parts = (value.start, value.stop, value.step)
        return {"type": "range", "value": [encode(one, refer) for one in parts]}
    if type(value) in (Fraction, Decimal):
        return {"type": type(value).__name__, "value": str(value)}
    return {"type": "object", "value": refer(value)}


def decode(content: Any, resolve: Callable[[int], Any]) -> Any:
    """Returns the value that `encode` was given.

    Args:
        content: What JSON held.
        resolve: Returns what stands for a value that is not plain data.

    Raises:
        ValueError: If it is not what `encode` returns.
        TypeError: If a set or mapping in it would hold what cannot be hashed.
        RecursionError: If it is nested too deeply.
    """
    if content is None or isinstance(content, bool | int | float | str):
        return content
    if isinstance(content, list):
        return [decode(one, resolve) for one in content]

    match content:
        case {"type": "int", "value": str(digits)}:
            return int(digits, 16)
        case {"type": "dict", "value": list(pairs)}:
            return {decode(k, resolve): decode(v, resolve) for k, v in pairs}
        case {"type": str(name), "value": list(parts)} if name in _CONTAINERS:
            return _CONTAINERS[name]([decode(one, resolve) for one in parts])
        case {"type": "bytes", "value": str(digits)}:
            return bytes.fromhex(digits)
        case {"type": "bytearray", "value": str(digits)}:
            return bytearray.fromhex(digits)
        case {"type": "complex", "value": [int() | float() as real, int() | float() as imaginary]}:
            return complex(real, imaginary)
        case {"type": "range", "value": [start, stop, step]}:
            return range(*(decode(one, resolve) for one in (start, stop, step)))
        case {"type": "Fraction", "value": str(text)}:
            return Fraction(text)
        case {"type": "Decimal", "value": str(text)}:
            return Decimal(text)
        case {"type": "object", "value": int(number)}:
            return resolve(number)
    raise ValueError("not a plain value")
