"""The folder of an evaluation, and whether an interrupted evaluation may continue in it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from hashlib import blake2b
from pathlib import Path
from typing import Any

from rllib_dapo.checkpoint.json_values import import_name
from rllib_dapo.config.dapo_config import DAPOConfig
from rllib_dapo.config.setting import attribute_of, section_kinds
from rllib_dapo.evaluation.atomic_files import write_text
from rllib_dapo.findings import SettingsError
from rllib_dapo.rollout.sampling_settings import evaluation_options

SETTINGS = "settings.json"

# Rollout settings that an evaluation replaces by its own, or that only order its work.
_WITHOUT_EFFECT = ("temperature", "top_p", "sampling", "max_groups_in_flight")

# How much of a file of weights goes into the fingerprint.
_SAMPLED_BLOCKS, _BLOCK_BYTES = 64, 2**16


def open_folder(folder: Path, settings: Mapping[str, Any]) -> bool:
    """Creates the folder, or checks that what it holds may be continued.

    Args:
        folder: Folder of the evaluation.
        settings: Everything that the responses depend on, from `settings_of_responses`.

    Returns:
        Whether the folder held an evaluation with these settings already.

    Raises:
        SettingsError: If it holds anything else; one line.
    """
    file = folder / SETTINGS
    settings = json.loads(json.dumps(settings, default=_named))

    if not file.is_file():
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise SettingsError(
                f"--output {folder} exists already and holds no evaluation: name another folder"
            )
        write_text(json.dumps(settings, indent=2) + "\n", file)
        return False

    try:
        previous = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise SettingsError(
            f"--output {folder}: its {SETTINGS} is not valid JSON: name another folder"
        ) from error

    before, now = _flat(previous), _flat(settings)
    for name in [*now, *before]:
        if before.get(name) != now.get(name):
            raise SettingsError(
                f"--output {folder} holds an evaluation with {name}={before.get(name)!r}, and this "
                f"one has {now.get(name)!r}: name another folder"
            )
    return True


def settings_of_responses(
    config: DAPOConfig,
    *,
    model: str,
    weights: str,
    weights_version: int,
    part_size: int,
    data_sets: Mapping[str, Mapping[str, Any]],
) -> dict[str, Any]:
    """Everything that the responses of an evaluation depend on, as plain values.

    The number of EnvRunners is not among it: they only share the work.

    Args:
        config: Configuration that all data sets share.
        model: The model or checkpoint as the user named it.
        weights: Fingerprint from `weights_fingerprint`.
        weights_version: Version of the weights in their run, which the draws depend on.
        part_size: Number of problems that are sampled together.
        data_sets: Environment and fingerprint of each data set.
    """
    rollout = {
        name: getattr(config, attribute_of(f"rollout.{name}", DAPOConfig))
        for name in section_kinds(DAPOConfig, "rollout")
    }
    return {
        "model": model,
        "weights": weights,
        **({"weights_version": weights_version} if weights_version else {}),
        "dtype": config.model_dtype,
        "k": config.evaluation_samples_per_prompt,
        "temperature": config.evaluation_temperature,
        "top_p": config.evaluation_top_p,
        "sampling": evaluation_options(config).given(),
        "seed": config.seed or 0,
        "problems_per_part": part_size,
        "rollout": {name: value for name, value in rollout.items() if name not in _WITHOUT_EFFECT},
        "datasets": data_sets,
    }


def weights_fingerprint(model: Path | str) -> str:
    """Digest that differs between different weights, even if they replace each other in a folder.

    Of each file only blocks are read, spread evenly: training changes weights everywhere, and a
    large model takes minutes to read.

    Args:
        model: Folder of a model, of which configuration and files of weights are read; or a hub
            name, which is returned as it is.
    """
    if isinstance(model, str):
        return model

    digest = blake2b(digest_size=16)
    for path in sorted((*model.glob("*.safetensors"), *model.glob("*.bin"), model / "config.json")):
        size = path.stat().st_size
        digest.update(f"{path.name} {size}\n".encode())

        with path.open("rb") as file:
            for start in sorted({size * i // _SAMPLED_BLOCKS for i in range(_SAMPLED_BLOCKS)}):
                file.seek(start)
                digest.update(file.read(_BLOCK_BYTES))
    return digest.hexdigest()


def _named(value: Any) -> str:
    """A text for what JSON does not have, the same in every process."""
    return import_name(value) or str(value)


def _flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings by their dotted names."""
    flat: dict[str, Any] = {}
    for name, value in tree.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = value
    return flat
