"""Tests of commands as text: what is pasted is what was meant."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from rllib_dapo.shell_text import pasteable

AWKWARD = ["a b", "it's", "$HOME", "*", "a;b", "", "[0.1, 0.3]", 'say "x"', "new\nline", "~"]


@pytest.mark.parametrize("word", AWKWARD)
def test_a_shell_reads_every_word_as_it_was_given(word: str) -> None:
    printed = pasteable("printf", "%s", word)

    said = subprocess.run(["sh", "-c", printed], capture_output=True, text=True, check=True)

    assert said.stdout == word


def test_plain_words_stay_plain() -> None:
    assert pasteable("rllib-dapo", "export", Path("/runs/a_b-1/checkpoint_000003")) == (
        "rllib-dapo export /runs/a_b-1/checkpoint_000003"
    )
