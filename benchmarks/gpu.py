"""One page of figures from a machine with GPUs: everything that could only be planned without one.

    python benchmarks/gpu.py                       # Qwen2.5-0.5B if the hub is there, else SmolLM2
    python benchmarks/gpu.py --model FOLDER
    python benchmarks/gpu.py --cpu                 # the same steps without a GPU, with a tiny model

Each way of the weights trains a few iterations on its own: do engine and Learner agree, how many
tokens a second are sampled and trained, how long is the hand-over, and how much memory did a
Learner take, beside what `rllib-dapo plan` says. A case that this machine cannot run says why. The
page goes to results/gpu.json and to the terminal. Not run by this project on a GPU so far.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

from common import RESULTS, machine

from rllib_dapo import DAPO, DAPOConfig
from rllib_dapo.capacity.hardware import GIB, Hardware
from rllib_dapo.capacity.model_shape import model_shape
from rllib_dapo.capacity.run_plan import make_plan
from rllib_dapo.capacity.this_machine import this_machine

ITERATIONS, WARM_UP = 4, 2
# Shares of one GPU that Learner and engine have to share.
LEARNER_SHARE, ENGINE_SHARE = 0.55, 0.35


@dataclass(frozen=True, kw_only=True)
class Case:
    """One layout to be tried.

    Attributes:
        name: What is tried.
        gpus: GPUs that it needs.
        settings: Attributes of the configuration that it sets.
    """

    name: str
    gpus: int
    settings: dict[str, Any] = field(default_factory=dict)

    def reason_to_skip(self, hardware: Hardware) -> str:
        """Why it cannot run here; empty where it can."""
        missing = [name for name in self.settings if not hasattr(DAPOConfig(), name)]
        if missing:
            return f"this version has no setting {missing[0]}"
        if hardware.gpus < self.gpus:
            return f"it needs {self.gpus} GPUs, and there are {hardware.gpus}"
        return ""


def cases(hardware: Hardware, *, cpu: bool) -> Iterator[Case]:
    """What is to be tried on a machine."""
    if cpu:
        yield Case(name="object store", gpus=0)
        yield Case(name="colocated", gpus=0, settings={"colocate": True})
        return
    yield Case(name="object store", gpus=1, settings={"weight_transfer": "object_store"})
    # Where there are two GPUs each side has its own, and NCCL joins them; on one they share it.
    yield Case(name="nccl", gpus=2, settings={"weight_transfer": "nccl"})
    if hardware.gpus < 2:
        yield Case(name="ipc", gpus=1, settings={"weight_transfer": "ipc"})
    yield Case(name="colocated", gpus=1, settings={"colocate": True})
    yield Case(name="tensor parallel", gpus=3, settings={"tensor_parallel_size": 2})


def make_config(model: str, case: Case, hardware: Hardware) -> DAPOConfig:
    """Small batches of arithmetic in words, on as many GPUs as there are."""
    engine_gpus = case.settings.get("tensor_parallel_size", 1)
    apart = hardware.gpus >= engine_gpus + 1
    on_gpu = case.gpus > 0
    config = (
        DAPOConfig()
        .environment("rllib_dapo/Arithmetic-v0", env_config={"max_operand": 49})
        .language_model(model, dtype="bfloat16" if on_gpu else "float32")
        .rollout(max_prompt_tokens=128, max_response_tokens=256 if on_gpu else 8)
        .training(
            prompts_per_step=32 if on_gpu else 4,
            group_size=8,
            minibatch_size=64 if on_gpu else 16,
            max_tokens_per_microbatch=8192 if on_gpu else 1024,
        )
        .dynamic_sampling(enabled=False)
        .overlong(buffer_tokens=0)
        .env_runners(num_env_runners=1)
        .learners(num_learners=1)
        .fault_tolerance(restart_failed_env_runners=False)
    )
    if on_gpu and not case.settings.get("colocate"):  # with it, shares follow from it
        config.env_runners(num_gpus_per_env_runner=engine_gpus if apart else ENGINE_SHARE)
        config.learners(num_gpus_per_learner=1 if apart else LEARNER_SHARE)
        if not apart:
            config.rollout(engine_kwargs={"gpu_memory_utilization": ENGINE_SHARE})
    for name, value in case.settings.items():
        setattr(config, name, value)
    return config


def try_case(model: str, case: Case, hardware: Hardware) -> dict[str, Any]:
    """Trains a few iterations; the figures of those after the warm-up."""
    from rllib_dapo.learner.learner_group import ask_learners

    config = make_config(model, case, hardware)
    plan = make_plan(config, model_shape(model), hardware, response_tokens=None)
    algo = config.build_algo()  # the guard at the start compares engine and Learner
    try:
        results = [algo.train() for _ in range(ITERATIONS)][WARM_UP:]
        (peak,) = ask_learners(algo.learner_group, lambda learner: device_peak())
        turns = device_turns(algo) if config.colocate else {}
    finally:
        algo.stop()

    def mean(*path: str) -> float:
        values: list[Any] = results
        for name in path:
            values = [value[name] for value in values]
        return sum(map(float, values)) / len(values)

    learner = ("learners", "default_policy")
    return {
        "gap_mean_nats": mean(*learner, "sampler_logprob_gap_mean"),
        "sampled_tokens_per_s": mean("env_runners", "rollout_tokens_per_second"),
        "trained_tokens_per_s": mean(*learner, "trained_tokens") / mean("seconds", "update"),
        "weights_s": mean("seconds", "weight_sync"),
        "planned_weights_s": plan.seconds.transfer if plan.seconds else None,
        "learner_peak_gib": peak / GIB if peak else None,
        "planned_learner_gib": plan.learner.total / GIB,
        **turns,
    }


def device_turns(algo: DAPO) -> dict[str, Any]:
    """What is in use of a shared GPU in each turn, in GiB, and what was planned for a Learner's."""
    awake = used_gib(algo)
    algo._turns.to_learners()
    training = used_gib(algo)
    algo._sync_weights()
    return {
        "used_while_sampling_gib": awake,
        "used_when_training_begins_gib": training,
        "used_while_sampling_again_gib": used_gib(algo),
        "planned_at_rest_gib": (algo.config.learner_bytes_at_rest or 0.0) / GIB,
    }


