from __future__ import annotations

import copy
import io
import math
import pickle
from types import SimpleNamespace
from typing import Any

import pytest

from rllib_dapo.run.durations import duration
from rllib_dapo.run.progress import ProgressLine
from rllib_dapo.run.progress_text import folded, progress_line
from rllib_dapo.run.sweep_clock import SweepClock
from rllib_dapo.run.waiting import RayRoom, waiting_line

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
    assert first == "trial 2 of 2 (trial_00001): lr=1e-05"
    assert second.startswith("trial 2 of 2  1/4  sweep ")


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
    lines = stream.getvalue().replace("\n    ", " ").splitlines()
    assert [text.partition(": ")[2] for text in lines] == [
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


def _waiting(room: RayRoom | None, *, status: str = "PENDING") -> str:
    bundles = [{"CPU": 1.0}, {"CPU": 2.0, "GPU": 1.0}]
    trial = SimpleNamespace(status=status, placement_group_factory=SimpleNamespace(bundles=bundles))
    return waiting_line([trial], waited_s=90, room=room)  # type: ignore[list-item]


def test_a_slow_start_on_a_free_ray_is_not_told_as_a_lack_of_room() -> None:
    room = {"CPU": 4.0, "GPU": 1.0}
    placed = RayRoom(is_placed=True, total=room, free={"CPU": 1.0}, largest=room)
    assert _waiting(placed) == "starting: loading the model and the engine (1:30)"
    assert _waiting(placed, status="RUNNING").startswith("first iteration")
    free = RayRoom(is_placed=False, total=room, free=room, largest=room)
    assert _waiting(free) == "starting: Ray is making processes (1:30)"
    assert _waiting(None) == "starting (1:30)"


@pytest.mark.parametrize(
    ("total", "free", "largest", "told"),
    [
        (
            {"CPU": 8.0, "GPU": 2.0},
            {"CPU": 2.0, "GPU": 2.0},
            {"CPU": 8.0, "GPU": 2.0},
            "waiting for room: a trial needs 3 CPUs, others hold all but 2 of 8",
        ),
        (
            {"CPU": 8.0},
            {"CPU": 8.0},
            {"CPU": 8.0},
            "no room: a trial needs 1 GPUs, this Ray has 0 in all; it waits for new nodes",
        ),
        (
            {"CPU": 8.0, "GPU": 2.0},
            {"CPU": 8.0, "GPU": 2.0},
            {"CPU": 1.0, "GPU": 2.0},
            "no room: a process needs 2 CPUs, no node has more than 1; it waits for new nodes",
        ),
    ],
)
def test_a_lack_of_room_is_told_with_what_there_is(
    total: dict[str, float], free: dict[str, float], largest: dict[str, float], told: str
) -> None:
    room = RayRoom(is_placed=False, total=total, free=free, largest=largest)
    assert _waiting(room) == f"{told} (1:30)"
    assert len(_waiting(room)) <= 90


LONGEST = {
    "training_iteration": 1111,
    "time_total_s": 360000.0,
    "env_runners": RESULT["env_runners"] | {"rollout_tokens_per_second": 123456.0},
    "evaluation": {"env_runners": {"avg@32": 0.5}},
    "evaluation_at_start": {"env_runners": {"avg@32": 0.5}},
}


@pytest.mark.parametrize("columns", [20, 40, 79, 80, 100, 200])
def test_a_line_fits_its_place_and_keeps_what_matters_most(columns: int) -> None:
    name = "trial 12 of 120"
    left = "sweep 123:00:00 left"
    line = progress_line(RESULT | LONGEST, total=2000, name=name, left=left, columns=columns)
    assert len(line) <= columns
    assert line.startswith(name)
    if columns >= 80:
        assert "evaluation avg@32 0.500" in line
    if columns == 200:
        assert "tokens/s 123456" in line


def test_lines_of_a_log_fit_80_columns_but_for_paths() -> None:
    stream = io.StringIO()
    line = ProgressLine(total=4000, stream=stream, every_s=0)
    line.setup(stop=None, num_samples=1, total_num_samples=100)
    drawn = {f"env_config/some_setting_{n}": 1.23456 for n in range(9)}
    line.on_trial_start(0, [], _trial(drawn))
    _feed(
        line,
        *(
            _result(n, **{k: LONGEST[k] for k in ("time_total_s", "evaluation")})
            for n in range(1, 4)
        ),
    )
    line.interrupted()
    lines = stream.getvalue().splitlines()
    assert len(lines) > 5
    assert max(map(len, lines)) <= 80
    assert list(folded("a /" + "x" * 100)) == ["a", "    /" + "x" * 100]


def test_the_end_of_a_sweep_is_estimated_from_all_of_its_trials() -> None:
    now = [0.0]
    clock = SweepClock(iterations=10, now=lambda: now[0])
    assert clock.seconds_left(3, set()) is None
    for iteration in range(1, 5):  # two at the same time, 4 iterations each in 40 s
        clock.note("a", iteration)
        clock.note("b", iteration)
    now[0] = 40.0
    # 2 * 6 + 10 iterations are left, at 5 s each.
    assert clock.seconds_left(3, set()) == 110.0
    # What ended early says how long those to come will be.
    assert clock.seconds_left(3, {"a"}) == (6 + 4) * 5.0
    assert SweepClock(iterations=None).seconds_left(3, set()) is None


def test_an_interruption_is_told_at_once_and_nothing_after_it() -> None:
    stream = io.StringIO()
    line = ProgressLine(total=9, stream=stream, every_s=0)
    _feed(line, _result(1))
    line.interrupted()
    _feed(line, _result(2))
    assert stream.getvalue().splitlines()[1:] == [
        "interrupted: saving what is there (once more ends it at once)"
    ]


def test_the_line_can_be_pickled_as_tune_does_with_callbacks() -> None:
    assert pickle.loads(pickle.dumps(ProgressLine(total=3))) is not None
