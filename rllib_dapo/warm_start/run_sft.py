"""Supervised training by the Learners of DAPO, and the model folder that it leaves."""

from __future__ import annotations

import json
import logging
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ray
from ray.rllib.core import DEFAULT_MODULE_ID
from ray.rllib.core.learner.learner_group import LearnerGroup

from rllib_dapo.checkpoint.export import export_checkpoint
from rllib_dapo.envs import TextSpace
from rllib_dapo.learner.learner_group import ask_learners
from rllib_dapo.learner.node_folder import take_arrived
from rllib_dapo.learner.trained_model import write_trained_model
from rllib_dapo.metrics.metric_table import SKIPPED_IN_A_ROW
from rllib_dapo.model_check.check_model import ModelCheck
from rllib_dapo.ray_internals import start_ray
from rllib_dapo.run.durations import duration
from rllib_dapo.run.progress import LOG_EVERY_S
from rllib_dapo.warm_start.prepare_sft import PreparedSFT
from rllib_dapo.warm_start.sft_steps import learn, mean_loss, step_records

if TYPE_CHECKING:
    from rllib_dapo.config.dapo_config import DAPOConfig

RECORD = "rllib_dapo_sft.json"  # what the model's folder says of its training


@dataclass(frozen=True, kw_only=True, slots=True)
class SFTStep:
    """One optimizer step.

    Attributes:
        step: Its number, from 1.
        loss: Mean of `-log π` over the tokens with loss of its mini-batch, in nats.
        tokens: Number of these tokens.
        gradient_norm: Norm of the gradient before clipping.
    """

    step: int
    loss: float
    tokens: int
    gradient_norm: float


@dataclass(frozen=True, kw_only=True, slots=True)
class SFTResult:
    """What came of supervised training.

    Attributes:
        folder: Folder of the model.
        steps: The optimizer steps that were taken.
        skipped: Number of steps that were left out because the gradient was not finite.
        heldout: Steps done, and the held-out loss then; empty if nothing is held out.
        seconds: How long all steps took.
    """

    folder: Path
    steps: tuple[SFTStep, ...]
    skipped: int
    heldout: tuple[tuple[int, float], ...]
    seconds: float


def run_sft(prepared: PreparedSFT, *, say: Callable[[str], None]) -> SFTResult:
    """Trains, and writes the model's folder, whole or not at all.

    Args:
        prepared: From `prepare_sft`.
        say: Receives lines about progress.

    Raises:
        ValueError: If the check of the model refuses it; one line.
        RuntimeError: If the gradient stays infinite or NaN; one line.
    """
    with _learners(prepared.config) as (learner_group, config):
        trained = _train(learner_group, config, prepared, say)
        _write(learner_group, prepared, trained)
    return trained


@contextmanager
def _learners(config: DAPOConfig) -> Iterator[tuple[LearnerGroup, DAPOConfig]]:
    """The Learners, and the configuration to go on with once their model has been checked."""
    with ExitStack() as stack:
        model_check = ModelCheck(config)
        if config.num_learners > 0 and not ray.is_initialized():
            start_ray(logging_level=logging.ERROR, log_to_driver=False, include_dashboard=False)
            stack.callback(ray.shutdown)

        learner_group = config.build_learner_group(
            spaces={DEFAULT_MODULE_ID: (TextSpace(1), TextSpace(1))}
        )
        stack.callback(learner_group.shutdown)
        yield learner_group, model_check.compare(learner_group, config)


def _train(
    learner_group: LearnerGroup,
    config: DAPOConfig,
    prepared: PreparedSFT,
    say: Callable[[str], None],
) -> SFTResult:
    data, epochs, count = prepared.data, prepared.settings.epochs, prepared.steps
    progress = _StepProgress(count, say)
    steps: list[SFTStep] = []
    heldout: list[tuple[int, float]] = []
    skipped = 0
    seconds = 0.0

    def measure(done: int) -> None:
        if data.heldout:
            heldout.append((done, mean_loss(learner_group, data.heldout, config)))
            say(f"step {done} of {count}: held-out loss {heldout[-1][1]:.4f}")

    measure(0)
    batches = step_records(data.train, epochs=epochs, steps=count, seed=config.seed or 0)
    for number, records in enumerate(batches, start=1):
        started = time.perf_counter()
        figures = learn(learner_group, records, config)
        seconds += time.perf_counter() - started

        if "policy_loss" in figures:
            steps.append(_step(number, figures))
            progress(steps[-1], seconds)
        else:
            skipped += 1
            _check_skipped(figures, config)

        # After each epoch; mini-batches need not end where an epoch does.
        if number * epochs // count > (number - 1) * epochs // count:
            measure(number)

    return SFTResult(
        folder=prepared.settings.folder,
        steps=tuple(steps),
        skipped=skipped,
        heldout=tuple(heldout),
        seconds=seconds,
    )


