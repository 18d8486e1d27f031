from __future__ import annotations

import io
from pathlib import Path

from ray._private.ray_logging import global_worker_stdstream_dispatcher

from rllib_dapo.run.worker_log import WorkerLog, worker_log

BATCH = {
    "actor_name": "TextEnvRunner",
    "pid": 7,
    "lines": [
        "Traceback (most recent call last):",
        '  File "a.py", line 1',
        "ValueError: no room",
        "ValueError: no room",
    ],
}


def test_lines_are_kept_with_the_process_that_printed_them() -> None:
    stream = io.StringIO()
    WorkerLog(stream)({"actor_name": None, "task_name": "f", "pid": 3, "lines": ["one", "two"]})
    assert stream.getvalue() == "(f pid=3) one\n(f pid=3) two\n"


def test_the_first_exceptions_are_remembered_once_each() -> None:
    log = WorkerLog(io.StringIO())
    log({"pid": 6, "lines": ["DeprecationWarning: this will raise an error in the future"]})
    log(BATCH)
    log({"pid": 8, "lines": ["ray.exceptions.RayActorError: gone", "No Error: here", "KeyError"]})
    log({"pid": 9, "lines": ["IndexError: too late"]})
    assert log.wait_for_exception() == (
        "TextEnvRunner pid=7: ValueError: no room",
        "worker pid=8: RayActorError: gone",
        "worker pid=8: KeyError",
    )


def test_a_message_that_goes_on_is_kept_and_one_that_points_elsewhere_comes_last() -> None:
    log = WorkerLog(io.StringIO())
    pointer = "RuntimeError: Engine core initialization failed. See root cause above."
    log({"pid": 5, "lines": [pointer]})
    prefix = "(EngineCore pid=9) ERROR 11-26 07:00:00 [core.py:700] "
    log({"pid": 9, "lines": [f"{prefix}pydantic_core.ValidationError: 1 validation error for A"]})
    log({"pid": 9, "lines": ["  Value error, no such dtype [type=value_error, input_value=1]"]})
    log({"pid": 9, "lines": ["    For further information visit https://errors.pydantic.dev/2"]})
    assert log.wait_for_exception() == (
        "worker pid=9: ValidationError: 1 validation error for A Value error, no such dtype",
        f"worker pid=5: {pointer}",
    )


def test_the_autoscalers_pages_are_left_out() -> None:
    stream = io.StringIO()
    WorkerLog(stream)({"pid": "autoscaler", "lines": ["SomeError: it says"]})
    assert stream.getvalue() == ""


def test_what_ray_forwards_goes_to_the_file_and_only_while_it_is_open(tmp_path: Path) -> None:
    path = tmp_path / "new" / "workers.log"
    with worker_log(path) as log:
        global_worker_stdstream_dispatcher.emit(BATCH)
    global_worker_stdstream_dispatcher.emit(BATCH)
    assert log.exceptions == ["TextEnvRunner pid=7: ValueError: no room"]
    assert len(path.read_text().splitlines()) == len(BATCH["lines"])
