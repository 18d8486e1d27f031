"""Peak memory of two ZeRO-3 Learners while they load and save a model, against the bare libraries.

The bare side is what the libraries' pages show: `from_pretrained`, then `deepspeed.initialize`.
Ours is `DeepSpeedLearner.build`. Both read the same float32 file of random weights, and each figure
comes from two fresh processes.

What is measured is `VmHWM`, the kernel's mark of the highest resident size of a process, set back
before each part. It counts pages of mapped files, as a container's limit does until they are given
back. The figure is of the Learner that needs more of it. Loading ends when the last weight is
sharded: the optimizer, which both sides make alike, comes afterwards.
"""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from common import Side, alternate, report

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import nn

LEARNERS, ROUNDS = 2, 3
# Of the bare side's peak; what a reference may add of its own size; and what gathering all weights
# may add of theirs, which is a piece of 128 MiB and the largest weight.
MOST_OF_BARE, MOST_OF_REFERENCE, MOST_OF_MODEL = 0.65, 0.5, 0.6
MIB = 2**20
# DeepSpeed's own bucket for gradients, 2 GB, is larger than this model.
ZERO3 = {"zero_optimization": {"stage": 3, "reduce_bucket_size": 10_000_000}}


def make_model(folder: Path) -> None:
    """Writes a Llama of 171 million random weights, and the tokenizer of the tiny model.

    Args:
        folder: An empty folder.
    """
    import torch
    from transformers import AutoModelForCausalLM, LlamaConfig

    from rllib_dapo.models.tiny import make_tokenizer

    config = LlamaConfig(
        vocab_size=8192,
        hidden_size=1024,
        intermediate_size=2816,
        num_hidden_layers=12,
        num_attention_heads=16,
        num_key_value_heads=16,
        tie_word_embeddings=False,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
    )
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    make_tokenizer().save_pretrained(folder)


# In a Learner's process


def status(name: str) -> float:
    """A figure of `/proc/self/status`, in MiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith(f"{name}:"))) / 1024


@contextmanager
def peak_of(part: str, figures: dict[str, float]) -> Iterator[None]:
    """Notes the resident size before a part, its peak during it, and the size afterwards."""
    Path("/proc/self/clear_refs").write_text("5")  # sets VmHWM back
    figures[f"{part}_before"] = status("VmRSS")
    yield
    figures[f"{part}_peak"] = status("VmHWM")
    figures[f"{part}_after"] = status("VmRSS")


def join(rank: int, address: str) -> None:
    """Makes the process group, as RLlib does for Learners."""
    import torch
    import torch.distributed as dist

    torch.set_num_threads(1)
    os.environ.update(RANK=str(rank), WORLD_SIZE=str(LEARNERS), LOCAL_RANK="0")
    dist.init_process_group("gloo", init_method=address, rank=rank, world_size=LEARNERS)

    import deepspeed

    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    deepspeed.init_distributed("gloo", auto_mpi_discovery=False)


def warm_up(folder: str) -> None:
    """Loads all code that either side needs, so that no side's peak has it."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    import rllib_dapo.learner.deepspeed_learner  # noqa: F401

    with torch.device("meta"):
        AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(folder))


def bare(folder: str, *, reference: bool) -> dict[str, Any]:
    """`from_pretrained`, then `deepspeed.initialize`; a whole reference beside it."""
    import deepspeed
    import torch
    from transformers import AutoModelForCausalLM

    settings = ZERO3 | {
        "train_micro_batch_size_per_gpu": 1,
        "gradient_accumulation_steps": 1,
        "train_batch_size": LEARNERS,
        "steps_per_print": 2**62,
    }
    figures: dict[str, float] = {}

    def load() -> nn.Module:
        return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)

    with peak_of("load", figures):
        model = load()
        beside = load().requires_grad_(False) if reference else None
        # The part of `deepspeed.initialize` that shards; the optimizer is the same on both sides.
        engine, *_ = deepspeed.initialize(model=model, config=settings)
        total = sum(float(p.sum()) for p in beside.parameters()) if beside is not None else 0.0
    return figures | {"checksum": checksum(engine.module), "reference_sum": total}


def ours(folder: str, *, reference: bool) -> dict[str, Any]:
    """`DeepSpeedLearner.build`, and what `save_rank` and a transfer of weights gather."""
    import torch

    from rllib_dapo.learner.deepspeed_learner import DeepSpeedLearner
    from rllib_dapo.learner.weight_source import LearnerWeights
    from rllib_dapo.weight_transfer.object_store import PIECE_BYTES
    from rllib_dapo.weight_transfer.pieces import WeightPieces

    config, spec = learner_config(folder, reference=reference)
    figures: dict[str, float] = {}

    class Watched(DeepSpeedLearner):
        """Takes the peak of loading before the optimizer is made."""

        def _make_module(self) -> Any:
            with peak_of("load", figures):
                return super()._make_module()

    learner = Watched(config=config, module_spec=spec)
    learner.build()

    with tempfile.TemporaryDirectory() as checkpoint, peak_of("save", figures):
        learner._write_model(Path(checkpoint))
    with peak_of("hand_over", figures):
        source = LearnerWeights(learner.engine_weights, dtype=torch.float32, converted=False)
        for _piece in WeightPieces(source, max_bytes=PIECE_BYTES):
            pass  # each goes into the object store, and out of this process
    found = figures | {"checksum": checksum(learner.policy_module.lm), "reference_sum": 0.0}
    learner.shutdown()
    return found


