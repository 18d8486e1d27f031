"""How one driver keeps up with 1 to 32 EnvRunners, and with a million groups.

EnvRunners sleep as long as engines would take (see `sleeping_runner.py`). The stream, decisions,
Ray and its actors are real. Each EnvRunner adds as many prompts to a step, so with a driver that
costs nothing groups per second would be in proportion to EnvRunners.

    python benchmarks/scale.py [--long]

With `--long`, groups are short, and two EnvRunners bring a million of them: the driver's seconds
per group and its memory are written down along the way.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import psutil
import ray
from batches import batch_source, running
from common import RESULTS, machine
from ray.rllib.env.env_runner_group import EnvRunnerGroup
from sleeping_runner import SleepingRunner

from rllib_dapo import DAPOConfig

RUNNERS, STEPS, PROMPTS_PER_RUNNER, RESPONSES, ROOM = (1, 4, 16, 32), 3, 64, 16, 256
LEAST_EFFICIENCY, BUSY = 0.9, 0.95  # of the machine's cores
GROUPS, LONG_PROMPTS = 1_000_000, 1024
MOST_GROWTH = 1.2  # of seconds per group, and of memory, from the first mark to the last one


def make_config(num_env_runners: int, *, prompts: int, **lengths: float) -> DAPOConfig:
    """EnvRunners that sleep."""
    return (
        DAPOConfig()
        .environment("rllib_dapo/Arithmetic-v0", env_config=lengths)
        .rollout(max_concurrent_responses=ROOM)
        .training(group_size=RESPONSES, prompts_per_step=prompts, minibatch_size=RESPONSES)
        .env_runners(
            num_env_runners=num_env_runners,
            num_cpus_per_env_runner=0,
            env_runner_cls=SleepingRunner,
        )
        .fault_tolerance(restart_failed_env_runners=False)
    )


def measure(group: EnvRunnerGroup, num_env_runners: int) -> dict[str, Any]:
    """Groups per second with the first EnvRunners of a group; the first step warms up."""
    config = make_config(num_env_runners, prompts=PROMPTS_PER_RUNNER * num_env_runners)
    for index in range(1, group.num_remote_env_runners() + 1):
        group._worker_manager.set_actor_state(index, healthy=index <= num_env_runners)
    source = batch_source(group, config)
    source.fill(version=0)
    psutil.cpu_percent()
    started, cpu, groups = time.perf_counter(), time.process_time(), 0
    for _ in range(STEPS):
        groups += len(source.fill(version=0).groups)
    seconds = time.perf_counter() - started
    return {
        "env_runners": num_env_runners,
        "groups_per_second": round(groups / seconds, 2),
        "driver_milliseconds_per_group": round(1000 * (time.process_time() - cpu) / groups, 3),
        "driver_share_of_a_core": round((time.process_time() - cpu) / seconds, 3),
        "share_of_all_cores": round(psutil.cpu_percent() / 100, 3),
    }


def scale() -> bool:
    """Measures all numbers of EnvRunners; returns whether the target holds."""
    rows: list[dict[str, Any]] = []
    with running(make_config(RUNNERS[-1], prompts=1)) as group:
        for num_env_runners in RUNNERS:
            row = measure(group, num_env_runners)
            rows.append(row)
            row["efficiency"] = round(
                row["groups_per_second"] / num_env_runners / rows[0]["groups_per_second"], 3
            )
            print(", ".join(f"{name} {value}" for name, value in row.items()), flush=True)
    holds = all(
        row["efficiency"] >= LEAST_EFFICIENCY or row["share_of_all_cores"] >= BUSY for row in rows
    )
    write("scale", {"rows": rows, "least_efficiency": LEAST_EFFICIENCY, "holds": holds})
    return holds


def many_groups() -> bool:
    """Has two EnvRunners bring a million groups; returns whether cost and memory stay flat."""
    short = {"median_tokens": 10.0, "most_tokens": 50, "token_seconds": 1e-5}
    config = make_config(2, prompts=LONG_PROMPTS, **short)
    marks = [10**power * factor for power in range(3, 6) for factor in (1, 3)] + [GROUPS]
    rows: list[dict[str, Any]] = []
    with running(config) as group:
        source = batch_source(group, config)
        source.fill(version=0)
        groups = last = 0
        cpu = time.process_time()
        while groups < GROUPS:
            groups += len(source.fill(version=0).groups)
            if groups >= marks[len(rows)]:
                spent, cpu = time.process_time() - cpu, time.process_time()
                rows.append(
                    {
                        "groups": groups,
                        "driver_milliseconds_per_group": round(1000 * spent / (groups - last), 4),
                        "driver_mib": round(psutil.Process().memory_info().rss / 2**20, 1),
                    }
                )
                last = groups
                print(", ".join(f"{name} {value}" for name, value in rows[-1].items()), flush=True)
    first, final = rows[0], rows[-1]
    holds = all(
        final[name] <= MOST_GROWTH * first[name]
        for name in ("driver_milliseconds_per_group", "driver_mib")
    )
    write("scale_long", {"rows": rows, "most_growth": MOST_GROWTH, "holds": holds})
    return holds


def write(name: str, record: dict[str, Any]) -> None:
    """Writes the figures."""
    RESULTS.mkdir(exist_ok=True)
    text = json.dumps({"name": name, **record, "machine": machine()}, indent=2)
    (RESULTS / f"{name}.json").write_text(text + "\n")
    print(f"{name}: {'holds' if record['holds'] else 'MISSED'}")


def main() -> None:
    """Measures, and ends with 1 where the target is missed."""
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    holds = many_groups() if "--long" in sys.argv[1:] else scale()
    ray.shutdown()
    sys.exit(0 if holds else 1)


if __name__ == "__main__":
    main()
