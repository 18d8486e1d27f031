"""The folder of an evaluation, and whether an interrupted one may be gone on with in it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any

from rllib_dapo.config.dapo_config import DAPOConfig
from rllib_dapo.config.kinds import attribute_of
from rllib_dapo.evaluation.response_parts import Question, write_text
from rllib_dapo.findings import SettingsError
from rllib_dapo.run.section_checks import allowed_settings

SETTINGS = "settings.json"
_OF_TRAINING = ("temperature", "top_p", "max_groups_in_flight")
_SAMPLED_BLOCKS, _BLOCK_BYTES = 64, 2**16


def open_folder(folder: Path, settings: Mapping[str, Any]) -> bool:
    """Makes the folder, or goes on with what is in it.

    Args:
        folder: Of the evaluation.
        settings: All that the responses depend on, as plain values.

    Returns:
        Whether there was an evaluation with these settings.

    Raises:
        SettingsError: If there is anything else.
    """
    file = folder / SETTINGS
    settings = json.loads(json.dumps(settings, default=str))
    if not file.is_file():
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise SettingsError(
                f"--output {folder} is there already and holds no evaluation: name another folder"
            )
        write_text(json.dumps(settings, indent=2) + "\n", file)
        return False
    try:
        there = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise SettingsError(
            f"--output {folder}: its {SETTINGS} is no JSON: name another folder"
        ) from error
    before, now = _flat(there), _flat(settings)
    for name in [*now, *before]:
        if before.get(name) != now.get(name):
            raise SettingsError(
                f"--output {folder} holds an evaluation with {name}={before.get(name)!r}, and this one has "
                f"{now.get(name)!r}: name another folder"
            )
    return True


def settings_of(
    config: DAPOConfig,
    *,
    model: str,
    weights: str,
    part_size: int,
    questions: Mapping[str, Mapping[str, Any]],
) -> dict[str, Any]:
    """All that an evaluation's responses depend on. Not the number of EnvRunners, which only share the work.

    Args:
        config: With the environment of any of the data sets.
        model: As it was named.
        weights: From `weights_fingerprint`.
        part_size: Problems that are sampled together.
        questions: What each data set asks.
    """
    rollout = {
        name: getattr(config, attribute_of(f"rollout.{name}"))
        for name in allowed_settings("rollout")
    }
    return {
        "model": model,
        "weights": weights,
        "dtype": config.model_dtype,
        "k": config.evaluation_samples_per_prompt,
        "temperature": config.evaluation_temperature,
        "top_p": config.evaluation_top_p,
        "seed": config.seed or 0,
        "problems_per_part": part_size,
        "rollout": {name: value for name, value in rollout.items() if name not in _OF_TRAINING},
        "datasets": questions,
    }


def questions_fingerprint(questions: Sequence[Question]) -> str:
    """Tells lists of problems apart."""
    digest = blake2b(digest_size=16)
    for question in questions:
        for text in (str(question.seed), question.problem_id, question.prompt, question.answer):
            digest.update(text.encode("utf-8", "surrogatepass") + b"\0")
    return digest.hexdigest()


def weights_fingerprint(model: Path | str) -> str:
    """Tells models apart, also those that come to lie in one folder one after the other.

    Args:
        model: A folder: its configuration, and blocks of every file of weights, spread evenly. Or a
            hub name, which stands for itself.
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


def _flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in tree.items():
        flat |= (
            _flat(value, f"{prefix}{name}.")
            if isinstance(value, Mapping)
            else {f"{prefix}{name}": value}
        )
    return flat