def used_gib(algo: DAPO) -> float | None:
    """What all processes together use of the first Learner's GPU; None without one."""
    from rllib_dapo.learner.learner_group import ask_learners

    def used(learner: Any) -> float | None:
        import torch

        if not torch.cuda.is_available():
            return None
        free, total = torch.cuda.mem_get_info()
        return float(total - free) / GIB

    return ask_learners(algo.learner_group, used)[0]


def device_peak() -> float:
    """Most bytes that torch has held on this process's GPU; 0 where it has none."""
    import torch

    return float(torch.cuda.max_memory_reserved()) if torch.cuda.is_available() else 0.0


def default_model() -> str:
    """A model of half a billion parameters where the hub can be reached, else the built-in one."""
    from rllib_dapo.models import load_config

    try:
        load_config("Qwen/Qwen2.5-0.5B-Instruct")
    except ValueError:
        return "smollm2-135m"
    return "Qwen/Qwen2.5-0.5B-Instruct"


def report_case(case: Case, figures: dict[str, Any]) -> None:
    """Prints a case's figures."""
    print(f"\n{case.name}", flush=True)
    for name, value in figures.items():
        print(f"  {name:24} {'-' if value is None else format(value, '.4g')}", flush=True)


def main() -> None:
    """Tries every case that this machine can run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", help="a model's folder, a hub name or a built-in model")
    parser.add_argument("--cpu", action="store_true", help="without a GPU, to see that it runs")
    options = parser.parse_args()

    hardware = this_machine()
    if not options.cpu and not hardware.gpus:
        print("skipped: no GPU here (nvidia-smi finds none); --cpu runs the same steps without")
        return

    import ray

    ray.init(include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    model = options.model or ("tiny" if options.cpu else default_model())
    print(f"{model} on {hardware.text}", flush=True)

    page: list[dict[str, Any]] = []
    failed = False
    for case in cases(hardware, cpu=options.cpu):
        figures: dict[str, Any] = {}
        reason = case.reason_to_skip(hardware)
        if not reason:
            try:
                figures = try_case(model, case, hardware)
                report_case(case, figures)
            except Exception as error:  # one case that fails leaves the others their turn
                reason, failed = f"failed: {' '.join(str(error).split())[:300]}", True
        if reason:
            print(f"\n{case.name}\n  {reason}", flush=True)
        page.append({**asdict(case), "reason": reason, **figures})

    ray.shutdown()
    if not options.cpu:
        record = {"name": "gpu", "model": model, "cases": page, "machine": machine()}
        (RESULTS / "gpu.json").write_text(json.dumps(record, indent=2) + "\n")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
