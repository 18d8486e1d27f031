"""Weights under ZeRO-3 before DeepSpeed's engine is there: sharded as they are read, and gathered.

DeepSpeed shards a model that it is given whole, and has hooks that gather its weights once an
engine owns it. Here is what comes before.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import deepspeed
import torch
from torch import Tensor, nn

from rllib_dapo.learner.collectives import gather

if TYPE_CHECKING:
    from transformers import PreTrainedModel


# Weights from this size on are worth a call that gives their memory back.
TRIM_BYTES = 2**20


class ZeroSharder:
    """Shards each weight over all Learners as soon as it has been read.

    All Learners read all of a model's files, in the same order: sharding is a call that all of them
    must make.
    """

    def __init__(self, settings: dict[str, Any]) -> None:
        """Nothing is sharded yet.

        Args:
            settings: Configuration for `deepspeed.initialize`, at stage 3.
        """
        self._settings = settings
        self._half = bool(settings.get("bf16", {}).get("enabled"))
        self._first: Any = None  # a parameter, to which DeepSpeed adds methods

    def take(self, weight: nn.Parameter) -> None:
        """Leaves this Learner its part of a weight, in the type that DeepSpeed trains.

        Args:
            weight: A whole parameter.
        """
        if self._half and weight.is_floating_point():
            weight.data = weight.data.bfloat16()

        if self._first is None:
            self._first = weight
            deepspeed.zero.Init(
                module=nn.ParameterList([weight]), config_dict_or_path=self._settings
            )
        else:
            self._first.convert_to_zero_parameters([weight])
        if _whole_bytes(weight) >= TRIM_BYTES:
            _give_back_freed_memory()

    def are_equal(self, one: nn.Parameter, other: nn.Parameter) -> bool:
        """Whether two weights have the same numbers on all Learners.

        Args:
            one: A sharded weight.
            other: Another one.
        """
        return all(gather(torch.equal(_shard(one), _shard(other))))


def _whole_bytes(weight: Any) -> int:
    """Bytes of a sharded weight on all Learners together."""
    return int(weight.ds_numel * weight.element_size())


def _shard(weight: Any) -> Tensor:
    """This Learner's part of a sharded weight."""
    part: Tensor = weight.ds_tensor
    return part


def _give_back_freed_memory() -> None:
    """Has the C library return what is free to the system, where it is glibc.

    It keeps freed blocks between others, and the shards that stay lie between the whole weights
    that go: without this a Learner keeps up to the whole model's size.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def move_buffers(model: PreTrainedModel) -> None:
    """Puts a model's buffers, which DeepSpeed does not shard, where its weights will be.

    Args:
        model: A model whose weights are sharded.
    """
    device = next(model.parameters()).device
    for buffer in model.buffers():
        buffer.data = buffer.data.to(device)


@contextmanager
def gathered_in_turn(model: nn.Module) -> Iterator[None]:
    """For as long as it lasts, a sharded model can be called; each module's weights come and go.

    It computes in float32 or wider, whatever the type of the shards: what a probe of the model
    finds must not drown in rounding. All Learners must call it alike.

    Args:
        model: A model that no DeepSpeed engine owns yet. Its weights may be whole, too.
    """
    with ExitStack() as hooks:
        for module in model.modules():
            weights = [p for p in module.parameters(recurse=False) if hasattr(p, "ds_id")]
            if weights:
                gathered = _Gathered(weights)
                for handle in (
                    module.register_forward_pre_hook(gathered.gather),
                    module.register_forward_hook(gathered.release, always_call=True),
                ):
                    hooks.callback(handle.remove)
        yield


class _Gathered:
    """Hooks of one module: its own weights are there from its call to its return."""

    def __init__(self, weights: list[nn.Parameter]) -> None:
        self._weights = weights
        self._gathered: list[Tensor] = []
        self._here = ExitStack()

    def gather(self, *_: Any) -> None:
        self._here.enter_context(deepspeed.zero.GatheredParameters(self._weights))
        self._gathered = [weight.data for weight in self._weights]
        for weight in self._weights:
            if weight.is_floating_point():
                weight.data = weight.data.to(torch.promote_types(weight.dtype, torch.float32))

    def release(self, *_: Any) -> None:
        for weight, tensor in zip(self._weights, self._gathered, strict=True):
            weight.data = tensor
        self._gathered = []
        self._here.close()
        if sum(map(_whole_bytes, self._weights)) >= TRIM_BYTES:
            _give_back_freed_memory()
