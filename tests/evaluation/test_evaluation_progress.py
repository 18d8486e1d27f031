"""What an evaluation prints while it runs."""

from __future__ import annotations

import io

from rllib_dapo.evaluation.evaluation_progress import EvaluationProgress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def _run(stream: io.StringIO, *, every_s: float) -> str:
    with EvaluationProgress(stream=stream, every_s=every_s) as progress:
        progress.begin("aime", total=30, done=10)
        for done in range(1, 21):
            progress.advance(1, correct=done, responses=4 * done)
    return stream.getvalue()


def test_a_log_file_gets_a_line_now_and_then_and_at_the_end() -> None:
    first, last = _run(io.StringIO(), every_s=1000.0).splitlines()
    assert first.startswith("aime  11/30 problems  0:00, 0:00 left  correct 25.0%")
    assert last.startswith("aime  30/30 problems  0:00  correct 25.0%")
    assert len(_run(io.StringIO(), every_s=0.0).splitlines()) == 20


def test_a_log_file_has_no_control_characters() -> None:
    text = _run(io.StringIO(), every_s=0.0)
    assert all(character.isprintable() or character == "\n" for character in text)


def test_a_terminal_gets_a_bar() -> None:
    text = _run(Terminal(), every_s=1000.0)
    assert "━" in text
    assert "30/30 problems" in text
