"""Writes what a checkpoint would have of a model, and reads it as a restore would."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from rllib_dapo.findings import one_line
from rllib_dapo.learner.adapter_folder import read_adapter
from rllib_dapo.learner.model_folder import read_weights
from rllib_dapo.model_check.model_report import ModelFinding
from rllib_dapo.models import load_config, load_tokenizer, resolve_model

if TYPE_CHECKING:
    from rllib_dapo.learner.module import CausalLMModule

# Above this size, only one weight is written: files of the others differ in their number alone.
MOST_BYTES = 2 * 2**30


def check_round_trip(module: CausalLMModule) -> ModelFinding:
    """Tries once what every checkpoint does, so that the first one cannot end a run.

    Args:
        module: A Learner's module.

    Returns:
        A finding on the model's weights (where these are whole and not too large) and files.
    """
    try:
        with tempfile.TemporaryDirectory() as folder:
            detail = _write_and_read(module, Path(folder))
    except Exception as error:  # whatever a checkpoint would have ended with
        return ModelFinding(
            check="checkpoint",
            verdict="refused",
            detail=f"it cannot be written and read again: {type(error).__name__}: "
            f"{one_line(error)[:200]}",
        )
    return ModelFinding(check="checkpoint", verdict="right", detail=detail)


def _write_and_read(module: CausalLMModule, folder: Path) -> str:
    if module.adapter is not None and not module.is_sharded:
        return _write_and_read_adapter(module, folder)
    own = module.lm.state_dict()
    size = sum(tensor.numel() * tensor.element_size() for tensor in own.values())
    is_whole = not module.is_sharded and size <= MOST_BYTES

    if is_whole:
        weights = dict(module.checkpoint_format.to_checkpoint(own.items()))
    else:
        weights = {"tried": torch.zeros(1)}
    module.write_model(folder, weights.items())
    trust_remote_code = module.model_config["trust_remote_code"]
    load_config(folder, trust_remote_code=trust_remote_code)
    _compare_template(module, folder)

    if not is_whole:
        return "its files are written and read; its weights are too large to be tried"
    read = module.checkpoint_format.from_checkpoint(read_weights(folder))
    for name, tensor in read.items():
        if not torch.equal(tensor, own[name].cpu()):
            raise ValueError(f"{name} is read otherwise than it was written")
    return f"{len(weights)} weights are written and read again, bit by bit"


def _compare_template(module: CausalLMModule, folder: Path) -> None:
    """The tokenizer that is written must render as the run's own does."""
    settings = module.model_config["tokenizer_settings"]
    own = load_tokenizer(resolve_model(str(module.model_config["name"])), **settings)
    written = load_tokenizer(folder, trust_remote_code=settings["trust_remote_code"])
    if written.chat_template != own.chat_template:
        raise ValueError("the chat template is read otherwise than it was written")


def _write_and_read_adapter(module: CausalLMModule, folder: Path) -> str:
    """The same of an adapter, which is all that a checkpoint has then."""
    assert module.adapter is not None
    own = dict(module.adapter.weights())
    module.write_model(folder, own.items())
    _compare_template(module, folder)
    _, read = read_adapter(folder)
    for name, tensor in read.items():
        if not torch.equal(tensor, own[name].cpu()):
            raise ValueError(f"{name} is read otherwise than it was written")
    return f"{len(own)} tensors of the adapter are written and read again, bit by bit"
