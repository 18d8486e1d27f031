"""Which part of a response is the program."""

from __future__ import annotations

import pytest

from rllib_dapo.envs.code.program_text import last_program


@pytest.mark.parametrize(
    ("response", "program"),
    [
        ("```python\nprint(1)\n```", "print(1)\n"),
        ("First\n```python\na\n```\nno:\n```py\nb\n```\nDone.", "b\n"),
        ("```\nprint(1)\n```", "print(1)\n"),
        ("```python\nprint(1)\n```\nprints\n```\n1\n```", "print(1)\n"),
        ("```python\nprint(1)\n```\nprints\n```text\n1\n```", "print(1)\n"),
        ("~~~Python3\nprint(1)\n~~~", "print(1)\n"),
        ("````python\n```\nstill\n```\n````", "```\nstill\n```\n"),
        ("  ```python\n  print(1)\n  ```", "  print(1)\n"),
        ("```python\na\n```\n```python\ncut off", "a\n"),
        ("```python title=x\nprint(1)\n```", "print(1)\n"),
        ("```python\n```", ""),
        ("```python\r\nprint(1)\r\n```\r\n", "print(1)\r\n"),
        ("print(1)", None),
        ("```text\nprint(1)\n```", None),
        ("```python\ncut off", None),
        ("Use ```python``` here", None),
        ("", None),
    ],
)
def test_the_last_closed_block_in_python_is_the_program(response: str, program: str | None) -> None:
    assert last_program(response) == program


def test_a_long_response_takes_no_time() -> None:
    assert last_program("```" * 300_000) is None
    assert last_program("```python\n" * 100_000) is None
    assert last_program("`" * 1_000_000 + "\n" + "~" * 1_000_000) is None