def learner_config(folder: str, *, reference: bool) -> tuple[Any, Any]:
    """A configuration of two ZeRO-3 Learners, and the specification of their module."""
    from ray.rllib.core import DEFAULT_MODULE_ID

    from rllib_dapo import DAPOConfig
    from rllib_dapo.envs import TextSpace

    config = (
        DAPOConfig()
        .environment("rllib_dapo/Arithmetic-v0")
        .language_model(folder, dtype="float32", num_threads=1)
        .rollout(engine="transformers", max_prompt_tokens=8, max_response_tokens=8)
        .learners(num_learners=LEARNERS)
        .kl(coefficient=0.1 if reference else 0.0)
        .deepspeed(ZERO3)
    )
    spaces = {DEFAULT_MODULE_ID: (TextSpace(100), TextSpace(100))}
    return config, config.get_multi_rl_module_spec(spaces=spaces)


def checksum(model: nn.Module) -> int:
    """A number that changes with any weight that this Learner holds."""
    from rllib_dapo.learner.rank_checkpoint import fingerprint

    return fingerprint(getattr(p, "ds_tensor", p) for p in model.parameters())


def as_learner(rank: int, address: str, side: str, folder: str, reference: bool) -> dict[str, Any]:
    """Runs one side in this process."""
    join(rank, address)
    return {"ours": ours, "bare": bare}[side](folder, reference=reference)


# In the process that these are copies of, which loads all code and no model


def in_processes(side: str, folder: Path, *, reference: bool = False) -> dict[str, float]:
    """Runs one side in two fresh processes, which have all code already.

    Args:
        side: `ours` or `bare`.
        folder: Folder of the model.
        reference: Whether the Learners hold a reference, too.

    Returns:
        Each figure of the Learner that needs more.
    """
    fork = multiprocessing.get_context("fork")
    with tempfile.TemporaryDirectory() as meeting, fork.Pool(LEARNERS) as learners:
        address = f"file://{meeting}/group"
        tasks = [(rank, address, side, str(folder), reference) for rank in range(LEARNERS)]
        found = learners.starmap(as_learner, tasks, chunksize=1)

    CHECKSUMS.add(tuple(figures.pop("checksum") for figures in found))
    return {name: max(figures[name] for figures in found) for name in found[0]}


CHECKSUMS: set[tuple[int, ...]] = set()


def main() -> None:
    """Runs both sides in turn, then both with a reference."""
    figures: dict[str, list[dict[str, float]]] = {"ours": [], "bare": []}

    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        command = [sys.executable, str(Path(__file__).resolve()), "model", str(folder)]
        subprocess.run(command, check=True, capture_output=True)
        size = (folder / "model.safetensors").stat().st_size
        print(f"a model of {size / 1e6:.0f} MB", flush=True)
        warm_up(str(folder))

        def peak(side: str) -> float:
            figures[side].append(in_processes(side, folder))
            return figures[side][-1]["load_peak"]

        peaks, bare_peaks = alternate(lambda: peak("ours"), lambda: peak("bare"), rounds=ROUNDS)
        with_reference = {
            side: in_processes(side, folder, reference=True) for side in ("ours", "bare")
        }

    assert len(CHECKSUMS) == 1, "the two sides do not hold the same weights"
    mine = figures["ours"][-1]
    added = with_reference["ours"]["load_peak"] - mine["load_peak"]
    report(
        "learner_memory",
        ours=Side(label="DeepSpeedLearner.build, loading", unit="MiB", values=peaks),
        other=Side(label="from_pretrained and deepspeed.initialize", unit="MiB", values=bare_peaks),
        target=round(1 / MOST_OF_BARE, 3),
        higher_is_better=False,
        also={
            "a reference adds, of its size": (added * MIB / size, MOST_OF_REFERENCE),
            **{
                f"{part} adds, of the model's size": (
                    (mine[f"{part}_peak"] - mine[f"{part}_before"]) * MIB / size,
                    MOST_OF_MODEL,
                )
                for part in ("save", "hand_over")
            },
        },
        model_bytes=size,
        learners=LEARNERS,
        last_round={side: found[-1] for side, found in figures.items()},
        with_reference=with_reference,
    )


if __name__ == "__main__":
    os.environ["DS_ACCELERATOR"] = "cpu"
    if len(sys.argv) == 1:
        main()
    elif sys.argv[1] == "model":
        make_model(Path(sys.argv[2]))
