"""What `rllib-dapo sft` is asked to do, as the configuration of its Learners."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rllib_dapo.config.dapo_config import DAPOConfig
from rllib_dapo.core.supervised import negative_log_likelihood
from rllib_dapo.findings import SettingsError, one_line
from rllib_dapo.run.layers import Layer, Override, put_overrides, read_overrides
from rllib_dapo.run.origins import make_origins
from rllib_dapo.run.preflight import (
    RLLIB_AFTERWORD,
    check_placement,
    machine_resources,
    uses_cluster,
)
from rllib_dapo.run.run_file import RunFile, take_apart
from rllib_dapo.run.run_settings import ready
from rllib_dapo.warm_start.sft_data import OVERLONG, Overlong

# Sections that say something about supervised training, and of `training` the settings that do.
SECTIONS = ("language_model", "training", "learners", "deepspeed", "resources", "debugging")
TRAINING = (
    "optimizer",
    "lr",
    "warmup_steps",
    "lr_schedule",
    "lr_decay_updates",
    "lr_end_fraction",
    "weight_decay",
    "adam_betas",
    "adam_epsilon",
    "grad_clip",
    "max_skipped_updates",
    "minibatch_size",
    "update_stall_seconds",
    "max_tokens_per_microbatch",
    "max_shared_row_tokens",
)
# The options of the command that are settings.
OPTIONS = {
    "training.minibatch_size": "--batch-size",
    "training.lr": "--lr",
    "debugging.seed": "--seed",
}
_DEFAULTS: Mapping[str, Any] = {"lr": 1e-5, "minibatch_size": 32, "lr_schedule": "cosine"}
WARMUP_SHARE = 0.03  # of all optimizer steps, where `training.warmup_steps` is not given


@dataclass(frozen=True, kw_only=True, slots=True)
class SFTSettings:
    """All that was asked for.

    Attributes:
        file: The records.
        folder: Folder of the model that is made.
        model: The model as it was named.
        run_file: The settings of the Learners.
        given: Dotted names of the settings that somebody has given.
        epochs: How often each record is learnt.
        heldout_fraction: Share of the prompts that is held out.
        max_tokens: Longest record in tokens; None for what the model can take.
        overlong: What is done with longer ones.
        merge: Whether a whole model is written where an adapter was trained.
        dtype: Type of the weights that are written, as `export_checkpoint` takes it.
        like: A run file: the file holds problems, which are posed as it poses them, with their
            answers as responses. None: the file holds records.
    """

    file: Path
    folder: Path
    model: str
    run_file: RunFile
    given: frozenset[str]
    epochs: int
    heldout_fraction: float
    max_tokens: int | None
    overlong: Overlong
    merge: bool
    dtype: str
    like: Path | None = None

    @property
    def config(self) -> DAPOConfig:
        """The configuration before lengths and the number of steps are known."""
        return self.run_file.configuration()

    def config_for(self, *, steps: int, longest_prompt: int, longest: int) -> DAPOConfig:
        """Returns the configuration of the Learners, checked.

        Args:
            steps: Number of optimizer steps.
            longest_prompt: Length of the longest prompt, in tokens.
            longest: Length of the longest record, prompt included, in tokens.

        Raises:
            SettingsError: For the first finding; one line.
        """
        config = self.config
        config.rollout(
            engine="transformers",  # none is started; vLLM would want to be installed
            # Their sum is what the model must have room for. The longest prompt may well have a
            # short response.
            max_prompt_tokens=longest_prompt,
            max_response_tokens=longest - longest_prompt,
        )
        config.training(objective=negative_log_likelihood, loss_aggregation="token_mean")
        # As many responses as a mini-batch takes: nothing is planned by these two.
        config.training(prompts_per_step=config.minibatch_size, group_size=2)
        config.overlong(buffer_tokens=0)
        config.env_runners(num_env_runners=0)

        if "training.warmup_steps" not in self.given:
            config.training(warmup_steps=math.floor(WARMUP_SHARE * steps))
        if config.lr_schedule != "constant" and config.lr_decay_updates is None:
            # The last step of the warm-up is the first one at the full rate.
            before = max(0, math.ceil(config.warmup_steps) - 1)
            config.training(lr_decay_updates=max(1, steps - before))

        try:
            config.copy(copy_frozen=False).validate()
        except (ValueError, TypeError) as error:
            finding = one_line(error).partition(RLLIB_AFTERWORD)[0].strip()
            raise SettingsError(self.run_file.origins.blame(finding)) from error
        if config.num_learners > 0:
            check_placement(config, {} if uses_cluster() else machine_resources())
        return config


def read_sft(
    *,
    file: Path,
    folder: Path,
    model: str,
    overrides: Sequence[str] = (),
    options: Mapping[str, Any] | None = None,
    epochs: int = 1,
    heldout_fraction: float = 0.05,
    max_tokens: int | None = None,
    overlong: str = "refuse",
    merge: bool = False,
    dtype: str = "float32",
    like: Path | None = None,
) -> SFTSettings:
    """Reads what is to be trained, and how. Nothing is loaded.

    Args:
        file: The records.
        folder: Folder for the model.
        model: Folder, hub name or name of a built-in model.
        overrides: Texts `dotted.name=value`, as after `--set`.
        options: Settings by dotted name; they win.
        epochs: See `SFTSettings`, as for the rest.
        heldout_fraction: In [0, 1).
        max_tokens: At least 2.
        overlong: One of `OVERLONG`.
        merge: Only with `language_model.lora`.
        dtype: Such as `float32`, or `original`.
        like: A run file; see `SFTSettings`.

    Raises:
        SettingsError: For the first finding on a name, the kind of a value, or a value; one line.
    """
    if epochs < 1:
        raise SettingsError(f"--epochs {epochs} must be at least 1")
    if not 0 <= heldout_fraction < 1:
        raise SettingsError(f"--heldout {heldout_fraction} must lie in [0, 1)")
    if max_tokens is not None and max_tokens < 2:
        raise SettingsError(f"--max-tokens {max_tokens} must be at least 2")
    if overlong not in OVERLONG:
        raise SettingsError(f"--overlong {overlong} must be one of {', '.join(OVERLONG)}")

    by_hand = [
        *read_overrides(overrides),
        *(
            Override(name=name, value=value, source=f"{OPTIONS[name]} {value}")
            for name, value in (options or {}).items()
        ),
    ]
    for override in by_hand:
        _refuse_without_part(override)
    tree = {"language_model": {"name": model}, "training": dict(_DEFAULTS)}
    tree = put_overrides(tree, by_hand)
    origins = make_origins([Layer(tree={}, source="sft")], by_hand)
    run_file = take_apart(ready(tree), name="sft", source="sft", origins=origins)
    if merge and not run_file.sections["language_model"].get("lora"):
        raise SettingsError(
            "--merge: a whole model is trained, not an adapter: leave it out, or set "
            "language_model.lora"
        )

    return SFTSettings(
        file=file.expanduser().absolute(),
        folder=folder.expanduser().absolute(),
        model=model,
        run_file=run_file,
        given=frozenset(override.name for override in by_hand),
        epochs=epochs,
        heldout_fraction=heldout_fraction,
        max_tokens=max_tokens,
        overlong=overlong,  # type: ignore[arg-type]  # one of its values, as was checked
        merge=merge,
        dtype=dtype,
        like=like,
    )


def _refuse_without_part(override: Override) -> None:
    section, _, name = override.name.partition(".")
    if override.name == "language_model.name":
        raise SettingsError(f"{override.source}: name the model with --model")
    if section not in SECTIONS:
        raise SettingsError(
            f"{override.source}: {section} has no part in supervised training; these have: "
            f"{', '.join(SECTIONS)}"
        )
    if section == "training" and name.partition(".")[0] not in TRAINING:
        raise SettingsError(
            f"{override.source}: {override.name} has no part in supervised training; of training "
            f"these have: {', '.join(TRAINING)}"
        )
