"""Ray's own dashboard of a live run, as a person sees it: the job, the actors by name, a log.

`PICTURES=docs/images pytest -m browser tests/browser/test_ray_dashboard.py` takes those of
docs/dashboard.md anew.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

PATIENCE_S = 800  # only against hanging, however busy the machine
RUN_FILE = """
environment:
  env: rllib_dapo/Arithmetic-v0
  env_config: {{max_operand: 9}}
language_model: {{name: {model}, dtype: float32, num_threads: 1}}
rollout: {{engine: vllm, max_prompt_tokens: 16, max_response_tokens: 6, cpu_kv_cache_gib: 0.25}}
training: {{prompts_per_step: 4, group_size: 8, minibatch_size: 16}}
dynamic_sampling: {{enabled: false}}
overlong: {{buffer_tokens: 2}}
env_runners: {{num_env_runners: 2, num_cpus_per_env_runner: 0.25}}
learners: {{num_learners: 1, num_cpus_per_learner: 0.25}}
resources: {{num_cpus_for_main_process: 0.25}}
stop: {{training_iteration: 100000}}
"""


@contextmanager
def _train(run_file: Path, storage: Path) -> Iterator[str]:
    """`rllib-dapo train` for as long as this lasts.

    Gives the dashboard's address, once there are results.
    """
    python = Path(sys.executable).parent
    with tempfile.TemporaryDirectory(prefix="dapo", ignore_cleanup_errors=True) as ray_folder:
        process = subprocess.Popen(
            ["python", "-m", "rllib_dapo", "train", run_file.name, "--storage", str(storage)],
            env={name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
            | {
                "RAY_TMPDIR": ray_folder,
                "OMP_NUM_THREADS": "1",
                "PATH": f"{python}{os.pathsep}{os.environ['PATH']}",
            },
            cwd=run_file.parent,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        try:
            yield _dashboard_url(process)
        finally:
            os.killpg(process.pid, signal.SIGINT)
            try:
                process.communicate(timeout=PATIENCE_S)
            finally:
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)


def _dashboard_url(process: subprocess.Popen[str]) -> str:
    """Reads on until the first result."""
    assert process.stdout is not None
    url, lines = "", []
    for line in process.stdout:
        lines.append(line)
        if found := re.match(r"dashboard: (http://\S+)", line):
            url = found.group(1)
        if re.match(r"\d+/100000 ", line):
            return url
    raise AssertionError("the run ended before its first result:\n" + "".join(lines))


@pytest.fixture(scope="module")
def page(
    chromium: Browser, raw_model: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Page]:
    """A browser on the dashboard of a live run, behind the token that Ray asks for."""
    folder = tmp_path_factory.mktemp("run")
    model = folder / "tiny"
    model.symlink_to(raw_model)
    run_file = folder / "live.yaml"
    run_file.write_text(RUN_FILE.format(model=model))
    token = subprocess.run(
        [Path(sys.executable).with_name("ray"), "get-auth-token", "--generate"],
        capture_output=True, text=True, check=True,
    ).stdout.split()[-1]  # fmt: skip
    with _train(run_file, folder / "results") as url:
        page = chromium.new_page(viewport={"width": 1600, "height": 900})
        page.set_default_timeout(1000 * PATIENCE_S)
        page.goto(url)
        page.get_by_role("textbox").wait_for()
        _picture(page, "token")
        page.get_by_role("textbox").fill(token)
        page.get_by_role("button", name="Submit").click()
        yield page
        page.close()


def _open(page: Page, place: str) -> None:
    page.goto(f"{page.url.partition('#')[0]}#{place}")


def _picture(page: Page, name: str) -> None:
    """Keeps what the browser shows, where somebody asked for it."""
    if "PICTURES" in os.environ:
        page.screenshot(path=Path(os.environ["PICTURES"], f"ray_dashboard_{name}.png"))


def test_the_job_is_listed_as_running(page: Page) -> None:
    _open(page, "/jobs")
    row = page.get_by_role("row").filter(has_text="rllib_dapo train")
    expect(row).to_contain_text("RUNNING")
    expect(row).to_contain_text("live_20")  # its name, from the job's metadata
    _picture(page, "jobs")


def test_every_actor_has_a_telling_name(page: Page) -> None:
    _open(page, "/actors")
    for name in (
        "DAPO trial_00000 · tiny",
        "TextEnvRunner 1/2 · vllm · tiny",
        "TextEnvRunner 2/2 · vllm · tiny",
        "DAPOTorchLearner · tiny",
    ):
        row = page.get_by_role("row").filter(has_text=name)
        expect(row).to_contain_text("ALIVE")
    _picture(page, "actors")


def test_the_log_of_the_trials_actor_tells_of_its_iterations(page: Page) -> None:
    _open(page, "/actors")
    page.get_by_role("row").filter(has_text="DAPO trial_00000").get_by_role("link").first.click()
    # Whichever of them is in view: the page draws no others, and the run goes on meanwhile.
    line = page.get_by_text(re.compile(r"iteration \d+: .*entropy")).first
    expect(line).to_be_visible()
    line.scroll_into_view_if_needed()
    _picture(page, "log")
