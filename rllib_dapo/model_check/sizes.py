"""Sizes that must fit: the tokenizer in the vocabulary, prompt and response in the positions.

They are read from the files themselves, so that a run can be refused before transformers is loaded,
which takes seconds.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rllib_dapo.model_check.model_report import ModelFinding

# Placeholders of other kinds of input that text models of a family keep in their tokenizers; no
# text has them.
_OTHER_INPUTS = re.compile("image|audio|video|vision", re.IGNORECASE)

FEWEST_POSITIONS = 64


@dataclass(frozen=True, kw_only=True, slots=True)
class Lengths:
    """How long sequences get.

    Attributes:
        max_prompt_tokens: `rollout.max_prompt_tokens`.
        max_response_tokens: `rollout.max_response_tokens`.
    """

    max_prompt_tokens: int
    max_response_tokens: int

    @property
    def total(self) -> int:
        """Longest sequence, in tokens."""
        return self.max_prompt_tokens + self.max_response_tokens


def check_sizes(model: Path | str, lengths: Lengths) -> list[ModelFinding]:
    """Checks sizes by the files of a model alone.

    Args:
        model: A model folder. For a hub name nothing is checked yet.
        lengths: How long sequences get.

    Returns:
        Findings on what the files say under their usual names; the check of the loaded model looks
        at everything again.
    """
    config = read_text_config(Path(model))
    findings = []
    if isinstance(config.get("vocab_size"), int):
        vocabulary = _read_vocabulary(Path(model) / "tokenizer.json")
        findings.append(check_vocabulary(vocabulary, config["vocab_size"]))
    if isinstance(config.get("max_position_embeddings"), int):
        findings.append(check_positions(config, lengths))
    return findings


def read_text_config(model: Path) -> dict[str, Any]:
    """Configuration of the text model in a folder, with the usual name for its positions.

    Args:
        model: A model folder.
    """
    given = _read_json(model / "config.json")
    config = {**given, **(given.get("text_config") or {})}
    if "n_positions" in config:
        config.setdefault("max_position_embeddings", config["n_positions"])
    return config


def position_limit(config: Mapping[str, Any]) -> int | None:
    """Number of tokens that a sequence may have, None where the model sets no limit.

    Args:
        config: Configuration of the text model.
    """
    longest = config.get("max_position_embeddings")
    if not isinstance(longest, int):
        return None  # no positions, or relative ones without end

    scaling = config.get("rope_parameters") or config.get("rope_scaling")
    kinds = [scaling, *scaling.values()] if isinstance(scaling, dict) else []
    return max([longest, *(_extended(kind, longest) for kind in kinds if isinstance(kind, dict))])


def _extended(scaling: Mapping[str, Any], longest: int) -> int:
    """Positions that a scaling of rotary embeddings reaches; 0 if it does not extend them."""
    kind = scaling.get("rope_type", scaling.get("type"))
    # These two extend the positions that the model has; others name those they started from.
    original = scaling.get("original_max_position_embeddings") or (
        longest if kind in ("linear", "dynamic") else 0
    )
    return int((scaling.get("factor") or 0) * original)


def check_vocabulary(vocabulary: Mapping[str, int], size: int) -> ModelFinding:
    """Every id that the tokenizer gives must have a row in the model's embeddings.

    Args:
        vocabulary: Tokens and their ids.
        size: Number of rows.
    """
    beyond = sorted(
        (index, token)
        for token, index in vocabulary.items()
        if index >= size and not _OTHER_INPUTS.search(token)
    )
    if not beyond:
        return ModelFinding(
            check="vocabulary",
            verdict="right",
            detail=f"{len(vocabulary)} tokens, {size} in the model",
        )

    index, token = beyond[0]
    return ModelFinding(
        check="vocabulary",
        verdict="refused",
        detail=f"the tokenizer has {len(beyond)} tokens that the model does not know, {token!r} "
        f"(id {index}) for one, but vocab_size={size}: take the tokenizer that belongs to the "
        "model, or enlarge its embeddings",
    )


def check_positions(config: Mapping[str, Any], lengths: Lengths | None) -> ModelFinding:
    """Prompt and response together must fit the positions.

    Args:
        config: Configuration of the text model.
        lengths: How long sequences get; None if that is not known yet.
    """
    limit = position_limit(config)
    if limit is None:
        return ModelFinding(check="positions", verdict="right", detail="the model sets no limit")
    if lengths is None and limit >= FEWEST_POSITIONS:
        return ModelFinding(
            check="positions",
            verdict="right",
            detail=f"{limit}, for rollout.max_prompt_tokens and rollout.max_response_tokens "
            "together",
        )
    if lengths is None:
        return ModelFinding(
            check="positions",
            verdict="refused",
            detail=f"max_position_embeddings={limit} leaves no room for a prompt and a response",
        )

    asked = (
        f"rollout.max_prompt_tokens={lengths.max_prompt_tokens} and "
        f"rollout.max_response_tokens={lengths.max_response_tokens}"
    )
    if lengths.total <= limit:
        return ModelFinding(
            check="positions", verdict="right", detail=f"{limit}, enough for {asked}"
        )
    return ModelFinding(
        check="positions",
        verdict="refused",
        detail=f"{asked} are {lengths.total} tokens together, but the model has {limit} positions: "
        "lower one of them",
    )


def _read_json(file: Path) -> dict[str, Any]:
    """A JSON file; empty where it is not there, or is not such a file: loading will say why."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _read_vocabulary(file: Path) -> dict[str, int]:
    """All tokens of a tokenizer's file, added ones too; none where it cannot be read."""
    from tokenizers import Tokenizer

    try:
        return Tokenizer.from_file(str(file)).get_vocab(with_added_tokens=True)
    except Exception:  # the library raises bare exceptions; loading will say why
        return {}
