"""What vLLM's workers can do beyond vLLM: take weights, and say which they were not given."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any

from torch import Tensor, nn

from rllib_dapo.findings import one_line
from rllib_dapo.rollout.vllm_weight_blocks import held_parts
from rllib_dapo.rollout.worker_errors import record_worker_errors
from rllib_dapo.weight_checksums import WeightBlock

# vLLM imports this module in every worker before it makes anything there.
record_worker_errors()


class WeightReceiver:
    """Methods that vLLM adds to each of its workers (its setting `worker_extension_cls`).

    vLLM keeps the old value of a weight that it is not given, or that its class of the model writes
    past the loader, and logs a warning at most. So what it has loaded is compared with what its
    model has.
    """

    model_runner: Any
    model_config: Any
    vllm_config: Any

    def make_pipeline_buffers(self) -> None:
        """Makes what the groups of a pipeline receive each other's results in.

        vLLM makes it while it measures how much memory computing takes. On CPUs, where the size of
        the cache is given, it leaves that out.
        """
        from vllm.distributed import get_pp_group

        runner = self.model_runner
        if runner.intermediate_tensors is None and not get_pp_group().is_first_rank:
            runner.intermediate_tensors = runner.get_model().make_empty_intermediate_tensors(
                batch_size=runner.max_num_tokens,
                dtype=self.model_config.dtype,
                device=runner.device,
            )

    def receive_weights(self, weights: Iterable[tuple[str, Tensor]]) -> list[str]:
        """Loads weights in place, all in one call: for a worker in the engine's own process.

        Args:
            weights: Every weight under its name in a Hugging Face checkpoint.

        Returns:
            See `finish_weights`.
        """
        self.start_weights()
        try:
            self.take_weights(weights)
            return self.finish_weights()
        except BaseException:
            self.abandon_weights()
            raise

    def answer_weights(self, step: str, *arguments: Any) -> tuple[Any, str]:
        """Takes one step of a hand-over and returns an error as a value.

        If it were raised, vLLM would leave the answers of the other workers unread, and take them
        for those to its next question.

        Args:
            step: `start_weights`, `take_weights`, `finish_weights` or `abandon_weights`.
            *arguments: Arguments of that method.

        Returns:
            What the method returned, and what it raised, in one line; empty if it raised nothing.
        """
        try:
            return getattr(self, step)(*arguments), ""
        except Exception as error:
            return None, f"{type(error).__name__}: {one_line(error)}"

    def start_weights(self) -> None:
        """Makes the model ready for new weights, of which every layer waits for its own."""
        from vllm.config import set_current_vllm_config
        from vllm.model_executor.model_loader.reload import initialize_layerwise_reload

        model = self.model_runner.get_model()
        # Listed once: each walk through a model of many layers takes milliseconds.
        modules = dict(model.named_modules())
        self.tied_modules = _modules_with_tied_weights(modules)
        self.expected_weights = {name for name, _ in model.named_parameters()}
        self.loaded_weights: set[str] | None = set()

        if next(model.parameters()).device.type == "cpu":
            _forget_packed_experts(modules.values())
            _pack_table_when_used(modules.values(), self.tied_modules)

        with set_current_vllm_config(self.vllm_config):
            initialize_layerwise_reload(model)

    def take_weights(self, weights: Iterable[tuple[str, Tensor]]) -> None:
        """Loads some of the new weights; a layer that has all of its own is processed.

        Args:
            weights: Weights under their names in a Hugging Face checkpoint. A worker that holds a
                part of the model takes its part of each.
        """
        from vllm.config import set_current_vllm_config
        from vllm.model_executor.model_loader.mtp_validation import disable_mtp_completeness_check

        model = self.model_runner.get_model()
        with set_current_vllm_config(self.vllm_config), disable_mtp_completeness_check():
            loaded = model.load_weights(weights)

        if loaded is None or self.loaded_weights is None:
            self.loaded_weights = None  # this class of model does not say
        else:
            self.loaded_weights |= loaded

    def finish_weights(self) -> list[str]:
        """Processes what has to wait until all weights have come, and forgets what depended on old.

        Returns:
            Names of weights, and of layers, of this worker's model that were not loaded. None are
            named for a quantized model, which has weights that no checkpoint has.
        """
        lacking = self._lacking_weights()
        self._finalize()

        for module in self.tied_modules.values():
            module.quant_method.process_weights_after_loading(module)

        # What vLLM's own `reload_weights` does in the end.
        for reset in ("reset_lora_state", "reset_encoder_cache", "reset_mm_cache"):
            getattr(self.model_runner, reset, lambda: None)()
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

    def abandon_weights(self) -> None:
        """Gives up a hand-over: the next one begins anew, and does not add to what came of this."""
        self._finalize()

    def _finalize(self) -> None:
        from vllm.config import set_current_vllm_config
        from vllm.model_executor.model_loader.reload import finalize_layerwise_reload

        with set_current_vllm_config(self.vllm_config):
            finalize_layerwise_reload(self.model_runner.get_model(), self.model_config)

    def _lacking_weights(self) -> list[str]:
        if self.model_config.quantization is not None:
            return []
        loaded = self.loaded_weights
        unloaded = sorted(self.expected_weights - loaded) if loaded is not None else []
        layers = _untouched_layers(self.model_runner.get_model())
        return [*unloaded, *(name for name in layers if name not in self.tied_modules)]


def _modules_with_tied_weights(modules: Mapping[str, nn.Module]) -> dict[str, Any]:
    """Modules whose weight is that of a module before them, by name.

    vLLM processes the module that is given the weight. On CPUs an output projection keeps a packed
    copy of its own, which would stay that of the old weights: it has to be processed after it.
    """
    seen: set[int] = set()
    tied: dict[str, Any] = {}
    for name, module in modules.items():
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


def _forget_packed_experts(modules: Iterable[nn.Module]) -> None:
    """Has vLLM pack the experts of a mixture again, which it does at the first loading alone.

    On CPUs its kernel wants them in a layout of its own, and would read new weights in the layout
    of the checkpoint as if they were in that. (Elsewhere the layouts are the same.)

    Args:
        modules: Those of vLLM's model, on CPUs.
    """
    for module in modules:
        method: Any = getattr(module, "quant_method", None)
        if getattr(method, "moe_kernel", None) is not None:
            method.moe_kernel = None


def _pack_table_when_used(modules: Iterable[nn.Module], tied: Mapping[str, Any]) -> None:
    """Has vLLM pack a table of embeddings for products only when something is multiplied with it.

    On CPUs it packs every embedding. The output projection that shares the weight has a packed copy
    of its own, so the table's is made for nothing as a rule: it is a tenth of the time that new
    weights of a small model take, and the memory of one more embedding.

    Args:
        modules: Those of vLLM's model, on CPUs.
        tied: Those whose weight is that of a module before them.
    """
    from vllm.model_executor.layers.vocab_parallel_embedding import (
        ParallelLMHead,
        UnquantizedEmbeddingMethod,
    )

    shared = {id(head.weight) for head in tied.values() if isinstance(head, ParallelLMHead)}
    for module in modules:
        method: Any = getattr(module, "quant_method", None)
        if (
            type(method) is UnquantizedEmbeddingMethod
            and not isinstance(module, ParallelLMHead)
            and id(module.weight) in shared
        ):
            method.process_weights_after_loading = _pack_when_used


def _pack_when_used(table: Any) -> None:
    """In the place of vLLM's `process_weights_after_loading`, which packs at once."""

    def pack_and_multiply(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        type(table.quant_method).process_weights_after_loading(table.quant_method, table)
        product: Tensor = table.cpu_linear(x, weight, bias)
        return product

    table.cpu_linear = pack_and_multiply
