"""Configuration for Prometheus and Grafana, written beside what Ray writes for them into its session's folder."""

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

SCRAPE_EVERY = "5s"
_UNAUTHORIZED = 401
_ANSWER_TAKES_S = 10.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Session:
    """A running Ray.

    Attributes:
        folder: Its session folder on this machine.
        url: Of its dashboard, or None if it has none.
        wants_token: Whether that page asks for a token first.
    """

    folder: Path
    url: str | None
    wants_token: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Provisioned:
    """What was written.

    Attributes:
        prometheus: `prometheus.yml`.
        grafana: `grafana.ini`.
        dashboard: The dashboard's JSON, in the folder that Ray's own Grafana configuration reads
            too.
    """

    prometheus: Path
    grafana: Path
    dashboard: Path


def find_session(address: str | None = None) -> Session:
    """Asks a running Ray for its folder and the address of its dashboard.

    Args:
        address: `host:port` of its head; by default what `RAY_ADDRESS` names, or what runs on this
            machine.

    Raises:
        SettingsError: If there is none.
    """
    # Ray itself looks for the token only where it also found the address.
    maybe_enable_token_auth_if_token_available(warn_if_disabled=False)
    try:
        context = ray.init(address or "auto", logging_level="ERROR", log_to_driver=False)
    except (ConnectionError, ValueError, RuntimeError) as error:
        where = f"no Ray answers at {address}" if address else "no Ray is running here"
        raise SettingsError(
            f"{where}: start one with `ray start --head`, or name another's head with --address"
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
        session: Whose metrics are to be shown.
        prometheus_url: Where Grafana finds Prometheus.
    """
    metrics = session.folder / "metrics"
    own, dashboards = metrics / "rllib_dapo", metrics / "grafana" / "dashboards"
    written = Provisioned(
        prometheus=own / "prometheus.yml",
        grafana=own / "grafana.ini",
        dashboard=dashboards / grafana.FILE.name,
    )
    texts = {
        written.dashboard: grafana.text(),
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
    """Where the Ray dashboard is, and how one gets in."""
    if session.url is None:
        yield "Ray dashboard: this Ray has none; start it with `ray start --head --include-dashboard=true`"
        return
    yield f"Ray dashboard: {session.url}"
    if session.wants_token:
        yield "  it asks for a token: `ray get-auth-token` prints it on this machine; paste it into the page"


def start_lines(written: Provisioned, *, prometheus_url: str) -> Iterator[str]:
    """The commands that show the charts."""
    port = prometheus_url.rpartition(":")[2].strip("/")
    listen = f" --web.listen-address=127.0.0.1:{port}" if port.isdigit() else ""
    yield f"Grafana dashboard: {written.dashboard}"
    yield f"Prometheus: prometheus --config.file={written.prometheus}{listen}"
    yield f"Grafana: grafana server --homepath /usr/share/grafana --config {written.grafana}"
    yield f"  then http://localhost:3000/d/{grafana.UID}"


def _wants_token(url: str) -> bool:
    try:
        with urlopen(f"http://{url}/api/jobs/", timeout=_ANSWER_TAKES_S):
            return False
    except HTTPError as error:
        return error.code == _UNAUTHORIZED


def _prometheus_yml(session: Path) -> str:
    # Ray keeps this list of its nodes' addresses up to date as they come and go.
    targets = session / "prom_metrics_service_discovery.json"
    return yaml.safe_dump(
        {
            "global": {"scrape_interval": SCRAPE_EVERY},
            "scrape_configs": [{"job_name": "ray", "file_sd_configs": [{"files": [str(targets)]}]}],
        },
        sort_keys=False,
    )


def _grafana_ini(provisioning: Path) -> str:
    """Anyone may look, and Ray's dashboard may show the charts in its own pages; nobody may change a thing."""
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
        "jsonData": {"timeInterval": SCRAPE_EVERY},
    }
    return yaml.safe_dump({"apiVersion": 1, "datasources": [source]}, sort_keys=False)


def _dashboards_yml(folder: Path) -> str:
    provider = {"name": "Ray", "folder": "Ray", "type": "file", "options": {"path": str(folder)}}
    return yaml.safe_dump({"apiVersion": 1, "providers": [provider]}, sort_keys=False)


def write_json(path: Path) -> None:
    """Writes the dashboard alone, for a Grafana elsewhere that imports it.

    Args:
        path: The new file.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(grafana.text(), encoding="utf-8")
