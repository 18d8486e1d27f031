"""Configuration for Prometheus and Grafana, beside what Ray writes into its session folder.

Curves reach Prometheus through `ray.util.metrics`, which Ray's agents export on every node. So
there is no port of our own to configure: Prometheus scrapes the nodes that Ray lists.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import urlopen

import ray
import yaml

from rllib_dapo.dashboards import grafana
from rllib_dapo.findings import SettingsError
from rllib_dapo.ray_internals import maybe_enable_token_auth_if_token_available
from rllib_dapo.shell_text import pasteable

SCRAPE_INTERVAL = "5s"
_HTTP_UNAUTHORIZED = 401
_TIMEOUT_S = 10.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Session:
    """A session of Ray that is running.

    Attributes:
        folder: Folder of the session on this machine.
        url: URL of its dashboard; None if it has none.
        wants_token: Whether the dashboard asks for a token first.
    """

    folder: Path
    url: str | None
    wants_token: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Provisioned:
    """The files that were written.

    Attributes:
        prometheus: Path of `prometheus.yml`.
        grafana: Path of `grafana.ini`.
        dashboard: Path of the dashboard's JSON, in the folder that Ray's own configuration of
            Grafana reads too.
    """

    prometheus: Path
    grafana: Path
    dashboard: Path


def find_session(address: str | None = None) -> Session:
    """Asks a running Ray for its folder and the address of its dashboard.

    Args:
        address: `host:port` of Ray's head; by default what `RAY_ADDRESS` names, or the Ray that
            runs on this machine.

    Raises:
        SettingsError: If no Ray is running there.
    """
    # Ray looks for a token itself only where it also found the address itself.
    maybe_enable_token_auth_if_token_available(warn_if_disabled=False)
    try:
        context = ray.init(address or "auto", logging_level="ERROR", log_to_driver=False)
    except (ConnectionError, ValueError, RuntimeError) as error:
        where = f"no Ray answers at {address}" if address else "no Ray is running here"
        raise SettingsError(
            f"{where}: start one with `ray start --head`, or name the head of another with "
            "--address"
        ) from error

    folder, url = Path(context.address_info["session_dir"]), context.dashboard_url
    ray.shutdown()
    return Session(
        folder=folder,
        url=f"http://{url}" if url else None,
        wants_token=bool(url) and _wants_token(url),
    )


def provision(session: Session, *, prometheus_url: str) -> Provisioned:
    """Writes the dashboard and the configuration of both programs.

    Args:
        session: Session whose metrics are to be shown.
        prometheus_url: URL under which Grafana finds Prometheus.

    Returns:
        The files that a user needs to know.
    """
    metrics = session.folder / "metrics"
    own, dashboards = metrics / "rllib_dapo", metrics / "grafana" / "dashboards"
    written = Provisioned(
        prometheus=own / "prometheus.yml",
        grafana=own / "grafana.ini",
        dashboard=dashboards / grafana.DASHBOARD_FILE.name,
    )

    texts = {
        written.dashboard: grafana.dashboard_json(),
        written.prometheus: _prometheus_yml(session.folder),
        written.grafana: _grafana_ini(own / "provisioning"),
        own / "provisioning" / "datasources" / "prometheus.yml": _datasources_yml(prometheus_url),
        own / "provisioning" / "dashboards" / "ray.yml": _dashboards_yml(dashboards),
    }
    for path, text in texts.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return written


def address_lines(session: Session) -> Iterator[str]:
    """Where the Ray dashboard is, and how to get in."""
    if session.url is None:
        yield (
            "Ray dashboard: this Ray has none; start it with "
            "`ray start --head --include-dashboard=true`"
        )
        return
    yield f"Ray dashboard: {session.url}"
    if session.wants_token:
        yield (
            "  it asks for a token: `ray get-auth-token` prints it on this machine; paste it into "
            "the page"
        )


def start_lines(written: Provisioned, *, prometheus_url: str) -> Iterator[str]:
    """The commands that start Prometheus and Grafana, and where the charts then are."""
    port = prometheus_url.rpartition(":")[2].strip("/")
    prometheus = ["prometheus", f"--config.file={written.prometheus}"]
    if port.isdigit():
        prometheus.append(f"--web.listen-address=127.0.0.1:{port}")
    server = ["grafana", "server", "--homepath", "/usr/share/grafana"]
    yield f"Grafana dashboard: {written.dashboard}"
    yield f"Prometheus: {pasteable(*prometheus)}"
    yield f"Grafana: {pasteable(*server, '--config', written.grafana)}"
    yield f"  then http://localhost:3000/d/{grafana.UID}"


def _wants_token(url: str) -> bool:
    try:
        with urlopen(f"http://{url}/api/jobs/", timeout=_TIMEOUT_S):
            return False
    except HTTPError as error:
        return error.code == _HTTP_UNAUTHORIZED


def _prometheus_yml(session: Path) -> str:
    # Ray keeps this list of its nodes' addresses up to date as they come and go.
    targets = session / "prom_metrics_service_discovery.json"
    return yaml.safe_dump(
        {
            "global": {"scrape_interval": SCRAPE_INTERVAL},
            "scrape_configs": [{"job_name": "ray", "file_sd_configs": [{"files": [str(targets)]}]}],
        },
        sort_keys=False,
    )


def _grafana_ini(provisioning: Path) -> str:
    """Lets anyone look and nobody change anything, and lets Ray's dashboard embed the charts."""
    return (
        "[security]\nallow_embedding = true\n\n"
        "[auth.anonymous]\nenabled = true\norg_name = Main Org.\norg_role = Viewer\n\n"
        f"[paths]\nprovisioning = {provisioning}\n"
    )


def _datasources_yml(prometheus_url: str) -> str:
    source = {
        "name": "Prometheus",
        "type": "prometheus",
        "access": "proxy",
        "isDefault": True,
        "url": prometheus_url,
        "jsonData": {"timeInterval": SCRAPE_INTERVAL},
    }
    return yaml.safe_dump({"apiVersion": 1, "datasources": [source]}, sort_keys=False)


def _dashboards_yml(folder: Path) -> str:
    provider = {"name": "Ray", "folder": "Ray", "type": "file", "options": {"path": str(folder)}}
    return yaml.safe_dump({"apiVersion": 1, "providers": [provider]}, sort_keys=False)


def write_json(path: Path) -> None:
    """Writes the dashboard alone, for another Grafana to import.

    Args:
        path: Path of the new file.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(grafana.dashboard_json(), encoding="utf-8")
