"""What vLLM's workers can do beyond vLLM: take weights, and say which they were not given."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from torch import Tensor, nn

from rllib_dapo.rollout.vllm_weight_blocks import held_parts
from rllib_dapo.weight_checksums import WeightBlock


class WeightReceiver:
    """Methods that vLLM adds to each of its workers (its setting `worker_extension_cls`)."""

    model_runner: Any
    model_config: Any
    reload_weights: Any

    def receive_weights(self, weights: Iterable[tuple[str, Tensor]]) -> list[str]:
        """Loads weights in place.

        vLLM keeps the old value of a weight that it is not given, or that its class of the model
        writes past the loader, and logs a warning at most. So what it has loaded is compared with
        what its model has.

        Args:
            weights: Every weight under its name in a Hugging Face checkpoint.

        Returns:
            Names of weights, and of layers, of vLLM's model that were not loaded. None are named
            for a quantized model, which has weights that no checkpoint has.
        """
        model = self.model_runner.get_model()
        tied = _modules_with_tied_weights(model)
        expected = {name for name, _ in model.named_parameters()}
        lacking: list[str] = []
        load = model.load_weights

        def load_and_compare(weights: Iterable[tuple[str, Tensor]]) -> set[str] | None:
            loaded: set[str] | None = load(weights)
            if self.model_config.quantization is None:
                lacking.extend(sorted(expected - loaded) if loaded is not None else ())
                lacking.extend(name for name in _untouched_layers(model) if name not in tied)
            return loaded

        _forget_packed_experts(model)
        model.load_weights = load_and_compare
        try:
            self.reload_weights(weights_iterator=weights)
        finally:
            del model.load_weights

        for module in tied.values():
            module.quant_method.process_weights_after_loading(module)
        return lacking

    def weight_checksums(self, blocks: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
        """Checksums of what this worker holds; plain values, as they may come from other processes.

        Args:
            blocks: Fields of each `WeightBlock`.

        Returns:
            Fields of each `BlockPart`.
        """
        wanted = [WeightBlock(**block) for block in blocks]
        return [asdict(part) for part in held_parts(self.model_runner.get_model(), wanted)]


def _modules_with_tied_weights(model: nn.Module) -> dict[str, Any]:
    """Modules whose weight is that of a module before them, by name.

    vLLM processes the module that is given the weight. On CPUs an output projection keeps a packed
    copy of its own, which would stay that of the old weights: it has to be processed after it.
    """
    seen: set[int] = set()
    tied: dict[str, Any] = {}
    for name, module in model.named_modules():
        own = {id(parameter) for parameter in module.parameters(recurse=False)}
        if own & seen:
            tied[name] = module
        seen |= own
    return tied


def _untouched_layers(model: nn.Module) -> list[str]:
    """Layers of which no weight has come, while vLLM waits for them."""
    from vllm.model_executor.layers.attention import is_deferred_attention_layer
    from vllm.model_executor.model_loader.reload.layerwise import get_layerwise_info

    return [
        name
        for name, layer in model.named_modules()
        if list(layer.parameters(recurse=False))
        and (info := get_layerwise_info(layer)).can_load()
        and info.load_numel <= 0
        and (info.load_numel_total or 0) > 0
        and not is_deferred_attention_layer(layer)
    ]


def _forget_packed_experts(model: nn.Module) -> None:
    """Has vLLM pack the experts of a mixture again, which it does at the first loading alone.

    On CPUs its kernel wants them in a layout of its own, and would read new weights in the layout
    of the checkpoint as if they were in that. (Elsewhere the layouts are the same.)

    Args:
        model: vLLM's model.
    """
    if next(model.parameters()).device.type != "cpu":
        return
    for module in model.modules():
        method: Any = getattr(module, "quant_method", None)
        if getattr(method, "moe_kernel", None) is not None:
            method.moe_kernel = None
