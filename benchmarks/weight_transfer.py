"""Seconds from the Learner's weights to two engines, against vLLM's own `reload_weights` of one.

Both sides have SmolLM2-135M in bfloat16. Ours: the Learner, in a process of its own, hands its
float32 weights to the engines of two EnvRunners, by each way that runs on this machine. The other
side: one of these engines reloads the same tensors, which lie ready in its own process, while the
other one rests. All sides take turns in one run. At the end, both engines must hold the Learner's
weights, bit for bit; such a check, of which a training step makes two, is timed as well. So are
training steps of the same model, on the same cores in the same run, of which a transfer is a share.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
from collections.abc import Callable
from typing import Any

from common import RESULTS, Side, machine, timed
from ray.rllib.core import DEFAULT_MODULE_ID
from training_step import step_seconds

from rllib_dapo import DAPOConfig
from rllib_dapo.learner.learner_group import ask_learners
from rllib_dapo.ray_internals import start_ray
from rllib_dapo.weight_transfer.make_way import make_transfer_way
from rllib_dapo.weight_transfer.transfer import TransferWay

ROUNDS, STEPS, ENGINES = 7, 3, 2
# How many times longer than `reload_weights` each way may take.
TARGETS = {"object_store": 3.0, "gloo": 2.5}
# How much of a training step a transfer may take.
STEP_SHARE = 0.02
RELOAD = "vLLM's reload_weights, one engine"


def make_config() -> DAPOConfig:
    """Two engines and a Learner, with a process each."""
    return (
        DAPOConfig()
        .environment("rllib_dapo/Arithmetic-v0")
        .language_model("smollm2-135m", dtype="bfloat16")
        .rollout(max_prompt_tokens=128, max_response_tokens=16, cpu_kv_cache_gib=0.25)
        .weights(transfer="gloo", bucket_mib=float(sys.argv[1]) if sys.argv[1:] else 64.0)
        .env_runners(num_env_runners=ENGINES)
        .learners(num_learners=1)
        .training(prompts_per_step=2, group_size=4, minibatch_size=8)
        .overlong(buffer_tokens=0)
        .fault_tolerance(restart_failed_env_runners=False)
    )


def make_way(algo: Any, way: str) -> TransferWay:
    """A way between the algorithm's Learner and engines; these take weights by both."""
    return make_transfer_way(way, algo.learner_group, algo.env_runner_group, algo.config)


def keep_tensors(runner: Any) -> int:
    """Keeps the model's weights in the engine's process, as `reload_weights` takes them.

    Returns:
        Their size in bytes.
    """
    from rllib_dapo.models import CheckpointFormat, load_causal_lm, resolve_model

    model = load_causal_lm(str(resolve_model("smollm2-135m")), dtype="bfloat16")
    weights = CheckpointFormat(model).to_checkpoint(model.state_dict().items())
    runner.kept = [(name, tensor.clone()) for name, tensor in weights]
    return sum(tensor.nbytes for _, tensor in runner.kept)


def reload(runner: Any) -> float:
    """Seconds of vLLM's own `reload_weights` in the engine's process."""
    llm = runner.module[DEFAULT_MODULE_ID].engine.llm
    kwargs = {"weights_iterator": iter(runner.kept)}
    return timed(lambda: llm.collective_rpc("reload_weights", kwargs=kwargs))[0]


