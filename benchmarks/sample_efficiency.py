"""The paper's claim in small: does DAPO come to GRPO's accuracy in fewer updates, and further?

GRPO, PPO, DAPO, the rows of the paper's Table 1, DAPO without each of its techniques, and Lite PPO
(arXiv 2508.08221) train tiny models on three tasks (`study_tasks.py`), with several seeds and the
same learning rates for all (`study_arms.py`). Costs are counted in gradient updates, in sampled
tokens, those of dropped groups too, and in seconds. Interquartile means, intervals and speed-ups
are those of `study_statistics.py`.

    python benchmarks/sample_efficiency.py                              # all that is not there yet
    python benchmarks/sample_efficiency.py --arms grpo dapo --tasks sums --learning-rates 1e-4
    python benchmarks/sample_efficiency.py --minutes 3                  # ends after that time
    python benchmarks/sample_efficiency.py --small                      # a smoke test: a minute

Every run that has ended is a line of `results/sample_efficiency_runs.jsonl` and is not made again;
a kill loses one run a worker. `results/sample_efficiency.json` is written anew from those lines.

**Protocol**, fixed before the first run and kept with the results. Runs are never stopped early and
none is left out: a training that fails ends the study with its error. The comparison is that of
`primary_lr`; what comes out at each arm's own best rate is shown beside it. A claim holds where the
figure reaches its margin and its interval is on the right side of no difference; it is not measured
while an arm has fewer than `least_seeds` seeds.

One run had been looked at before this protocol was fixed, for its cost: GRPO on sums of two to six
numbers, written out, with mini-batches of 16 and 24 steps. Its accuracy went from 0.14 to 0.07.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from common import RESULTS, machine
from study_arms import ARMS
from study_runs import RunKey, RunStore, digest, planned, share_of
from study_summary import summary
from study_tasks import TASKS

PROTOCOL: Mapping[str, Any] = {
    "learning_rates": [1e-4, 3e-5, 3e-4],
    "primary_lr": 1e-4,
    "seeds": [0, 1, 2, 3, 4],
    "least_seeds": 5,
    "iterations": 32,
    "prompts_per_step": 16,
    "group_size": 8,
    "minibatch_size": 32,  # four updates a step, so that the clip ranges matter
    "evaluation_interval": 4,
    "evaluation_problems": 128,
    "evaluation_samples": 4,
    "engine": "vllm",
    "env_runners": 1,
    "margin_speed_up": 2.0,
    "margin_accuracy": 0.01,
}
SMALL = {
    "iterations": 2,
    "evaluation_interval": 1,
    "evaluation_problems": 16,
    "seeds": [0, 1],
    "learning_rates": [1e-4],
}
SECONDS_A_RUN = 60.0  # expected, until some runs are there


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS))
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS))
    parser.add_argument("--seeds", nargs="+", type=int)
    parser.add_argument("--learning-rates", nargs="+", type=float)
    parser.add_argument("--minutes", type=float, help="begin no run after this time")
    parser.add_argument("--workers", type=int, default=1, help="processes side by side")
    parser.add_argument("--small", action="store_true", help="a smoke test, kept nowhere")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the results")
    parser.add_argument("--part", type=int, help=argparse.SUPPRESS)  # of a worker
    given = parser.parse_args(arguments)
    protocol = dict(PROTOCOL | SMALL if given.small else PROTOCOL)
    given.protocol = protocol
    given.seeds = given.seeds or protocol["seeds"]
    given.learning_rates = given.learning_rates or protocol["learning_rates"]
    return given


def digests(runs: Sequence[RunKey], protocol: Mapping[str, Any]) -> dict[RunKey, str]:
    """Each run with the digest of all that it depends on."""
    from study_training import run_file

    return {
        run: digest({"run": run_file(run, protocol), "iterations": protocol["iterations"]})
        for run in runs
    }


def worker(given: argparse.Namespace, store: RunStore) -> None:
    """Trains one process's share of the runs that are not there yet."""
    import ray
    from study_training import Trainer

    began = time.monotonic()
    wanted = planned(given.tasks, given.arms, given.learning_rates, given.seeds)
    names = digests(wanted, given.protocol)
    # Shares of all runs, not of the pending ones: what others end meanwhile moves no run.
    done = store.done(names)
    mine = [run for run in share_of(wanted, given.part or 0, given.workers) if run not in done]
    if not mine:
        return

    ray.init(num_cpus=4, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    trainer = Trainer(given.protocol)
    here = machine()
    for number, run in enumerate(mine, start=1):
        elapsed = time.monotonic() - began
        if given.minutes is not None and elapsed > given.minutes * 60:
            print(f"{number - 1} of {len(mine)} runs in {elapsed / 60:.1f} min: time is up")
            break
        record = {
            **{name: getattr(run, name) for name in RunKey.__slots__},
            "digest": names[run],
            **trainer.train(run, say=lambda text: print(f"  {text}", flush=True)),
            "date": datetime.now(UTC).strftime("%Y-%m-%d"),
            "cores": here["cores"],
        }
        store.add(record)
        first, last = (record["columns"]["accuracy"][i] for i in (0, -1))
        left = (time.monotonic() - began) / number * (len(mine) - number)
        print(
            f"{number} of {len(mine)}: {run.text}: accuracy {first:.3f} -> {last:.3f}, "
            f"{record['total_seconds']:.0f} s; about {left / 60:.0f} min left",
            flush=True,
        )
    trainer.close()
    ray.shutdown()


def expected_minutes(runs: int, done: Sequence[Mapping[str, Any]], workers: int) -> float:
    """Minutes that some runs will take, from those that are there."""
    seconds = [record["total_seconds"] for record in done] or [SECONDS_A_RUN]
    return runs * statistics.median(seconds) / workers / 60


def write_summary(store: RunStore, folder: Path, protocol: Mapping[str, Any]) -> dict[str, Any]:
    """Writes the results of all planned runs that are there, whoever made them."""
    everything = planned(
        list(TASKS), list(ARMS), protocol["learning_rates"], list(protocol["seeds"])
    )
    done = store.done(digests(everything, protocol))
    ceilings = {name: round(TASKS[name].ceiling(), 4) for name in {run.task for run in done}}
    record = {
        "name": "sample_efficiency",
        "protocol": dict(protocol),
        "runs": len(done),
        "planned": len(everything),
        **summary(done, protocol=protocol, ceilings=ceilings),
        "machine": machine(),
    }
    # Whole or not at all: another process may be at it, too.
    unfinished = folder / f".sample_efficiency.{os.getpid()}"
    unfinished.write_text(json.dumps(record) + "\n")
    unfinished.replace(folder / "sample_efficiency.json")
    return record


def main(arguments: Sequence[str]) -> None:
    """Makes the runs that are missing, in this process or in several, and sums up."""
    given = parse(arguments)
    if given.small and given.part is None and given.results == RESULTS:
        given.results = Path(tempfile.mkdtemp(prefix="sample_efficiency_"))
    store = RunStore(given.results / "sample_efficiency_runs.jsonl")
    if given.part is not None:
        worker(given, store)
        return

    wanted = planned(given.tasks, given.arms, given.learning_rates, given.seeds)
    done = store.done(digests(wanted, given.protocol))
    pending = len(wanted) - len(done)
    minutes = expected_minutes(pending, list(done.values()), given.workers)
    print(f"{len(done)} of {len(wanted)} runs are there; {pending} take about {minutes:.0f} min")

    if given.workers == 1:
        worker(given, store)
    else:
        # One thread each: the cores are shared by processes, not within them.
        command = [sys.executable, str(Path(__file__).resolve()), *arguments]
        command += ["--results", str(given.results)]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        processes = [
            subprocess.Popen([*command, "--part", str(part)], env=environment)
            for part in range(given.workers)
        ]
        if any(list(map(subprocess.Popen.wait, processes))):  # all of them are waited for
            sys.exit("a worker failed; start again to go on")

    record = write_summary(store, given.results, given.protocol)
    print(f"{record['runs']} of {record['planned']} runs of the whole study are there")
    for claim in record["claims"]:
        print(f"{claim['task']}: {claim['claim']}: {claim['verdict']}")


if __name__ == "__main__":
    main(sys.argv[1:])
