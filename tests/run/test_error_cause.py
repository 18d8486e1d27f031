"""The line that says what is wrong, for errors as libraries really raise and print them."""

from __future__ import annotations

import sys
from collections.abc import Callable

import pydantic
import pytest

from rllib_dapo.run.error_cause import LONGEST_CAUSE, cause_line, points_elsewhere


def _pydantic() -> None:
    class Settings(pydantic.BaseModel):
        length: int

    Settings(length="long")


def _raised_from() -> None:
    try:
        {}["column"]
    except KeyError as error:
        raise RuntimeError("cannot load the table") from error


def _while_handling() -> None:
    try:
        open("/nowhere/data.jsonl").close()
    except OSError:
        raise ValueError("no data") from None


def _three_deep() -> None:
    class LibraryError(Exception):
        pass

    try:
        _raised_from()
    except RuntimeError as error:
        raise LibraryError("could not start") from error


def _group() -> None:
    raise ExceptionGroup("two of them", [ValueError("no room"), TypeError("no text")])


def _several_lines() -> None:
    raise ValueError("the first line\n\n  the second: 3\nhttps://docs.example.org/errors/17\n")


def _nothing_to_say() -> None:
    assert len([]) == 1


CASES = {
    _pydantic: (
        "ValidationError: 1 validation error for Settings length Input should be a valid integer, "
        "unable to parse string as an integer"
    ),
    _raised_from: "RuntimeError: cannot load the table (caused by KeyError: 'column')",
    _while_handling: "ValueError: no data",
    _three_deep: "LibraryError: could not start (caused by KeyError: 'column')",
    _group: "ExceptionGroup: two of them (2 sub-exceptions): ValueError: no room (and 1 more)",
    _several_lines: "ValueError: the first line the second: 3",
}


def _raised(function: Callable[[], None]) -> BaseException:
    with pytest.raises(BaseException) as caught:  # noqa: PT011 (every kind)
        function()
    return caught.value


@pytest.mark.parametrize("function", CASES, ids=lambda function: function.__name__)
def test_the_cause_of_an_error_is_one_line(function: Callable[[], None]) -> None:
    assert cause_line(_raised(function)) == CASES[function]


def test_an_error_without_a_message_is_told_with_its_place() -> None:
    line = cause_line(_raised(_nothing_to_say))
    assert line.startswith("AssertionError")
    assert "_nothing_to_say" in line or "assert" in line


def test_an_error_of_a_process_of_ray_is_told_like_any_other(cluster: None) -> None:
    import ray
    from ray import cloudpickle

    cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers cannot import tests

    @ray.remote
    def outer(function: Callable[[], None]) -> None:
        ray.get(ray.remote(function).remote())

    for function, line in CASES.items():
        error = _raised(lambda function=function: ray.get(ray.remote(function).remote()))
        assert cause_line(error) == line
        assert cause_line(str(error)) == line  # as Tune keeps it in a file
    assert cause_line(_raised(lambda: ray.get(outer.remote(_pydantic)))) == CASES[_pydantic]


def test_a_library_that_points_to_an_error_above_is_told_by_that_error() -> None:
    prefix = "\x1b[0;36m(EngineCore_DP0 pid=77)\x1b[0;0m ERROR 11-26 07:00:00 [core.py:700] "
    text = "\n".join(
        [
            f"{prefix}Traceback (most recent call last):",
            f'{prefix}  File "core.py", line 3, in f',
            f"{prefix}ValueError: No available memory for the cache blocks",
            "Traceback (most recent call last):",
            '  File "a.py", line 3, in y',
            "    raise RuntimeError(",
            "RuntimeError: Engine core initialization failed. See root cause above. Failed: {}",
        ]
    )
    assert cause_line(text) == "ValueError: No available memory for the cache blocks"
    assert points_elsewhere(text.splitlines()[-1])
    assert not points_elsewhere("ValueError: no room")


def test_a_text_without_an_error_is_told_by_its_last_line_and_none_is_endless() -> None:
    assert cause_line("something\nKilled\n\n") == "Killed"
    assert cause_line("") != ""
    assert len(cause_line(ValueError("x" * 10_000))) <= LONGEST_CAUSE