def main() -> None:
    """Measures all sides in turn, writes the results, and fails where a target is missed."""
    # Ray's workers give way to whatever else runs on the machine, unless they are told not to.
    os.environ.setdefault("RAY_worker_niceness", "0")
    start_ray(num_cpus=4, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    steps = step_seconds(STEPS)
    print("steps: " + ", ".join(f"{value:.1f} s" for value in steps), flush=True)
    algo = make_config().build_algo()
    runners = algo.env_runner_group
    ways = {name: make_way(algo, name) for name in TARGETS}
    nbytes = runners.foreach_env_runner(
        keep_tensors, local_env_runner=False, remote_worker_ids=[1]
    )[0]

    def reload_one() -> float:
        return runners.foreach_env_runner(reload, local_env_runner=False, remote_worker_ids=[1])[0]

    measures: dict[str, Callable[[], float]] = {RELOAD: reload_one} | {
        name: lambda way=way: timed(way.transfer)[0] for name, way in ways.items()
    }
    seconds: dict[str, list[float]] = {name: [] for name in measures}
    for number in range(ROUNDS + 1):
        for name, measure in measures.items():
            value = measure()
            if number:  # the first round connects and warms up
                seconds[name].append(value)
        told = ", ".join(f"{name} {s[-1]:.3f} s" for name, s in seconds.items() if s)
        print(f"round {number} of {ROUNDS}: {told or 'warm-up'}", flush=True)

    checks = [timed(lambda turn=turn: check_arrival(algo, turn))[0] for turn in range(ROUNDS + 1)]
    packing = learner_alone(algo)
    algo.stop()
    write(seconds, nbytes, packing=packing, checks=checks[1:], steps=steps)


def check_arrival(algo: Any, turn: int) -> None:
    """Compares the engines' weights with the Learner's; another block of each in every turn."""
    algo._arrival.check(algo, version=turn)


def learner_alone(algo: Any) -> float:
    """Seconds in which the Learner packs all buckets, and nobody takes them."""

    def pack(learner: Any) -> float:
        import torch

        from rllib_dapo.weight_transfer.wire.buckets import plan_buckets

        source = learner.weight_sender.source
        buckets = plan_buckets(source.metadata(), max_bytes=64 * 2**20)
        buffer = torch.empty(max(bucket.nbytes for bucket in buckets), dtype=torch.uint8)

        def fill() -> None:
            weights = iter(source)
            for bucket in buckets:
                bucket.fill(buffer, weights)

        fill()
        return timed(fill)[0]

    return float(ask_learners(algo.learner_group, pack)[0])


def write(
    seconds: dict[str, list[float]],
    nbytes: int,
    *,
    packing: float,
    checks: list[float],
    steps: list[float],
) -> None:
    """Prints each way's figures and writes `results/weight_transfer.json`."""
    sides = {n: Side(label=n, unit="s", values=values) for n, values in seconds.items()}
    reference, step = sides[RELOAD].median, statistics.median(steps)
    ways = {}
    for name, target in TARGETS.items():
        median = sides[name].median
        ways[name] = {
            "seconds": round(median, 3),
            "values": [round(value, 3) for value in sides[name].values],
            "bytes": nbytes * ENGINES,
            "ratio": round(median / reference, 2),
            "target": target,
            "share_of_step": round(median / step, 4),
        }

    holds = all(
        way["ratio"] <= way["target"] and way["share_of_step"] <= STEP_SHARE
        for way in ways.values()
    )
    record = {
        "name": "weight_transfer",
        "holds": holds,
        "model": "SmolLM2-135M, bfloat16",
        "engines": ENGINES,
        "reload_weights": {
            "seconds": round(reference, 3),
            "values": [round(value, 3) for value in sides[RELOAD].values],
            "bytes": nbytes,
        },
        "ways": ways,
        "packing_alone_seconds": round(packing, 3),
        "arrival_check": {
            "seconds": round(statistics.median(checks), 3),
            "values": [round(value, 3) for value in checks],
        },
        "step": {
            "seconds": round(step, 1),
            "values": [round(value, 1) for value in steps],
            "source": "training_step.py, in the same run",
        },
        "machine": machine(),
        # One engine needs one core, a transfer to two engines all of them: other work on the
        # machine costs the transfers more.
        "load_average": round(os.getloadavg()[0], 1),
    }
    (RESULTS / "weight_transfer.json").write_text(json.dumps(record, indent=2) + "\n")

    print(f"{RELOAD}: {reference:.3f} s for {nbytes / 1e6:.0f} MB")
    for name, way in ways.items():
        verdict = "holds" if way["ratio"] <= way["target"] else "MISSED"
        print(
            f"weight_transfer: {name} to {ENGINES} engines: {way['seconds']:.3f} s, ratio "
            f"{way['ratio']:.2f} (at most {way['target']}, {verdict}), "
            f"{100 * way['share_of_step']:.2f} % of a step of {step:.0f} s"
        )
    sys.exit(0 if holds else 1)


if __name__ == "__main__":
    main()
