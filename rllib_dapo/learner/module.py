"""One RLModule with two natures: a model on a Learner, a sampling engine on an EnvRunner."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.fs
import torch
from ray.rllib.core.rl_module.apis import InferenceOnlyAPI
from ray.rllib.core.rl_module.torch.torch_rl_module import TorchRLModule
from ray.rllib.utils.annotations import override
from torch import Tensor, nn

from rllib_dapo.core import SamplingSet
from rllib_dapo.learner.activation_memory import checkpoint_layers
from rllib_dapo.learner.adapter_folder import write_adapter
from rllib_dapo.learner.forward import ForwardSettings, token_outputs
from rllib_dapo.learner.logits_probe import find_logit_adjustment
from rllib_dapo.learner.lora_adapter import (
    BaseReference,
    Gather,
    LoraAdapter,
    whole_already,
)
from rllib_dapo.learner.model_folder import VALUE_HEAD, read_weights, write_files, write_model
from rllib_dapo.learner.model_setup import freeze_first_layers
from rllib_dapo.learner.reference import Reference
from rllib_dapo.learner.row_masks import longest_window
from rllib_dapo.learner.start_model import callable_model, load_start_model
from rllib_dapo.learner.value_head import new_value_head
from rllib_dapo.models import CheckpointFormat, load_config, resolve_model
from rllib_dapo.models.lora_settings import read_lora_settings
from rllib_dapo.rollout.engine import CHANGED_CLASSES, Engine
from rllib_dapo.rollout.make_engine import make_engine
from rllib_dapo.rollout.text_forward import TextForward
from rllib_dapo.rollout.transformers_engine import sampling_from
from rllib_dapo.weight_transfer.wire.weight_arrays import to_numpy, to_tensors

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class CausalLMModule(TorchRLModule, InferenceOnlyAPI):
    """A causal language model for RLlib.

    On a Learner: `_forward_train` turns a micro-batch of `core.collate` into log-probabilities and
    entropies of the response tokens, `[B, T]`. Parameters stay in float32, since at learning rates
    of 1e-6 an update of a bfloat16 weight rounds away; with `dtype="bfloat16"` the computation runs
    under autocast. Where an adapter is trained (`language_model.lora`), this is true of the
    adapter; the base, which stays what it is, has the type of the computation.

    On an EnvRunner (`inference_only=True`): it holds the engine. Nothing else in the code knows
    both. `forward_inference` and `forward_exploration` are for RLlib's tools and work on either:
    prompts in, whole responses out (`rollout.text_forward`). An engine's weights come in pieces
    (`weight_transfer`), not through `get_state`, which one Learner alone could not answer where
    the weights are sharded.
    """

    @override(TorchRLModule)
    def setup(self) -> None:
        """Loads the model, or starts the engine."""
        config = self.model_config
        self._name = name = str(resolve_model(config["name"]))
        self.settings = ForwardSettings(
            dtype=getattr(torch, config["dtype"]),
            temperature=config["temperature"],
            # Checkpoints of earlier versions have none.
            sampling_set=SamplingSet(**config.get("sampling_set", {})),
            chunk_tokens=config["logprob_chunk_tokens"],
            offload_activations=config["activation_offload"],
        )
        # Whether several Learners share the weights: then this module neither saves nor loads them.
        self.is_sharded = False

        self.engine: Engine | None = None
        self.adapter: LoraAdapter | None = None
        if self.inference_only:
            self.engine = make_engine(
                config["engine"],
                model=name,
                dtype=config["dtype"],
                trust_remote_code=config["trust_remote_code"],
                **config["engine_settings"],
            )
            return

        self.lm = self._load()
        self.is_sharded = config["zero3"] is not None
        self.checkpoint_format = CheckpointFormat(self.lm)
        with callable_model(self.lm, config):
            self.settings = replace(self.settings, adjustment=find_logit_adjustment(self.lm))
        if config["lora"] is not None:
            shape, seed = read_lora_settings(config["lora"]), config["seed"] or 0
            self.adapter = LoraAdapter(self.lm, shape, seed=seed, dtype=self._trained_dtype())
        freeze_first_layers(self.lm, config["freeze_fraction"])
        checkpoint_layers(self.lm, config["gradient_checkpointing"])
        self.value_head: nn.Linear | None = None
        if config["value_head"]:
            width = self.lm.config.get_text_config().hidden_size
            self.value_head = new_value_head(width, self._trained_dtype())

        # In a tuple, so that it is not a part of this module: not saved, not wrapped, not given to
        # the optimizer.
        self._reference: tuple[Reference | BaseReference, ...] = ()
        if config["reference"]:
            adapter = self.adapter
            self._reference = (
                BaseReference(self.lm, adapter) if adapter else Reference(self._load()),
            )

    @override(InferenceOnlyAPI)
    def get_non_inference_attributes(self) -> list[str]:
        """An engine needs every weight of the model."""
        return []

    @override(TorchRLModule)
    def _forward_train(self, batch: dict[str, Tensor], **kwargs: Any) -> dict[str, Tensor]:
        """Log-probabilities, entropies and (with a value head) values of the tokens that have loss.

        Args:
            batch: Micro-batch of `core.collate`: `R` rows of `S` tokens, `B` responses of up to
                `T`.
            **kwargs: RLlib's; unused.

        Returns:
            `logprobs`, `entropy` and `values`, `[B, T]`, 0 outside `batch["mask"]`; see
            `learner.forward`.
        """
        return token_outputs(self.lm, batch, self.settings, value_head=self.value_head)

    @torch.no_grad()
    def reference_logprobs(self, batch: dict[str, Tensor]) -> Tensor:
        """`[B, T]` log-probabilities under the frozen model that training began with.

        Its weights have the type of the policy's, which is float32 unless DeepSpeed has made it
        bfloat16. So the divergence is exactly 0 at the start: with another type the two would
        differ by rounding before anything is learnt.

        Args:
            batch: Micro-batch of `core.collate`.
        """
        (reference,) = self._reference
        if not self.is_sharded:
            reference.to(batch["mask"].device, next(self.lm.parameters()).dtype)
        return reference(batch, self.settings)

    def wrap_reference(self, wrap: Callable[[Any], Any]) -> None:
        """Has a wrapper take the reference over, where there is one.

        Args:
            wrap: Function of the reference that returns what is called in its place.
        """
        self._reference = tuple(wrap(reference) for reference in self._reference)

    def rest_reference(self) -> None:
        """Moves the reference to main memory until it is asked again; a sharded one stays."""
        for reference in () if self.is_sharded else self._reference:
            reference.to("cpu")

    @contextmanager
    def settings_changed(self, **changes: Any) -> Iterator[None]:
        """Computes under other settings for a while, to find out why sampler and trainer disagree.

        Args:
            **changes: Values of `ForwardSettings` by name.
        """
        before = self.settings
        self.settings = replace(before, **changes)
        try:
            yield
        finally:
            self.settings = before

    @property
    def longest_window(self) -> int | None:
        """Number of tokens that sliding windows cover; None where attention has none."""
        return longest_window(self.lm.config.get_text_config())

    def set_attention(self, kernel: str) -> None:
        """Computes attention in another way, in the policy and its reference.

        Args:
            kernel: Transformers' name of the implementation.
        """
        for model in (self.lm, *(reference.lm for reference in self._reference)):
            model.set_attn_implementation(kernel)

    @override(TorchRLModule)
    def _forward_inference(self, batch: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        """Responses of the likeliest tokens; see `rollout.text_forward` for batch and outputs.

        Args:
            batch: `"obs"`, a list of prompts, and perhaps `"seeds"`.
            **kwargs: RLlib's; unused.
        """
        return self._respond(batch, explore=False)

    @override(TorchRLModule)
    def _forward_exploration(self, batch: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        """Responses that are drawn as in training; as `_forward_inference` otherwise.

        Args:
            batch: `"obs"`, a list of prompts, and perhaps `"seeds"`.
            **kwargs: RLlib's; unused.
        """
        return self._respond(batch, explore=True)

    def _respond(self, batch: dict[str, Any], *, explore: bool) -> dict[str, Any]:
        forward = TextForward(model=self._name, settings=self.model_config)
        with self._sampler(forward) as engine:
            return forward(engine, batch, explore=explore)

    @contextmanager
    def _sampler(self, forward: TextForward) -> Iterator[Engine]:
        """The engine, or on a Learner its own weights, which transformers samples from."""
        if self.engine is not None:
            yield self.engine
            return
        if self.is_sharded:
            raise RuntimeError(
                "one Learner alone does not hold the weights: save a checkpoint, and sample from it"
            )
        with (
            callable_model(self.lm, self.model_config),
            sampling_from(self.lm, forward.load_tokenizer) as engine,
        ):
            yield engine

    @override(TorchRLModule)
    def get_state(
        self,
        components: Any = None,
        *,
        not_components: Any = None,
        inference_only: bool = False,
        **kwargs: Any,
    ) -> dict[str, np.ndarray]:
        """What a checkpoint has, by its names there, as NumPy arrays: all weights, or the adapter.

        Args:
            components: Unused, since a module has no components.
            not_components: Unused.
            inference_only: True gives an empty state: engines get their weights in another way.
            **kwargs: Unused.

        Raises:
            RuntimeError: If the weights are sharded over Learners.
        """
        if self.engine is not None or inference_only:
            return {}
        if self.is_sharded:
            raise RuntimeError(
                "one Learner alone does not hold the weights: save a checkpoint and export it"
            )
        return {name: to_numpy(tensor, tensor.dtype) for name, tensor in self._weights().items()}

    @override(TorchRLModule)
    def set_state(self, state: dict[str, np.ndarray]) -> None:
        """Takes the weights of `get_state`; a module with an engine takes none.

        Args:
            state: Weights under the names of a checkpoint.
        """
        if state and self.engine is None:
            self._load_weights(dict(to_tensors(state.items())))

    @override(TorchRLModule)
    def save_to_path(
        self,
        path: Any = None,
        *,
        state: dict[str, np.ndarray] | None = None,
        filesystem: Any = None,
        **kwargs: Any,
    ) -> str:
        """Writes a Hugging Face folder with RLlib's own small files beside the model's.

        Args:
            path: The folder.
            state: The weights, where RLlib has gathered them already.
            filesystem: PyArrow file system of `path`; by default the local one.
            **kwargs: RLlib's.

        Returns:
            The folder.
        """
        path = super().save_to_path(
            path, state={"weights": "safetensors"}, filesystem=filesystem, **kwargs
        )
        if self.is_sharded:
            return path

        weights = dict(to_tensors(state.items())) if state else self._weights()
        with tempfile.TemporaryDirectory() as folder:
            self.write_model(Path(folder), weights.items())
            pyarrow.fs.copy_files(folder, path, destination_filesystem=filesystem)
        return path

    def write_model(self, folder: Path, weights: Iterable[tuple[str, Tensor]]) -> None:
        """Writes weights, configuration and tokenizer into a Hugging Face folder.

        Where an adapter is trained, its weights alone are written, in peft's format.

        Args:
            folder: An existing folder.
            weights: Names in a checkpoint, and all weights, which may be made one after the other;
                the names of the value head's begin with `value_head.`.
        """
        options = {"source": self._name, **self.model_config["tokenizer_settings"]}
        if self.adapter is not None:
            write_adapter(folder, self.adapter.peft_config(self._name), weights)
            write_files(folder, self.lm, **options)
            return
        write_model(folder, self.lm, weights, **options)

    @override(TorchRLModule)
    def restore_from_path(self, path: Any, *, filesystem: Any = None, **kwargs: Any) -> None:
        """Reads the weights that `save_to_path` wrote.

        Args:
            path: The folder.
            filesystem: PyArrow file system of `path`; by default the local one.
            **kwargs: RLlib's; unused.

        Raises:
            FileNotFoundError: If there are no weights in the folder.
            ValueError: If they belong to another model.
        """
        if self.is_sharded:
            return

        with tempfile.TemporaryDirectory() as folder:
            pyarrow.fs.copy_files(str(path), folder, source_filesystem=filesystem)
            self._load_weights(read_weights(Path(folder)))

    def close(self) -> None:
        """Stops the engine, if this module holds one."""
        if self.engine is not None:
            self.engine.close()

    def _load(self) -> PreTrainedModel:
        """The start model, see `load_start_model`."""
        config = load_config(self._name, trust_remote_code=self.model_config["trust_remote_code"])
        if changed := CHANGED_CLASSES.intersection(config.architectures or ()):
            raise ValueError(
                "env_runners.num_env_runners=0 and learners.num_learners=0 put engine and Learner "
                f"into one process, in which vLLM has changed transformers' {min(changed)}: set "
                "env_runners.num_env_runners to 1, or rollout.engine to transformers"
            )
        return load_start_model(self._name, self.model_config, dtype=self.settings.dtype)

    def _trained_dtype(self) -> torch.dtype:
        """The type of what is trained: float32 or wider, unless DeepSpeed has sharded another."""
        held = next(self.lm.parameters()).dtype
        return held if self.is_sharded else torch.promote_types(held, torch.float32)

    def whole_weights(self, gather: Gather = whole_already) -> Iterator[tuple[str, Tensor]]:
        """All weights of the language model by their names in a checkpoint, any adapter merged.

        Args:
            gather: Makes sharded weights whole; see `learner.lora_adapter`.
        """
        own: Iterable[tuple[str, Tensor]] = self.lm.state_dict().items()
        if self.adapter is not None:
            own = self.adapter.merged_weights(self.lm, gather)
        return self.checkpoint_format.to_checkpoint(own)

    def _weights(self) -> dict[str, Tensor]:
        """All weights that a checkpoint has, by their names there."""
        weights = dict(self.whole_weights() if self.adapter is None else self.adapter.weights())
        if self.value_head is not None:
            weights |= {VALUE_HEAD + k: v for k, v in self.value_head.state_dict().items()}
        return weights

    def _load_weights(self, weights: dict[str, Tensor]) -> None:
        """Loads the model's weights, and the value head's, which an exported model has not."""
        of_model = {k: v for k, v in weights.items() if not k.startswith(VALUE_HEAD)}
        if self.adapter is not None:
            self.adapter.load(of_model)
        else:
            # Not strict, for second names of tied weights alone: what else is missing was refused.
            self.lm.load_state_dict(self.checkpoint_format.from_checkpoint(of_model), strict=False)

        own = {
            k.removeprefix(VALUE_HEAD): v for k, v in weights.items() if k.startswith(VALUE_HEAD)
        }
        if own and self.value_head is not None:
            self.value_head.load_state_dict(own)
