"""An actor that hangs is ended, with a line that says so; what is slow is left alone."""

from __future__ import annotations

import logging
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from rllib_dapo.stall_watchdog import StallWatchdog

SCRIPT = """
import sys, time
import ray
from rllib_dapo.ray_internals import start_ray
from rllib_dapo.stall_watchdog import StallWatchdog

@ray.remote
class Worker:
    def work(self, steps, *, then_hang):
        done = 0

        def describe(seconds):
            return f"it hangs after {done} steps"

        with StallWatchdog(5.0).watching(lambda: done, describe):
            for done in range(1, steps + 1):
                time.sleep(0.7)
            if then_hang:
                time.sleep(3600)
        return done

class Heard:
    def __init__(self, stream):
        self.stream, self.text = stream, ""

    def write(self, text):
        self.text += text
        return self.stream.write(text)

    def __getattr__(self, name):
        return getattr(self.stream, name)

sys.stderr = Heard(sys.stderr)
start_ray(num_cpus=1, include_dashboard=False, logging_level="ERROR")
worker = Worker.remote()
print("DONE", ray.get(worker.work.remote(10, then_hang=False)))
try:
    ray.get(worker.work.remote(2, then_hang=True), timeout=60)
except ray.exceptions.ActorDiedError:
    print("DIED")
until = time.monotonic() + 60
while "it hangs after" not in sys.stderr.text and time.monotonic() < until:
    time.sleep(0.05)  # until Ray has brought what the actor said
"""


def test_an_actor_that_hangs_is_ended_and_says_where_one_that_is_slow_goes_on(
    run_python: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    done = run_python("-c", SCRIPT, folder=tmp_path)
    told = done.stdout + done.stderr
    assert "DONE 10" in told
    assert "DIED" in told
    assert "RuntimeError: it hangs after 2 steps" in told
    assert "in work" in told, "the line of code at which it hung"


def test_in_a_process_of_ones_own_a_warning_is_all(
    cluster: None, caplog: pytest.LogCaptureFixture
) -> None:
    watchdog = StallWatchdog(0.05)
    with (
        caplog.at_level(logging.WARNING),
        watchdog.watching(lambda: 0, lambda seconds: f"stalled for {seconds > 0.05}"),
    ):
        while not caplog.records:
            time.sleep(0.01)
    assert [record.message for record in caplog.records] == ["stalled for True"]


def test_without_a_limit_nobody_watches() -> None:
    with StallWatchdog(None).watching(lambda: 1 / 0, str):
        pass
