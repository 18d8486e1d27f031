"""What every test may use: models, whole runs made once, Ray, and the command line.

No model hub and no telemetry: set here, before anything reads it at import.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    from rllib_dapo.core import GroupSummary

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
# Ray would give its workers the lowest share of a busy machine (15 degrees of niceness, a thirtieth
# of what any other program gets), and tests that train would take hours beside one.
os.environ["RAY_worker_niceness"] = "0"  # noqa: SIM112 (Ray reads it so)

# Everything in the tests that waits, waits this long at most: only against hanging, however busy
# the machine.
PATIENCE_S = 800

# Nor does it matter how long an example of a property takes, or its making.
settings.register_profile(
    "busy machine", deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("busy machine")


# Several workers (see the Makefile)

# Tests that one worker runs one after another: those that share a whole run, so that it is made
# once, and those that want the machine almost to themselves. Any other file is its own group.
GROUPS = {
    "quiet": (
        "tests/end_to_end/test_job_submit.py",
        "tests/end_to_end/test_prometheus.py",
        "tests/end_to_end/test_sweep.py",
    ),
    "recorded run": (
        "tests/end_to_end/test_train_command.py",
        "tests/end_to_end/test_evaluate_command.py",
        "tests/end_to_end/test_export.py",
        "tests/end_to_end/test_sample_command.py",
        "tests/end_to_end/test_replay.py",
    ),
    "sweep": ("tests/reporting/", "tests/tracking/test_sample_table.py"),
    # A second Ray that starts meanwhile takes the port from which the first one's dashboard reads
    # logs.
    "browser": ("tests/browser/",),
}


def _group_of(nodeid: str) -> str:
    named = (group for group, places in GROUPS.items() if nodeid.startswith(places))
    return next(named, nodeid.partition("::")[0])


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Gives each worker whole groups of tests, in the order of `pytest_collection_modifyitems`."""
    from xdist.scheduler import LoadScopeScheduling

    class Groups(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return _group_of(nodeid)

    return Groups(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """With several workers the long groups come first: none is left alone with one in the end."""
    order = {group: place for place, group in enumerate(GROUPS)}

    def place(item: pytest.Item) -> tuple[int, bool]:
        group = _group_of(item.nodeid)
        return order.get(group, len(order)), not group.startswith("tests/end_to_end/")

    if "PYTEST_XDIST_WORKER" in os.environ:
        items.sort(key=place)


# Models


def _make_once(
    tmp_path_factory: pytest.TempPathFactory, name: str, make: Callable[[Path], Path]
) -> Path:
    """What `make` makes in a folder: the first worker that asks makes it, the others wait."""
    from filelock import FileLock

    base = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        base = base.parent  # each worker's folder lies in one that is common to all

    with FileLock(base / f"{name}.lock"):
        made = base / f"{name}.made"
        if not made.exists():
            made.write_text(str(make(base / name)))
    return Path(made.read_text())


def _make_raw_model(folder: Path, *, seed: int) -> Path:
    from rllib_dapo.models.tiny import TinyRecipe, tiny_model

    recipe = TinyRecipe(
        seed=seed,
        hidden_size=128,
        intermediate_size=256,
        num_layers=2,
        max_operand=9,
        steps=40,
        batch_size=16,
    )
    return tiny_model(recipe, cache_dir=folder)


@pytest.fixture(scope="session")
def raw_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a model that writes numbers after sums, mostly wrong ones; made in seconds."""
    return _make_once(tmp_path_factory, "raw_model", lambda path: _make_raw_model(path, seed=0))


@pytest.fixture(scope="session")
def other_raw_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same shape as `raw_model`, with other weights."""
    return _make_once(
        tmp_path_factory, "other_raw_model", lambda path: _make_raw_model(path, seed=1)
    )


@pytest.fixture
def one_thread() -> Iterator[None]:
    """For tiny tensors: on a busy machine, threads spend most of their time waiting."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


# Ray


@pytest.fixture(scope="session")
def cluster() -> Iterator[None]:
    """A local Ray, the only one that tests start in their own process.

    It has four logical CPUs, so that every layout of actors finds a place. Starting it takes longer
    than most tests, so it stays until the worker ends.
    """
    import ray

    from rllib_dapo.ray_internals import start_ray

    start_ray(num_cpus=4, include_dashboard=False, logging_level="ERROR", log_to_driver=False)
    yield
    ray.shutdown()


# Programs, and the command line


def _environment(extra: Mapping[str, str]) -> dict[str, str]:
    """This process's, without anybody's cluster, with one thread, and without Ray's dashboard."""
    here = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    own = {"OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1", "RLLIB_DAPO_DASHBOARD": "0"}
    return here | own | extra


def _start_python(
    *words: object, folder: Path, environment: Mapping[str, str] | None = None
) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, *map(str, words)],
        cwd=folder,
        env=_environment(environment or {}),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A shell that runs the tests in the background leaves them deaf to Ctrl-C, and they would
        # pass that on.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def _run_python(*words: object, **options: Any) -> subprocess.CompletedProcess[str]:
    with _start_python(*words, **options) as process:
        try:
            out, err = process.communicate(timeout=PATIENCE_S)
        finally:
            process.kill()
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def _words(arguments: Sequence[object], settings: Mapping[str, object] | None) -> list[str]:
    overrides = (f"{name}={value}" for name, value in (settings or {}).items())
    return [*map(str, arguments), *(word for text in overrides for word in ("--set", text))]


def _run_command(
    *arguments: object, settings: Mapping[str, object] | None = None, **options: Any
) -> subprocess.CompletedProcess[str]:
    return _run_python("-m", "rllib_dapo", *_words(arguments, settings), **options)


def _invoke_command(
    *arguments: object, folder: Path, settings: Mapping[str, object] | None = None
) -> subprocess.CompletedProcess[str]:
    from typer.testing import CliRunner

    from rllib_dapo.cli import app

    words = _words(arguments, settings)
    with contextlib.chdir(folder):
        done = CliRunner().invoke(app, words)
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return subprocess.CompletedProcess(words, done.exit_code, done.stdout, done.stderr)


@pytest.fixture(scope="session")
def run_python() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs a program in a process of its own: `run_python(script, ..., folder=...)`."""
    return _run_python


@pytest.fixture(scope="session")
def run_command() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs `rllib-dapo` as a shell does: `run_command("train", ..., folder=..., settings={})`."""
    return _run_command


@pytest.fixture(scope="session")
def invoke_command() -> Callable[..., subprocess.CompletedProcess[str]]:
    """The same in this process, for tests that need no other: starting one takes seconds."""
    return _invoke_command


@pytest.fixture
def start_command() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts `rllib-dapo` as a shell does, and ends it after the test at the latest."""
    started = []

    def start(
        *arguments: object, settings: Mapping[str, object] | None = None, **options: Any
    ) -> subprocess.Popen[str]:
        words = _words(arguments, settings)
        started.append(_start_python("-m", "rllib_dapo", *words, **options))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()


# Runs many commands in one process, which says what it has loaded in the end.
_TOGETHER = """
import json, sys
from typer.testing import CliRunner
from rllib_dapo.cli import app

outcomes = {}
for name, arguments in json.loads(sys.argv[1]).items():
    outcome = CliRunner().invoke(app, arguments)
    error = "" if outcome.exception is None else repr(outcome.exception)
    outcomes[name] = [outcome.exit_code, outcome.stdout, outcome.stderr, error]
import ray
heavy = [m for m in sys.modules if m == "vllm" or m.startswith("transformers.models.llama")]
print(json.dumps({"outcomes": outcomes, "heavy": heavy, "ray": ray.is_initialized()}))
"""


@pytest.fixture(scope="session")
def run_together(
    tmp_path_factory: pytest.TempPathFactory,
) -> Callable[[Mapping[str, Sequence[str]]], dict[str, Any]]:
    """Runs many commands by name in one fresh process, in an empty folder that must stay empty.

    Gives `outcomes` (exit code, output, errors and exception by name), the `heavy` modules that
    were loaded, and whether `ray` was started.
    """

    def run(commands: Mapping[str, Sequence[str]]) -> dict[str, Any]:
        folder = tmp_path_factory.mktemp("empty")
        done = _run_python("-c", _TOGETHER, json.dumps(commands), folder=folder)
        assert done.returncode == 0, done.stderr
        assert not list(folder.iterdir()), "a refused command left something behind"
        return json.loads(done.stdout.splitlines()[-1])

    return run


# Whole runs


@pytest.fixture(scope="session")
def quick_settings(raw_model: Path) -> dict[str, object]:
    """With these the preset `tiny_arithmetic` trains a barely trained model in seconds."""
    return {
        "language_model.name": raw_model,
        "language_model.num_threads": 1,
        "rollout.engine": "transformers",
        "training.prompts_per_step": 4,
        "training.group_size": 4,
        "training.minibatch_size": 8,
        "dynamic_sampling.enabled": "false",
        "environment.env_config.max_operand": 9,
        "evaluation.evaluation_interval": 2,
        "evaluation.evaluation_num_prompts": 4,
        "evaluation.evaluation_samples_per_prompt": 2,
        "env_runners.num_env_runners": 0,
    }


@pytest.fixture(scope="session")
def sweep_folder(
    quick_settings: dict[str, object], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Folder of a sweep over both clip bounds: four trials, four iterations each.

    It has evaluations, samples and checkpoints.
    """
    folder = tmp_path_factory.mktemp("sweep")
    settings = quick_settings | {
        "training.lr": "1e-3",
        "reporting.sample_table_interval": 2,
        "search.training.epsilon_low": "{grid: [0.1, 0.2]}",
        "search.training.epsilon_high": "{grid: [0.2, 0.3]}",
        "tune.checkpoint_frequency": 2,
        "tune.max_concurrent_trials": 1,
        "stop.training_iteration": 4,
    }
    done = _run_command(
        "train", "tiny_arithmetic", "--storage", folder, folder=folder, settings=settings
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (run,) = folder.glob("tiny_arithmetic_*")
    return run


# Groups


def _make_summary(
    seed: int = 0,
    *,
    rewards: Sequence[float] = (),
    is_correct: Sequence[bool | None] | None = None,
    response_tokens: Sequence[int] | None = None,
    is_truncated: Sequence[bool] | None = None,
    reasons: Sequence[str] | None = None,
    predictions: Sequence[str] | None = None,
    components: Sequence[Mapping[str, float]] | None = None,
    num_turns: Sequence[int] | None = None,
    weights_version: int = 0,
    **others: Any,
) -> GroupSummary:
    """A group's summary.

    By default correctness is unknown, and each response is one turn of 3 tokens.
    """
    from rllib_dapo.core import GroupSummary

    tokens = tuple(response_tokens or (3 for _ in rewards))
    return GroupSummary(
        seed=seed,
        weights_version=weights_version,
        prompt_tokens=4,
        response_tokens=tokens,
        loss_tokens=tokens,
        rewards=tuple(rewards),
        is_correct=tuple(is_correct or (None for _ in rewards)),
        is_truncated=tuple(is_truncated or (False for _ in rewards)),
        reasons=tuple(reasons or ("" for _ in rewards)),
        predictions=tuple(predictions or ("" for _ in rewards)),
        components=tuple(components or ({} for _ in rewards)),
        num_turns=tuple(num_turns or (1 for _ in rewards)),
        **others,
    )


@pytest.fixture(scope="session")
def make_summary() -> Callable[..., GroupSummary]:
    return _make_summary
