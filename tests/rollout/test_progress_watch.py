"""A hang is told from a long answer by the time in which nothing has happened."""

from __future__ import annotations

from rllib_dapo.rollout.progress_watch import ProgressWatch


class Clock:
    """Tells the time that a test sets."""

    now = 0.0

    def __call__(self) -> float:
        """The time in seconds."""
        return self.now


def test_whoever_goes_on_counting_does_not_hang_however_long_it_takes() -> None:
    clock = Clock()
    watch = ProgressWatch(10.0, clock)
    for counter in range(100):
        clock.now += 9.0
        watch.keep([1])
        watch.note(1, counter)
        assert watch.hanging() == {}


def test_whoever_answers_and_counts_no_further_hangs_and_so_does_whoever_never_answers() -> None:
    clock = Clock()
    watch = ProgressWatch(10.0, clock)
    watch.keep([1, 2])
    clock.now = 4.0
    watch.note(1, 7)
    clock.now = 9.0
    watch.note(1, 7)
    clock.now = 11.0
    assert watch.hanging() == {2: 11.0}
    clock.now = 15.0
    assert watch.hanging() == {1: 11.0, 2: 15.0}


def test_nobody_is_watched_who_has_nothing_to_do() -> None:
    clock = Clock()
    watch = ProgressWatch(10.0, clock)
    watch.keep([1])
    watch.keep([])
    watch.note(1, 3)
    clock.now = 100.0
    watch.keep([1])
    assert watch.hanging() == {}
    clock.now = 111.0
    assert watch.hanging() == {1: 11.0}
    watch.forget(1)
    assert watch.hanging() == {}


def test_without_a_limit_nothing_hangs() -> None:
    clock = Clock()
    watch = ProgressWatch(None, clock)
    watch.keep([1])
    clock.now = 1e9
    assert watch.hanging() == {}
