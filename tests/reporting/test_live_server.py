"""The server of a live page: who gets what, and when it changes."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from rllib_dapo.cli import app
from rllib_dapo.reporting.live_run import LiveRun
from rllib_dapo.reporting.live_server import LiveServer


@pytest.fixture(scope="module")
def folder(sweep_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(shutil.copytree(sweep_folder, tmp_path_factory.mktemp("live") / "run"))


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[LiveServer]:
    with LiveServer(LiveRun([str(folder)])) as made:
        thread = threading.Thread(target=made.serve_forever)
        thread.start()
        yield made
        made.shutdown()
        thread.join()


def _get(server: LiveServer, path: str) -> tuple[int, str]:
    """Status and text of an answer; `path` may ask for the token."""
    url = f"http://127.0.0.1:{server.server_port}{path.replace('TOKEN', server.token)}"
    try:
        with urllib.request.urlopen(url, timeout=800) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


@pytest.mark.parametrize("path", ["/", "/data", "/?token=wrong", "/etc/passwd", "/?token=%C3%A9"])
def test_without_the_token_nothing_is_told(server: LiveServer, path: str) -> None:
    assert _get(server, path) == (403, "the address needs its token\n")


@pytest.mark.parametrize(
    "path", ["/run.json", "/trial_00000/result.json", "/../run.json", "/data/"]
)
def test_nothing_but_the_page_and_its_data_is_there(server: LiveServer, path: str) -> None:
    assert _get(server, f"{path}?token=TOKEN") == (404, "there is nothing here\n")


def test_the_page_asks_its_own_server_and_nobody_else(server: LiveServer) -> None:
    status, html = _get(server, "/?token=TOKEN")
    assert status == 200
    assert "connect-src 'self'" in html
    assert 'data-live="true"' in html
    assert server.token not in html


def test_it_is_reached_from_this_machine_only(server: LiveServer) -> None:
    assert server.server_address[0] == "127.0.0.1"


def test_data_changes_with_the_folder_and_a_half_written_result_does_no_harm(
    server: LiveServer, folder: Path
) -> None:
    _, text = _get(server, "/data?token=TOKEN&version=")
    before = json.loads(text)
    assert before["data"]["trials"][2]["iterations"] == 4
    assert _get(server, f"/data?token=TOKEN&version={before['version']}") == (204, "")

    path = folder / "trial_00002" / "result.json"
    last = json.loads(path.read_text().splitlines()[-1])
    line = json.dumps({**last, "training_iteration": 5})
    with path.open("a") as file:
        file.write(line[:1000])
    after = _newer(server, before["version"])
    assert [trial["iterations"] for trial in after["data"]["trials"]] == [4, 4, 4, 4]

    with path.open("a") as file:
        file.write(line[1000:] + "\n")
    after = _newer(server, after["version"])
    assert [trial["iterations"] for trial in after["data"]["trials"]] == [4, 4, 5, 4]
    assert "env_runners/accuracy" in after["figures"][2]


def _newer(server: LiveServer, version: str) -> dict:
    """Asks until the server has read the folder again."""
    while True:
        status, text = _get(server, f"/data?token=TOKEN&version={version}")
        if status == 200:
            return json.loads(text)


def test_a_run_without_a_trial_is_waited_for(tmp_path: Path, sweep_folder: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    run = LiveRun([str(folder)])
    assert run.newest() is None
    assert "no run is there" in run.problem
    shutil.copytree(sweep_folder, folder, dirs_exist_ok=True)
    while (found := run.newest()) is None:
        pass
    assert len(found.content["trials"]) == 4


def test_an_occupied_port_and_what_is_no_folder_are_refused_in_a_line(
    server: LiveServer, folder: Path, tmp_path: Path
) -> None:
    port = server.server_port
    done = CliRunner().invoke(app, ["report", str(folder), "--live", "--port", str(port)])
    message = f"--port {port}: cannot be used (address already in use): name another, or 0 for any"
    assert (done.exit_code, done.output) == (2, f"{message}\n")

    missing = tmp_path / "missing"
    done = CliRunner().invoke(app, ["report", str(missing), "--live"])
    message = f"{missing}: --live needs a folder on this machine"
    assert (done.exit_code, done.output) == (2, f"{message}\n")

    words = ["--live", "--output", str(tmp_path / "page.html")]
    done = CliRunner().invoke(app, ["report", str(folder), *words])
    assert (done.exit_code, done.output.count("\n")) == (2, 1)


def test_ctrl_c_ends_the_command(
    start_command: Callable[..., subprocess.Popen[str]], folder: Path
) -> None:
    process = start_command("report", folder, "--live", folder=folder.parent)
    address = process.stdout.readline()
    assert address.startswith("report: http://127.0.0.1:")
    # Both before `communicate`, which knows nothing of what `readline` has read ahead.
    assert process.stdout.readline() == "Ctrl-C ends it.\n"
    with urllib.request.urlopen(address.split()[1], timeout=800) as answer:
        assert answer.status == 200
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=800)
    assert (process.returncode, out, err) == (0, "ended\n", "")
