"""Weights that come to a vLLM engine's workers directly, past the engine: gloo, NCCL, CUDA IPC.

vLLM receives and loads them through its own interface for weight transfers. What that leaves out is
done around it as around `load_weights`: an account of what the model was not given, and the steps
for weights that vLLM packs in a layout of its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from torch import Tensor

from rllib_dapo.rollout.cpu_adapter_products import use_grouped_products
from rllib_dapo.rollout.vllm_adapter_worker import AdapterReceiver
from rllib_dapo.rollout.vllm_worker import WeightReceiver

# vLLM imports this module in every worker before it makes anything there: from here on it knows the
# way over gloo, and how adapters are computed with on CPUs.
from rllib_dapo.weight_transfer.wire import gloo_engine as gloo_engine

if TYPE_CHECKING:
    from vllm import LLM

use_grouped_products()


class TransferReceiver(WeightReceiver, AdapterReceiver):
    """Methods that vLLM adds to each of its workers (its setting `worker_extension_cls`)."""

    start_weight_update: Any
    update_weights: Any
    finish_weight_update: Any

    def receive_transfer(self, update_info: dict[str, Any]) -> list[str]:
        """Receives all weights and loads them.

        Args:
            update_info: The weights that are about to come.

        Returns:
            See `finish_transfer`.
        """
        self.start_transfer()
        try:
            self.update_weights(update_info)
            return self.finish_transfer()
        except BaseException:
            # Why it failed is more telling than what may fail here, with half of the weights.
            with suppress(Exception):
                self.abandon_transfer()
            raise

    def start_transfer(self) -> None:
        """Makes the model ready for new weights, and notes from now on what vLLM loads."""
        model = self.model_runner.get_model()
        load = model.load_weights

        def load_and_note(weights: Iterable[tuple[str, Tensor]]) -> set[str] | None:
            loaded: set[str] | None = load(weights)
            if loaded is None or self.loaded_weights is None:
                self.loaded_weights = None  # this class of model does not say
            else:
                self.loaded_weights |= loaded
            return loaded

        reloads_quantized = getattr(model, "_do_torchao_reload", False)
        self.start_weights()
        model.load_weights = load_and_note
        # vLLM passes over layers that `start_weights` has taken apart already. What it notes of the
        # model for the end it notes a second time, and that would be wrong.
        self.start_weight_update()
        model._original_do_torchao_reload = reloads_quantized

    def finish_transfer(self) -> list[str]:
        """Processes what has to wait until all weights have come.

        Returns:
            Names of weights, and of layers, of this worker's model that were not loaded.
        """
        del self.model_runner.get_model().load_weights
        # vLLM's end of an update puts the layers together, and those that got nothing are no longer
        # known after that: so they are asked for before.
        lacking = self.finish_weights()
        self.finish_weight_update()
        return lacking

    def abandon_transfer(self) -> None:
        """Gives up: the next transfer begins anew, and does not add to what came of this."""
        model = self.model_runner.get_model()
        if "load_weights" in vars(model):
            del model.load_weights
        self._weight_update_active = False  # vLLM's own mark, which would refuse the next one
        self.abandon_weights()


def open_transfer(llm: LLM, init_info: Mapping[str, Any]) -> None:
    """Has all workers of an engine join the Learners' group; see `Engine.open_transfer`."""
    ask_workers(llm, "shutdown_weight_transfer_engine")  # the group of before
    ask_workers(llm, "init_weight_transfer_engine", dict(init_info))


def receive_transfer(llm: LLM, update_info: Mapping[str, Any]) -> list[str]:
    """Has all workers of an engine take what is sent to them; see `Engine.receive_transfer`.

    Returns:
        Names of weights, and of layers, that some worker's model has and was not given.
    """
    answers = ask_workers(llm, "receive_transfer", dict(update_info))
    return list(dict.fromkeys(name for lacking in answers for name in lacking))


def ask_workers(llm: LLM, step: str, *arguments: Any) -> list[Any]:
    """Has all workers call one of their methods, and waits for all of their answers.

    Args:
        llm: The engine.
        step: Name of the method.
        *arguments: Its arguments.

    Returns:
        What each worker returned.

    Raises:
        RuntimeError: If the method raised in one of them; one line.
    """
    answers = llm.collective_rpc("answer_weights", args=(step, *arguments))
    refusals = {rank: error for rank, (_, error) in enumerate(answers) if error}
    if refusals:
        rank, error = next(iter(refusals.items()))
        raise RuntimeError(f"worker {rank} of {len(answers)}: {error}")
    return [answer for answer, _ in answers]