def _step(number: int, figures: dict[str, float]) -> SFTStep:
    return SFTStep(
        step=number,
        loss=figures["policy_loss"],
        tokens=int(figures["trained_tokens"]),
        gradient_norm=figures["gradient_norm"],
    )


def _check_skipped(figures: dict[str, float], config: DAPOConfig) -> None:
    """A policy whose gradient stays infinite or NaN will not learn any more."""
    limit, in_a_row = config.max_skipped_updates, figures.get(SKIPPED_IN_A_ROW, 0)
    if limit is not None and in_a_row > limit:
        raise RuntimeError(
            f"the last {in_a_row:.0f} optimizer steps were left out, since their gradient was not "
            f"finite, and training.max_skipped_updates={limit}: lower training.lr={config.lr}"
        )


def _write(learner_group: LearnerGroup, prepared: PreparedSFT, trained: SFTResult) -> None:
    """Writes the model beside its folder and renames it: it is whole wherever it can be seen."""
    settings = prepared.settings
    folder = settings.folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    unfinished = folder.with_name(f".{folder.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)  # a killed process may have left it
    try:
        checkpoint = unfinished / "trained"
        checkpoint.mkdir(parents=True)
        here = ray.util.get_node_ip_address()
        ask_learners(learner_group, lambda learner: write_trained_model(learner, checkpoint, here))
        take_arrived(checkpoint)

        model = export_checkpoint(
            checkpoint, unfinished / "model", dtype=settings.dtype, merge=settings.merge
        )
        text = json.dumps(_record(prepared, trained), indent=1) + "\n"
        (model / RECORD).write_text(text, encoding="utf-8")
        model.replace(folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _record(prepared: PreparedSFT, trained: SFTResult) -> dict[str, Any]:
    settings, config, data = prepared.settings, prepared.config, prepared.data
    return {
        "rllib_dapo": version("rllib-dapo"),
        "file": str(settings.file),
        "model": settings.model,
        "settings": {
            "epochs": settings.epochs,
            "batch_size": config.minibatch_size,
            "lr": config.lr,
            "lr_schedule": config.lr_schedule,
            "warmup_steps": config.warmup_steps,
            "seed": config.seed,
            "heldout": settings.heldout_fraction,
            "max_tokens": settings.max_tokens,
            "overlong": settings.overlong,
            "system_prompt": config.system_prompt,
            "lora": config.lora,
            "num_learners": config.num_learners,
        },
        "records": {
            "train": len(data.train),
            "heldout": len(data.heldout),
            "cut": data.cut,
            "skipped": data.skipped,
            "loss_tokens": data.loss_tokens,
        },
        "steps": [asdict(step) for step in trained.steps],
        "skipped_steps": trained.skipped,
        "heldout_loss": [{"step": step, "loss": loss} for step, loss in trained.heldout],
        "seconds": trained.seconds,
    }


class _StepProgress:
    """Tells the first step, the last one, and one every few seconds."""

    def __init__(self, count: int, say: Callable[[str], None]) -> None:
        self._count, self._say = count, say
        self._told = 0.0

    def __call__(self, step: SFTStep, seconds: float) -> None:
        now = time.monotonic()
        if step.step not in (1, self._count) and now - self._told < LOG_EVERY_S:
            return
        self._told = now
        left = seconds / step.step * (self._count - step.step)
        self._say(
            f"step {step.step} of {self._count}: loss {step.loss:.4f}, "
            f"{seconds / step.step:.2f} s a step, {duration(left)} left"
        )
