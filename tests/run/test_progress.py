from __future__ import annotations

import copy
import io
import math
import pickle
from types import SimpleNamespace
from typing import Any

import pytest

from rllib_dapo.run.progress import ProgressLine, duration, progress_line, waiting_line

RESULT: dict[str, Any] = {
    "training_iteration": 12,
    "time_total_s": 36.0,
    "env_runners": {
        "accuracy": 0.4213,
        "episode_return_mean": -0.157,
        "response_length_mean": 3.14,
        "acceptance_rate": 0.8125,
        "rollout_tokens_per_second": 1240.4,
    },
    "learners": {"default_policy": {"entropy": 0.8311, "gradient_updates": 4.0}},
}


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def _result(iteration: int, **others: Any) -> dict[str, Any]:
    return copy.deepcopy(RESULT) | {"training_iteration": iteration} | others


def _feed(line: ProgressLine, *results: dict[str, Any], trial: str = "trial_00000") -> None:
    for result in results:
        line.on_trial_result(result["training_iteration"], [], trial, result)  # type: ignore[arg-type]


def test_a_result_is_one_line() -> None:
    assert progress_line(RESULT, total=150) == (
        "12/150  0:36, 6:54 left  accuracy 0.421  reward -0.16  entropy 0.831  length 3.1  "
        "accepted 81%  tokens/s 1240"
    )


def test_without_a_known_end_there_is_no_time_left() -> None:
    assert progress_line(RESULT, total=None).startswith("12  0:36  accuracy")


def test_an_iteration_without_an_update_says_so_and_shows_no_nan() -> None:
    first = _result(1, learners={})
    later = _result(
        7, learners={"default_policy": {"entropy": math.nan, "gradient_updates": math.nan}}
    )
    for result in (first, later):
        line = progress_line(result, total=9)
        assert "no update: no group was informative" in line
        assert "nan" not in line


def test_evaluations_are_shown_and_the_one_at_the_start_only_once() -> None:
    start = {"evaluation_at_start": {"env_runners": {"avg@8": 0.25, "problems": 3}}}
    assert "  evaluation avg@8 0.250 at the start  " in progress_line(_result(1, **start), total=9)
    assert "avg@8" not in progress_line(_result(2, **start), total=9)
    later = {"evaluation": {"env_runners": {"avg@8": 0.5}}}
    assert "  evaluation avg@8 0.500  " in progress_line(_result(2, **start, **later), total=9)


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0:00"), (42, "0:42"), (725, "12:05"), (10810, "3:00:10")]
)
def test_durations_are_written_like_a_clock(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_a_log_file_gets_plain_lines_and_not_too_many() -> None:
    stream = io.StringIO()
    line = ProgressLine(total=10, stream=stream, every_s=3600)
    _feed(line, *(_result(n) for n in range(1, 11)))
    lines = stream.getvalue().splitlines()
    assert [text.split()[0] for text in lines] == ["1/10", "10/10"]
    assert all(character.isprintable() for text in lines for character in text)


def test_an_evaluation_is_always_logged() -> None:
    stream = io.StringIO()
    line = ProgressLine(total=10, stream=stream, every_s=3600)
    _feed(
        line,
        _result(1),
        _result(2),
        _result(3, evaluation={"env_runners": {"avg@2": 0.5}}),
        _result(4),
    )
    assert [text.split()[0] for text in stream.getvalue().splitlines()] == ["1/10", "3/10"]


def test_a_terminal_gets_one_line_that_is_drawn_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    stream = Terminal()
    line = ProgressLine(total=4, stream=stream)
    _feed(line, *(_result(n) for n in range(1, 5)))
    drawn = stream.getvalue().split("\r\x1b[K")[1:]
    assert [text.split()[0] for text in drawn] == ["1/4", "2/4", "3/4", "4/4"]
    assert [text.endswith("\n") for text in drawn] == [
        True,
        False,
        False,
        True,
    ]  # the first and the last stay
    assert all(len(text.rstrip("\n")) <= 39 for text in drawn)


def test_several_trials_are_told_by_their_names() -> None:
    stream = io.StringIO()
    line = ProgressLine(total=4, stream=stream, every_s=0)
    line.setup(stop=None, num_samples=1, total_num_samples=2)
    line.on_trial_start(0, [], _trial({"lr": 1e-05}))
    _feed(line, _result(1), trial="trial_00001")
    first, second = stream.getvalue().splitlines()
    assert first.endswith("lr=1e-05")
    assert second.startswith("trial_00001  1/4")


def test_a_trial_that_goes_on_after_a_pause_tells_only_what_has_changed() -> None:
    stream = io.StringIO()
    line = ProgressLine(total=4, stream=stream, every_s=0)
    line.setup(stop=None, num_samples=1, total_num_samples=2)
    drawn = {
        "epsilon_low": 0.2,
        "epsilon_draw": 0.123,
        "env_config/digits": 2,
    }  # epsilon_high follows
    config = {
        "epsilon_low": 0.2,
        "epsilon_high": 0.3,
        "epsilon_draw": 0.123,
        "env_config": {"digits": 2},
    }
    for changes in ({}, {}, {"epsilon_high": 0.361234}, {"env_config": {"digits": 3}}):
        line.on_trial_start(0, [], _trial(drawn, config | changes))
    assert [text.partition("  ")[2] for text in stream.getvalue().splitlines()] == [
        "epsilon_low=0.2, epsilon_high=0.3, env_config/digits=2",
        "epsilon_low=0.2, epsilon_high=0.3612, env_config/digits=2",
        "epsilon_low=0.2, epsilon_high=0.3, env_config/digits=3",
    ]


def _trial(drawn: dict[str, Any], config: dict[str, Any] | None = None) -> Any:
    """A trial as far as the progress line looks at one."""

    class NamedTrial(SimpleNamespace):
        def __str__(self) -> str:
            return "trial_00001"

    return NamedTrial(evaluated_params=drawn, config=drawn if config is None else config)


def test_while_nothing_has_come_the_line_says_what_is_waited_for() -> None:
    room = SimpleNamespace(required_resources={"CPU": 3.0, "GPU": 0.0})
    pending = SimpleNamespace(status="PENDING", placement_group_factory=room)
    running = SimpleNamespace(status="RUNNING", placement_group_factory=room)
    assert waiting_line([pending], waited_s=5) == "starting (0:05)"  # type: ignore[list-item]
    assert "waiting for resources" in waiting_line([pending], waited_s=90)  # type: ignore[list-item]
    assert "3 CPUs" in waiting_line([pending], waited_s=90)  # type: ignore[list-item]
    assert "loading the model" in waiting_line([running], waited_s=90)  # type: ignore[list-item]


def test_the_line_can_be_pickled_as_tune_does_with_callbacks() -> None:
    assert pickle.loads(pickle.dumps(ProgressLine(total=3))) is not None
