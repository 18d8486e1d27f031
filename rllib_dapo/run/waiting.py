"""What a run waits for while there is no result yet: Ray is asked, rather than the clock."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import ray
from ray.util import placement_group_table

from rllib_dapo.run.durations import duration

if TYPE_CHECKING:
    from ray.tune.experiment import Trial

_PLACED = "CREATED"


@dataclass(frozen=True, kw_only=True, slots=True)
class RayRoom:
    """The room that Ray has, and whether a trial of ours has got some.

    Attributes:
        is_placed: Whether Ray has given a trial of this run its resources.
        total: Resources of the cluster, by name.
        free: Those that nobody holds.
        largest: By name, the most that one node has.
    """

    is_placed: bool
    total: Mapping[str, float] = field(default_factory=dict)
    free: Mapping[str, float] = field(default_factory=dict)
    largest: Mapping[str, float] = field(default_factory=dict)


def ask_ray() -> RayRoom | None:
    """Asks the Ray that this process is connected to; None where it does not answer."""
    # Whatever goes wrong here, the run itself will tell.
    try:
        job = ray.get_runtime_context().get_job_id()
        # The id of a placement group ends in that of the job that asked for it.
        groups = [
            group
            for group in placement_group_table().values()
            if group["placement_group_id"].endswith(job)
        ]
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        names = {name for node in nodes for name in node}
        return RayRoom(
            is_placed=any(group["state"] == _PLACED for group in groups),
            total=ray.cluster_resources(),
            free=ray.available_resources(),
            largest={name: max(node.get(name, 0.0) for node in nodes) for name in names},
        )
    except Exception:
        return None


def waiting_line(trials: Sequence[Trial], *, waited_s: float, room: RayRoom | None) -> str:
    """What is going on while there is no result yet.

    Args:
        trials: All trials made so far.
        waited_s: Seconds since the run started.
        room: What Ray says; None where it was not asked or did not answer.
    """
    clock = duration(waited_s)
    if any(trial.status == "RUNNING" for trial in trials):
        return f"first iteration: sampling and training ({clock})"
    if not trials or room is None:
        return f"starting ({clock})"
    if room.is_placed:
        return f"starting: loading the model and the engine ({clock})"

    bundles = trials[0].placement_group_factory.bundles
    return f"{_lack(bundles, room) or 'starting: Ray is making processes'} ({clock})"


def _lack(bundles: Sequence[Mapping[str, float]], room: RayRoom) -> str:
    """What Ray cannot give now, or ever; empty where there is room."""
    names = list(dict.fromkeys(name for bundle in bundles for name in bundle))
    needs = {name: sum(bundle.get(name, 0.0) for bundle in bundles) for name in names}
    for name, needed in needs.items():
        total = room.total.get(name, 0.0)
        if needed > total:
            return (
                f"no room: a trial needs {needed:g} {name}s, this Ray has {total:g} in all; it "
                "waits for new nodes"
            )
        piece = max(bundle.get(name, 0.0) for bundle in bundles)
        if piece > room.largest.get(name, 0.0):
            return (
                f"no room: a process needs {piece:g} {name}s, no node has more than "
                f"{room.largest.get(name, 0.0):g}; it waits for new nodes"
            )
    for name, needed in needs.items():
        free = room.free.get(name, 0.0)
        if needed > free:
            return (
                f"waiting for room: a trial needs {needed:g} {name}s, others hold all but {free:g}"
                f" of {room.total[name]:g}"
            )
    return ""
