"""A real Prometheus scrapes a live run: every query of the Grafana dashboard has an answer."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.parse import urlencode
from urllib.request import urlopen

import pytest

# A configuration that has every curve at once: a value model, a reference, all corrections of the
# sampler, a mixture, a reward of parts with a figure of its own, and an evaluation whose answers
# can be compared. A second trial has an objective of its own, whose figures stand in the place of
# what is clipped.
SCRIPT = """
import sys
import ray
from ray import tune
import rllib_dapo
from rllib_dapo.ray_internals import start_ray

model, prompts, storage = sys.argv[1:]


def own_objective(ratio, advantages):
    return -ratio * advantages, {"distance": (ratio - 1).abs()}


def own_reward(prompt, response):
    return {"reward": 0.0, "metrics": {"characters": len(response)}}


def mixture(split):
    env_config = {
        "path": prompts,
        "split": split,
        "reward": {
            "right": {"rule": "last_number"},
            "number": {"regex": "^[0-9]+$", "weight": 0.1},
            "own": {"function": own_reward},
        },
    }
    part = {"env": "rllib_dapo/RewardFunction-v0", "env_config": env_config}
    return {"environments": [{"name": name, **part} for name in ("one", "other")]}


config = (
    rllib_dapo.DAPOConfig()
    .ppo()
    .environment("rllib_dapo/Mixture-v0", env_config=mixture("train"))
    .language_model(model, dtype="float32", num_threads=1)
    .rollout(engine="transformers", max_prompt_tokens=16, max_response_tokens=6)
    .env_runners(num_env_runners=0)
    .training(
        prompts_per_step=2,
        group_size=4,
        minibatch_size=4,
        objective=tune.grid_search(["clip", own_objective]),
    )
    .kl(coefficient=0.01)
    .importance_sampling(cap=2.0, sequence_bounds=(0.1, 10.0), token_bounds=(0.1, 10.0))
    .overlong(buffer_tokens=2)
    .evaluation(
        evaluation_interval=1,
        evaluation_num_prompts=2,
        evaluation_samples_per_prompt=2,
        evaluation_config={"env_config": mixture("heldout")},
    )
)
context = start_ray(num_cpus=2, include_dashboard=True, logging_level="ERROR")
print("ADDRESS", context.address_info["address"], flush=True)
tune.Tuner(
    "DAPO",
    param_space=config,
    run_config=tune.RunConfig(
        name="live", stop={"training_iteration": 100000}, storage_path=storage, verbose=0
    ),
).fit()
"""
FIRST_RESULT_TAKES_AT_MOST_S = 700.0
PAUSE_S = 1.0

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        shutil.which("prometheus") is None, reason="needs prometheus, a package of Debian"
    ),
]


@contextmanager
def _process(
    *command: str | Path, environment: dict[str, str], output: Path, seconds: float = 60
) -> Iterator[None]:
    """A program for as long as this lasts, with all that it starts."""
    with output.open("w") as stream:
        process = subprocess.Popen(
            [*map(str, command)],
            env=environment,
            cwd=output.parent,
            stdout=stream,
            stderr=stream,
            start_new_session=True,
        )
        try:
            yield
        finally:
            os.killpg(process.pid, signal.SIGTERM)
            try:
                process.wait(timeout=seconds)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)


def _free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return int(listening.getsockname()[1])


def _wait_for(what: Any, *, log: Path) -> Any:
    """What a function gives, once it gives something."""
    deadline = time.monotonic() + FIRST_RESULT_TAKES_AT_MOST_S
    while time.monotonic() < deadline:
        if found := what():
            return found
        time.sleep(PAUSE_S)
    raise AssertionError(f"waited in vain:\n{log.read_text()[-3000:]}")


@pytest.fixture(scope="module")
def live(
    raw_model: Path,
    run_command: Callable[..., subprocess.CompletedProcess[str]],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[str, dict[str, Any], str]]:
    """A run and a Prometheus that scrapes it.

    Gives the address of Prometheus, the dashboard that was written, and what the command said.
    """
    folder = tmp_path_factory.mktemp("live")
    (folder / "run.py").write_text(SCRIPT)
    (folder / "prompts.jsonl").write_text(
        "".join(json.dumps({"question": f"{a}+2=", "answer": str(a + 2)}) + "\n" for a in range(40))
    )
    run_log, prometheus_log = folder / "run.log", folder / "prometheus.log"
    arguments = (
        sys.executable,
        folder / "run.py",
        raw_model,
        folder / "prompts.jsonl",
        folder / "results",
    )
    with tempfile.TemporaryDirectory(prefix="dapo", ignore_cleanup_errors=True) as ray_folder:
        environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
        environment |= {"RAY_TMPDIR": ray_folder, "OMP_NUM_THREADS": "1"}
        with _process(*arguments, environment=environment, output=run_log):
            address = _wait_for(
                lambda: re.search(r"^ADDRESS (\S+)$", run_log.read_text(), re.M), log=run_log
            )[1]
            url = f"http://127.0.0.1:{_free_port()}"
            said = run_command(
                *("dashboard", "--address", address, "--prometheus", url),
                folder=folder,
                environment=environment,
            )
            assert said.returncode == 0, said.stderr
            command = re.search(r"^Prometheus: (.*)$", said.stdout, re.M)[1].split()  # type: ignore[index]
            dashboard = json.loads(
                Path(re.search(r"^Grafana dashboard: (.*)$", said.stdout, re.M)[1]).read_text()
            )  # type: ignore[index]
            data = f"--storage.tsdb.path={folder / 'data'}"
            with _process(*command, data, environment=environment, output=prometheus_log):
                _wait_for(
                    lambda: not _unanswered(url, dashboard) or "Traceback" in run_log.read_text(),
                    log=run_log,
                )
                assert "Traceback" not in run_log.read_text(), run_log.read_text()[-3000:]
                yield url, dashboard, said.stdout


def _ask(url: str, query: str) -> list[dict[str, Any]]:
    """An instant query's series."""
    try:
        with urlopen(f"{url}/api/v1/query?{urlencode({'query': query})}", timeout=60) as answer:
            return list(json.load(answer)["data"]["result"])
    except URLError:  # it is only starting
        return []


