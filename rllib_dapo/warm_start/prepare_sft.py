"""Everything that `rllib-dapo sft` checks and decides before a model is loaded."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rllib_dapo.findings import SettingsError, one_line
from rllib_dapo.learner.adapter_folder import ADAPTER_CONFIG
from rllib_dapo.model_check.lora_modules import IS_ADAPTER
from rllib_dapo.model_check.sizes import position_limit
from rllib_dapo.models import (
    GENERATION_CONFIG,
    load_config,
    load_tokenizer,
    model_file,
    resolve_model,
)
from rllib_dapo.models.supervised_tokens import end_of_turn_id
from rllib_dapo.warm_start.answer_records import answer_records
from rllib_dapo.warm_start.records import read_records
from rllib_dapo.warm_start.sft_data import SFTData, encode_records
from rllib_dapo.warm_start.sft_settings import SFTSettings
from rllib_dapo.warm_start.sft_steps import count_steps

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedTokenizerBase

    from rllib_dapo.config.dapo_config import DAPOConfig


@dataclass(frozen=True, kw_only=True, slots=True)
class PreparedSFT:
    """Supervised training that is ready to start.

    Attributes:
        settings: What was asked for.
        config: The configuration of the Learners, checked.
        data: The records as tokens.
        steps: Number of optimizer steps.
        notes: What the user should know before it starts, one line each.
    """

    settings: SFTSettings
    config: DAPOConfig
    data: SFTData
    steps: int
    notes: tuple[str, ...]


def prepare_sft(
    settings: SFTSettings, *, say: Callable[[str], None] = lambda line: None
) -> PreparedSFT:
    """Reads and checks all records, and everything else that can be known to go wrong.

    Args:
        settings: From `read_sft`.
        say: Receives lines about progress.

    Raises:
        SettingsError: For the first finding; one line.
    """
    refuse_folder(settings.folder)
    if settings.like is None:
        file = read_records(settings.file)
    else:
        file = answer_records(settings.file, settings.like)
    asked = settings.config

    try:
        model = str(resolve_model(settings.model))
        if (Path(model) / ADAPTER_CONFIG).is_file():
            raise ValueError(IS_ADAPTER)
        tokenizer = load_tokenizer(model, trust_remote_code=asked.trust_remote_code)
        of_model = load_config(model, trust_remote_code=asked.trust_remote_code)
        end_id = end_of_turn_id(tokenizer, stop_ids(model, of_model, tokenizer))
    except (OSError, ValueError) as error:
        raise SettingsError(f"--model {settings.model}: {one_line(error)}") from error

    say(f"encoding {len(file.records)} records")
    limit = position_limit(of_model.get_text_config().to_dict())
    data = encode_records(
        file.records,
        tokenizer,
        path=settings.file,
        end_id=end_id,
        system_prompt=asked.system_prompt,
        max_tokens=_least(settings.max_tokens, limit),
        overlong=settings.overlong,
        heldout_fraction=settings.heldout_fraction,
    )

    steps = count_steps(len(data.train), epochs=settings.epochs, batch_size=asked.minibatch_size)
    config = settings.config_for(
        steps=steps, longest_prompt=data.longest_prompt, longest=data.longest
    )
    return PreparedSFT(
        settings=settings,
        config=config,
        data=data,
        steps=steps,
        notes=tuple(_notes(settings, data, file.unused)),
    )


def refuse_folder(folder: Path) -> None:
    """Refuses a folder for the model that cannot be written, or has something in it already.

    Args:
        folder: The folder.

    Raises:
        SettingsError: With the reason; one line.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        what = "has files already" if folder.is_dir() else "is a file"
        raise SettingsError(f"FOLDER {folder} {what}: name a new or empty folder")
    there = next(parent for parent in folder.parents if parent.exists())
    if not there.is_dir() or not os.access(there, os.W_OK):
        raise SettingsError(f"FOLDER {folder}: no permission to write to {there}")


def stop_ids(
    model: str, config: PreTrainedConfig, tokenizer: PreTrainedTokenizerBase
) -> frozenset[int]:
    """Returns the tokens at which engines end a response of a model.

    Args:
        model: Folder or hub name.
        config: Its configuration.
        tokenizer: Its tokenizer.

    Raises:
        ValueError: If its generation configuration cannot be read.
    """
    file = model_file(model, GENERATION_CONFIG)
    recommended = json.loads(Path(file).read_text(encoding="utf-8")) if file is not None else {}
    ids = recommended.get("eos_token_id", getattr(config, "eos_token_id", None))
    listed = [ids] if isinstance(ids, int) else list(ids or [])
    if not listed and tokenizer.eos_token_id is not None:
        listed = [int(tokenizer.eos_token_id)]
    return frozenset(listed)


def opening_lines(prepared: PreparedSFT) -> list[str]:
    """Says what is about to be learnt, and where the model will be."""
    settings, config, data = prepared.settings, prepared.config, prepared.data
    what = "an adapter of " if config.lora else ""
    return [
        *prepared.notes,
        f"sft: {what}{settings.model} on {len(data.train)} records ({data.loss_tokens} tokens with "
        f"loss), {len(data.heldout)} held out: {settings.epochs} "
        f"epoch{'s' * (settings.epochs > 1)}, {prepared.steps} steps of about "
        f"{config.minibatch_size} records, lr {config.lr}, {config.lr_schedule}, warm-up "
        f"{config.warmup_steps} steps, seed {config.seed}",
        f"model: {settings.folder}",
    ]


def _notes(settings: SFTSettings, data: SFTData, unused: tuple[str, ...]) -> list[str]:
    notes = []
    if unused:
        notes.append(f"{settings.file.name}: not used: {', '.join(unused)}")
    if data.cut:
        notes.append(f"{data.cut} records are cut at their end (--overlong cut)")
    if data.skipped:
        notes.append(f"{data.skipped} records are left out as too long (--overlong skip)")
    if settings.heldout_fraction and not data.heldout:
        notes.append(
            f"none of {len(data.train)} records is held out (--heldout "
            f"{settings.heldout_fraction}), so there is no held-out loss"
        )
    return notes


def _least(asked: int | None, limit: int | None) -> int | None:
    return min((n for n in (asked, limit) if n is not None), default=None)
