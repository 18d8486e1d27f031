"""What `rllib-dapo dashboard` writes and says."""

from __future__ import annotations

import configparser
import json
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from rllib_dapo.cli import app
from rllib_dapo.dashboards import grafana
from rllib_dapo.dashboards.provision import (
    Provisioned,
    Session,
    address_lines,
    provision,
    start_lines,
)

URL = "http://localhost:9191"


@pytest.fixture
def session(tmp_path: Path) -> Session:
    return Session(folder=tmp_path, url="http://127.0.0.1:8265", wants_token=True)


@pytest.fixture
def written(session: Session) -> Provisioned:
    return provision(session, prometheus_url=URL)


def test_prometheus_scrapes_the_nodes_that_ray_lists(
    session: Session, written: Provisioned
) -> None:
    config = yaml.safe_load(written.prometheus.read_text())
    (job,) = config["scrape_configs"]
    assert job["file_sd_configs"] == [
        {"files": [f"{session.folder}/prom_metrics_service_discovery.json"]}
    ]


def test_grafana_finds_the_data_source_and_the_dashboard(written: Provisioned) -> None:
    ini = configparser.ConfigParser()
    ini.read(written.grafana)
    provisioning = Path(ini["paths"]["provisioning"])
    (source,) = yaml.safe_load((provisioning / "datasources" / "prometheus.yml").read_text())[
        "datasources"
    ]
    assert (source["type"], source["url"]) == ("prometheus", URL)
    (provider,) = yaml.safe_load((provisioning / "dashboards" / "ray.yml").read_text())["providers"]
    assert Path(provider["options"]["path"]) == written.dashboard.parent


def test_the_dashboard_lies_among_rays_own(session: Session, written: Provisioned) -> None:
    assert written.dashboard.parent == session.folder / "metrics" / "grafana" / "dashboards"
    assert json.loads(written.dashboard.read_text()) == grafana.dashboard()


def test_writing_it_again_changes_nothing(session: Session, written: Provisioned) -> None:
    before = {path: path.read_text() for path in session.folder.rglob("*") if path.is_file()}
    assert provision(session, prometheus_url=URL) == written
    assert {
        path: path.read_text() for path in session.folder.rglob("*") if path.is_file()
    } == before


def test_the_address_and_the_token_are_told(session: Session) -> None:
    lines = list(address_lines(session))
    assert lines[0] == "Ray dashboard: http://127.0.0.1:8265"
    assert "ray get-auth-token" in lines[1]


def test_no_token_is_told_of_where_none_is_asked_for(tmp_path: Path) -> None:
    session = Session(folder=tmp_path, url="http://127.0.0.1:8265", wants_token=False)
    assert list(address_lines(session)) == ["Ray dashboard: http://127.0.0.1:8265"]


def test_a_ray_without_a_dashboard_is_told_of(tmp_path: Path) -> None:
    (line,) = address_lines(Session(folder=tmp_path, url=None, wants_token=False))
    assert "--include-dashboard=true" in line


def test_the_commands_to_start_name_the_files_and_the_port(written: Provisioned) -> None:
    text = "\n".join(start_lines(written, prometheus_url=URL))
    assert f"--config.file={written.prometheus} --web.listen-address=127.0.0.1:9191" in text
    assert f"--config {written.grafana}" in text


def test_the_json_alone_needs_no_ray(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["dashboard", "--json", str(tmp_path / "new" / "dapo.json")])
    assert done.exit_code == 0, done.output
    assert json.loads((tmp_path / "new" / "dapo.json").read_text()) == grafana.dashboard()