def _labels(url: str, gauge: str, label: str) -> list[list[str]]:
    """What a label says, of each trial that has the gauge."""
    of_trials: dict[str, list[str]] = {}
    for series in _ask(url, gauge):
        of_trials.setdefault(series["metric"]["trial"], []).append(series["metric"][label])
    return [sorted(labels) for labels in of_trials.values()]


def _queries(dashboard: dict[str, Any]) -> list[str]:
    """Those of every panel, with everything chosen, as Grafana would send them."""
    found = [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", ())]
    return [re.sub(r"\$[a-z]+", ".*", query) for query in found]


def _unanswered(url: str, dashboard: dict[str, Any]) -> list[str]:
    return [query for query in _queries(dashboard) if not _ask(url, query)]


def test_every_gauge_of_the_dashboard_has_a_value(live: tuple[str, dict[str, Any], str]) -> None:
    url, dashboard, _ = live
    assert len(_queries(dashboard)) > 50
    assert _unanswered(url, dashboard) == []
    values = [series["value"][1] for query in _queries(dashboard) for series in _ask(url, query)]
    assert all(float(value) == float(value) for value in values)


def test_the_series_tell_run_trial_and_module(live: tuple[str, dict[str, Any], str]) -> None:
    url, _, _ = live
    trials = []
    for series in _ask(url, "ray_rllib_dapo_entropy"):
        labels = series["metric"]
        assert (labels["run"], labels["module"]) == ("live", "default_policy")
        assert labels["trial"].startswith("DAPO_")
        trials.append(labels["trial"])
    assert len(trials) == len(set(trials)) == 2


def test_parts_of_the_reward_and_k_are_labels(live: tuple[str, dict[str, Any], str]) -> None:
    url, _, _ = live
    for gauge, label, expected in (
        ("reward_component", "component", ["number", "own", "right"]),
        ("reward_metric", "component", ["own/characters"]),
        ("environment_accuracy", "environment", ["one", "other"]),
        ("evaluation_avg_at_k", "k", ["2"]),
        ("objective_figure", "component", ["distance"]),
    ):
        of_trials = _labels(url, f"ray_rllib_dapo_{gauge}", label)
        assert of_trials
        assert all(labels == expected for labels in of_trials), gauge


def test_the_command_says_where_to_look(live: tuple[str, dict[str, Any], str]) -> None:
    _, _, said = live
    assert re.search(r"^Ray dashboard: http://127\.0\.0\.1:\d+$", said, re.M)
    assert "ray get-auth-token" in said
