"""An adapter (LoRA) beside a frozen model, made by peft: its layers, its weights, and both as one.

Peft puts a layer with the thin matrices `A` and `B` around each linear layer, in place. The model's
class stays what it is. Names are those of the model before, and of peft's files.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from rllib_dapo.learner.forward import ForwardSettings, token_outputs
from rllib_dapo.models.lora_settings import (
    LoraSettings,
    adapted_modules,
    leaf_names,
    peft_names,
)

if TYPE_CHECKING:
    from transformers import PreTrainedModel

# Peft's name for the only adapter.
NAME = "default"

# Makes sharded parameters whole for a while, and says whether any was sharded.
Gather = Callable[[list[nn.Parameter]], AbstractContextManager[bool]]


def whole_already(parameters: list[nn.Parameter]) -> AbstractContextManager[bool]:
    """The `Gather` of Learners that hold whole weights."""
    return nullcontext(False)


@contextmanager
def _without_bitsandbytes() -> Iterator[None]:
    """Has peft take it that bitsandbytes is not there: no base is quantized here.

    To import it takes seconds of a core, as it then compiles functions.
    """
    name = "bitsandbytes"
    if name in sys.modules:
        yield
        return
    sys.modules[name] = None  # type: ignore[assignment]  # Python's own mark for "not to be found"
    try:
        yield
    finally:
        del sys.modules[name]


class LoraAdapter:
    """The adapter of a model: what is trained where `language_model.lora` is set."""

    def __init__(
        self, model: PreTrainedModel, settings: LoraSettings, *, seed: int, dtype: torch.dtype
    ) -> None:
        """Freezes a model and puts an adapter beside it, the same for the same seed.

        Args:
            model: A freshly loaded model, whole or sharded; it is changed in place.
            settings: The adapter's shape.
            seed: Seed of `A`; `B` is 0.
            dtype: Type of the adapter's weights.

        Raises:
            ValueError: If the model has not the layers that are to have an adapter.
        """
        self.settings = settings
        self.modules = adapted_modules(model, settings)
        model.requires_grad_(False)
        # On every Learner, whatever was drawn there before.
        with torch.random.fork_rng(), _without_bitsandbytes():
            from peft import LoraConfig, inject_adapter_in_model

            torch.manual_seed(seed)
            inject_adapter_in_model(
                LoraConfig(
                    r=settings.rank,
                    lora_alpha=settings.alpha,
                    use_rslora=settings.rslora,
                    target_modules=list(self.modules),
                    lora_dropout=0.0,
                    bias="none",
                ),
                model,
                adapter_name=NAME,
            )
        modules = dict(model.named_modules())
        # Not a part of any module: what is saved is the model's.
        self._layers: dict[str, Any] = {path: modules[path] for path in self.modules}
        for layer in self._layers.values():
            # Peft would cast, and so keep, every layer's input in the adapter's type.
            layer.cast_input_dtype_enabled = False
            for matrices in (layer.lora_A, layer.lora_B):
                matrices[NAME] = AdapterMatrix(matrices[NAME].weight.data.to(dtype))

    def parameters(self) -> list[nn.Parameter]:
        """`A` and `B` of every layer."""
        return [p for _, p in self.named_parameters()]

    def named_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """The same with their names in peft's files."""
        for path, name_of_a, name_of_b in peft_names(self.modules):
            layer = self._layers[path]
            yield name_of_a, layer.lora_A[NAME].weight
            yield name_of_b, layer.lora_B[NAME].weight

    def weights(self, gather: Gather = whole_already) -> Iterator[tuple[str, Tensor]]:
        """`A` and `B` of every layer as they are now, by their names in peft's files.

        Args:
            gather: Makes sharded parameters whole. All Learners then make the same calls.
        """
        for name, parameter in self.named_parameters():
            with gather([parameter]) as was_sharded:
                yield name, parameter.data.clone() if was_sharded else parameter.data

    @torch.no_grad()
    def load(self, weights: Mapping[str, Tensor]) -> None:
        """Takes `weights` back.

        Args:
            weights: Tensors by their names in peft's files.

        Raises:
            ValueError: If they are those of an adapter of another shape; one line.
        """
        own = dict(self.named_parameters())
        differing = set(own) ^ set(weights) or {
            name for name in own if own[name].shape != weights[name].shape
        }
        if differing:
            raise ValueError(
                f"these weights belong to another adapter: {len(differing)} tensors are missing, "
                f"unknown or of another shape, {min(differing)} for one; set language_model.lora "
                "to what it was"
            )
        for name, parameter in own.items():
            parameter.copy_(weights[name])

    def peft_config(self, base: str) -> dict[str, Any]:
        """What peft and vLLM read in `adapter_config.json`.

        Args:
            base: Folder or hub name of the base model.
        """
        settings = self.settings
        return {
            "peft_type": "LORA",
            "task_type": "CAUSAL_LM",
            "base_model_name_or_path": base,
            "r": settings.rank,
            "lora_alpha": settings.alpha,
            "use_rslora": settings.rslora,
            "target_modules": sorted(leaf_names(self.modules)),
            "lora_dropout": 0.0,
            "bias": "none",
            "inference_mode": True,
        }

    def merged_weights(
        self, model: nn.Module, gather: Gather = whole_already
    ) -> Iterator[tuple[str, Tensor]]:
        """All weights and buffers of a model with its adapter added, under the names of before.

        Args:
            model: The model that has this adapter.
            gather: As for `weights`; the parameters of one layer are gathered at a time.
        """
        saved = set(model.state_dict(keep_vars=True))
        inner = {id(part) for layer in self._layers.values() for part in layer.modules()}
        outer = {id(layer): path for path, layer in self._layers.items()}
        for path, module in model.named_modules():
            if id(module) in outer:
                yield from self._merged_layer(path, module, gather)
                continue
            if id(module) in inner:
                continue

            own = dict(module.named_parameters(prefix=path, recurse=False, remove_duplicate=False))
            with gather(list(own.values())) as was_sharded:
                # A gathered weight is gone when the next one comes, but a layer may be converted
                # as a whole.
                yield from (
                    (name, p.data.clone() if was_sharded else p.data)
                    for name, p in own.items()
                    if name in saved
                )
            buffers = module.named_buffers(prefix=path, recurse=False)
            yield from ((name, buffer) for name, buffer in buffers if name in saved)

    def _merged_layer(self, path: str, layer: Any, gather: Gather) -> Iterator[tuple[str, Tensor]]:
        """Weight and bias of a layer, `W + scaling B A`."""
        base: Any = layer.base_layer
        matrices: list[nn.Parameter] = [layer.lora_A[NAME].weight, layer.lora_B[NAME].weight]
        biases: list[nn.Parameter] = [] if base.bias is None else [base.bias]
        with gather([base.weight, *biases, *matrices]) as was_sharded:
            a, b = (matrix.data for matrix in matrices)
            yield f"{path}.weight", merged(base.weight.data, a, b, self.settings.scaling)
            for bias in biases:
                yield f"{path}.bias", bias.data.clone() if was_sharded else bias.data

    @contextmanager
    def off(self) -> Iterator[None]:
        """For as long as it lasts, the model computes as if it had no adapter."""
        self._enable(False)
        try:
            yield
        finally:
            self._enable(True)

    def _enable(self, is_on: bool) -> None:
        for layer in self._layers.values():
            layer.enable_adapters(is_on)


