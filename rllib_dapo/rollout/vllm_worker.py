"""What vLLM's workers can do beyond vLLM: take weights, and say which they were not given."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import Tensor, nn


class WeightReceiver:
    """Methods that vLLM adds to each of its workers (its setting `worker_extension_cls`)."""

    model_runner: Any
    model_config: Any
    reload_weights: Any

    def receive_weights(self, weights: Iterable[tuple[str, Tensor]]) -> list[str]:
        """Loads weights in place.

        vLLM keeps the old value of a weight that it is not given, and logs a warning at most. So
        the names that it has loaded are compared with those that its model has.

        Args:
            weights: Every weight under its name in a Hugging Face checkpoint.

        Returns:
            Names of the weights of vLLM's model that were not loaded. None are named for a
            quantized model, which has weights that no checkpoint has, and where vLLM's class of the
            model does not tell what it has loaded.
        """
        model = self.model_runner.get_model()
        loaded: set[str] | None = None
        load = model.load_weights

        def note(weights: Iterable[tuple[str, Tensor]]) -> set[str] | None:
            nonlocal loaded
            loaded = load(weights)
            return loaded

        expected = {name for name, _ in model.named_parameters()}
        _forget_packed_experts(model)
        model.load_weights = note
        try:
            self.reload_weights(weights_iterator=weights)
        finally:
            del model.load_weights

        if loaded is None or self.model_config.quantization is not None:
            return []
        _process_tied_again(model, loaded)
        return sorted(expected - loaded)


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


def _process_tied_again(model: nn.Module, loaded: set[str]) -> None:
    """Brings modules up to date whose weight is another module's, and came under its name alone.

    vLLM processes the module that was given the weight. On CPUs the output projection keeps a
    packed copy of its own, which would stay that of the old weights.

    Args:
        model: vLLM's model.
        loaded: Names of the weights that it was given.
    """
    owners: dict[int, list[tuple[str, nn.Module]]] = {}
    for prefix, module in model.named_modules():
        for name, parameter in module.named_parameters(prefix=prefix, recurse=False):
            owners.setdefault(id(parameter), []).append((name, module))

    for shared in owners.values():
        for name, module in shared if len(shared) > 1 else ():
            if name not in loaded:
                method: Any = module.quant_method
                method.process_weights_after_loading(module)
