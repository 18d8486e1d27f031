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
        for done in range(11, 31):
            progress.advance([{"is_correct": done % 4 == 3}], done=done)
        progress.advance([], done=30)  # the part is complete
    return stream.getvalue()


def test_a_log_file_gets_a_line_at_once_one_now_and_then_and_one_at_the_end() -> None:
    start, first, last = _run(io.StringIO(), every_s=1000.0).splitlines()
    assert start.startswith("aime  10/30 responses  0:00")
    assert first.startswith("aime  11/30 responses  0:00, 0:00 left  correct 100.0%")
    assert last.startswith("aime  30/30 responses  0:00  correct 25.0%")
    assert len(_run(io.StringIO(), every_s=0.0).splitlines()) >= 21


def test_a_log_file_has_no_control_characters() -> None:
    text = _run(io.StringIO(), every_s=0.0)
    assert all(character.isprintable() or character == "\n" for character in text)


def test_a_terminal_gets_a_bar() -> None:
    text = _run(Terminal(), every_s=1000.0)
    assert "━" in text
    assert "30/30 responses" in text