class AdapterMatrix(nn.Linear):
    """`A` or `B`: its weight is float32, and it computes in the type of its input, as autocast."""

    def __init__(self, weight: Tensor) -> None:
        """Takes a weight over.

        Args:
            weight: `[outputs, inputs]`.
        """
        nn.Module.__init__(self)
        self.out_features, self.in_features = weight.shape
        self.weight = nn.Parameter(weight)
        self.register_parameter("bias", None)

    def forward(self, input: Tensor) -> Tensor:
        """`x W^T`.

        Args:
            input: `[..., inputs]`.
        """
        return nn.functional.linear(input, self.weight.to(input.dtype))


def merged(weight: Tensor, a: Tensor, b: Tensor, scaling: float) -> Tensor:
    """`W + scaling B A`, computed in float32 or wider and rounded once to the adapter's type.

    A base in bfloat16 is not rounded again before it has what was learnt: that would lose much of
    it.

    Args:
        weight: `[n, m]`.
        a: `[r, m]`.
        b: `[n, r]`.
        scaling: The factor.
    """
    wide = torch.promote_types(a.dtype, torch.float32)
    product = b.to(wide) @ a.to(wide)
    return weight.to(wide) + scaling * product


class BaseReference(nn.Module):
    """The frozen model that training began with: the policy's own, with its adapter off.

    It has the form of `learner.reference.Reference`, and no weights of its own.
    """

    def __init__(self, lm: PreTrainedModel, adapter: LoraAdapter) -> None:
        """Holds nothing.

        Args:
            lm: The policy.
            adapter: Its adapter.
        """
        super().__init__()
        # In tuples: a module's parts are moved and counted with it, and these are the policy's.
        self._held = (lm, adapter)
        self._through: tuple[Callable[[dict[str, Tensor]], dict[str, Tensor]], ...] = ()

    def asked_through(
        self, outputs: Callable[[dict[str, Tensor]], dict[str, Tensor]]
    ) -> BaseReference:
        """The same reference, where the policy must not be called by itself.

        Args:
            outputs: The policy's outputs for a micro-batch, under the policy's own settings.
        """
        self._through = (outputs,)
        return self

    @property
    def lm(self) -> PreTrainedModel:
        """The policy."""
        return self._held[0]

    def forward(self, batch: dict[str, Tensor], settings: ForwardSettings) -> Tensor:
        """See `Reference.forward`."""
        lm, adapter = self._held
        with adapter.off():
            for outputs in self._through:
                return outputs(batch)["logprobs"]
            return token_outputs(lm, batch, settings)["logprobs"]


@contextmanager
def computing_in_float32(model: nn.Module) -> Iterator[None]:
    """For as long as it lasts, a model in half precision computes in float32, layer by layer.

    What a probe of the model finds must not drown in rounding.

    Args:
        model: A model whose weights are whole. Nothing may be trained meanwhile.
    """
    handles: list[Any] = []
    for module in model.modules():
        halves = [
            p
            for p in module.parameters(recurse=False)
            if p.is_floating_point() and p.dtype.itemsize < 4
        ]
        if halves:
            widened = _Widened(halves)
            handles.append(module.register_forward_pre_hook(widened.widen))
            handles.append(module.register_forward_hook(widened.restore, always_call=True))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


class _Widened:
    """Hooks of one module, between whose call and return its own weights are float32."""

    def __init__(self, weights: Iterable[nn.Parameter]) -> None:
        self._weights = list(weights)
        self._before: list[Tensor] = []

    def widen(self, *_: Any) -> None:
        self._before = [weight.data for weight in self._weights]
        for weight in self._weights:
            weight.data = weight.data.float()

    def restore(self, *_: Any) -> None:
        for weight, before in zip(self._weights, self._before, strict=True):
            weight.data = before
        self._before = []
