"""One RLModule with two natures: a transformers model on a Learner, a sampling engine on an EnvRunner."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.fs
import torch
from ray.rllib.core.rl_module.apis import InferenceOnlyAPI
from ray.rllib.core.rl_module.torch.torch_rl_module import TorchRLModule
from ray.rllib.utils.annotations import override
from torch import Tensor, nn

from rllib_dapo.core import attention_mask, chunked_logprobs
from rllib_dapo.learner.weights import load_weights, read_weights
from rllib_dapo.models import load_causal_lm, load_tokenizer, resolve_model
from rllib_dapo.rollout.engine import Engine, make_engine

if TYPE_CHECKING:
    from transformers import PreTrainedModel

# Settings of transformers models that change logits after the output projection.
LOGIT_ADJUSTMENTS = ("final_logit_softcapping", "logit_scale", "logits_scaling", "lm_head_multiplier")


class CausalLMModule(TorchRLModule, InferenceOnlyAPI):
    """A causal language model for RLlib.

    On a Learner: `_forward_train` turns a micro-batch of `core.collate` into log-probabilities and entropies of the
    response tokens, `[B, T]`. Parameters stay in float32; with `dtype="bfloat16"` the computation runs under autocast,
    for at learning rates of 1e-6 an update of a bfloat16 weight rounds away.

    On an EnvRunner (`inference_only=True`): it holds the engine. `get_state` of the one fits `set_state` of the other;
    nothing else in the code knows both. Weights for engines travel in the engine's type, bfloat16 as its bits in
    uint16, since RLlib moves states as NumPy arrays.
    """

    @override(TorchRLModule)
    def setup(self) -> None:
        """Loads the model, or starts the engine."""
        config = self.model_config
        self._dtype: torch.dtype = getattr(torch, config["dtype"])
        self._temperature: float = config["temperature"]
        self._logprob_chunk_tokens: int = config["logprob_chunk_tokens"]
        self._name = name = str(resolve_model(config["name"]))
        self.engine: Engine | None = None
        if self.inference_only:
            self.engine = make_engine(
                config["engine"],
                model=name,
                dtype=config["dtype"],
                trust_remote_code=config["trust_remote_code"],
                **config["engine_settings"],
            )
            return
        self.lm = load_causal_lm(name, dtype=torch.float32, trust_remote_code=config["trust_remote_code"])
        disable_dropout(self.lm)
        if config["gradient_checkpointing"]:
            self.lm.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        self._adjusts_logits = any(getattr(self.lm.config, name, None) for name in LOGIT_ADJUSTMENTS)

    @override(InferenceOnlyAPI)
    def get_non_inference_attributes(self) -> list[str]:
        """An engine needs every weight of the model."""
        return []

    @override(TorchRLModule)
    def _forward_train(self, batch: dict[str, Tensor], **kwargs: Any) -> dict[str, Tensor]:
        """Log-probabilities and entropies of the tokens that have loss.

        Args:
            batch: A micro-batch of `core.collate`: `R` rows of `S` tokens, `B` responses of up to `T`.
            **kwargs: RLlib's; unused.

        Returns:
            `logprobs` and `entropy`, `[B, T]` float32 in nats, 0 outside `batch["mask"]`.
        """
        mask = batch["mask"]
        with torch.autocast(mask.device.type, dtype=self._dtype, enabled=self._dtype != torch.float32):
            hidden, head = self._hidden_states_and_head(batch)
            logprobs, entropy = chunked_logprobs(
                hidden.flatten(0, 1)[batch["predictor"][mask]],
                head,
                batch["response_ids"][mask],
                temperature=self._temperature,
                chunk_tokens=self._logprob_chunk_tokens,
            )
        empty = logprobs.new_zeros(mask.shape)
        return {
            "logprobs": empty.masked_scatter(mask, logprobs),
            "entropy": empty.masked_scatter(mask, entropy),
        }

    @override(TorchRLModule)
    def _forward(self, batch: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        raise NotImplementedError("a CausalLMModule samples through its `engine` and trains through `forward_train`")

    @override(TorchRLModule)
    def get_state(
        self, components: Any = None, *, not_components: Any = None, inference_only: bool = False, **kwargs: Any
    ) -> dict[str, np.ndarray]:
        """The weights under their Hugging Face names, as NumPy arrays.

        Args:
            components: Unused: a module has no components.
            not_components: Unused.
            inference_only: True rounds to the engine's type (what an EnvRunner wants); False keeps float32 (what a
                checkpoint wants).
            **kwargs: Unused.
        """
        if self.engine is not None:
            return {}
        dtype = self._dtype if inference_only else torch.float32
        return {name: _to_numpy(tensor, dtype) for name, tensor in self.lm.state_dict().items()}

    @override(TorchRLModule)
    def set_state(self, state: dict[str, np.ndarray]) -> None:
        """Takes weights from `get_state`; an engine takes them in place and forgets what it cached."""
        if self.engine is not None:
            if state:
                self.engine.load_weights(_to_tensors(state))
        else:
            load_weights(self.lm, dict(_to_tensors(state)))

    @override(TorchRLModule)
    def save_to_path(
        self, path: Any = None, *, state: dict[str, np.ndarray] | None = None, filesystem: Any = None, **kwargs: Any
    ) -> str:
        """Writes a Hugging Face folder (weights, configuration, tokenizer) among RLlib's own small files.

        Args:
            path: The folder.
            state: The weights, where RLlib has gathered them already.
            filesystem: A PyArrow file system, where it is not the local one.
            **kwargs: RLlib's.
        """
        path = super().save_to_path(path, state={"weights": "safetensors"}, filesystem=filesystem, **kwargs)
        weights = dict(_to_tensors(state)) if state else self.lm.state_dict()
        with tempfile.TemporaryDirectory() as folder:
            self.lm.save_pretrained(folder, state_dict=weights)
            load_tokenizer(self._name, trust_remote_code=self.model_config["trust_remote_code"]).save_pretrained(folder)
            pyarrow.fs.copy_files(folder, path, destination_filesystem=filesystem)
        return path

    @override(TorchRLModule)
    def restore_from_path(self, path: Any, *, filesystem: Any = None, **kwargs: Any) -> None:
        """Reads the weights that `save_to_path` wrote."""
        with tempfile.TemporaryDirectory() as folder:
            pyarrow.fs.copy_files(str(path), folder, source_filesystem=filesystem)
            load_weights(self.lm, read_weights(Path(folder)))

    def close(self) -> None:
        """Stops the engine, if this module holds one."""
        if self.engine is not None:
            self.engine.close()

    def _hidden_states_and_head(self, batch: dict[str, Tensor]) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        """`[R, S, H]` hidden states and the projection `[n, H] -> [n, V]`.

        Projecting only the positions that predict a response token saves most of the work at large vocabularies. A
        model that adjusts its logits afterwards is asked for the logits themselves.
        """
        inputs: dict[str, Any] = {"input_ids": batch["input_ids"], "use_cache": False}
        # Rows of one response need no mask: padding lies on the right, where causal attention never looks.
        if bool((batch["segment_ids"] > 1).any()):
            inputs["position_ids"] = batch["position_ids"]
            inputs["attention_mask"] = attention_mask(batch["segment_ids"])
        if self._adjusts_logits:
            return self.lm(**inputs).logits, nn.Identity()
        return self.lm.base_model(**inputs).last_hidden_state, self.lm.get_output_embeddings()


def disable_dropout(model: PreTrainedModel) -> None:
    """Switches every dropout off: the ratio compares probabilities, which must not depend on chance.

    Not all of transformers' models have a module for each: some keep the probability as a number, some look it up in
    their configuration at every step.
    """
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    for owner in (*model.modules(), model.config):
        for name, value in list(vars(owner).items()):
            if "dropout" in name and isinstance(value, float):
                setattr(owner, name, 0.0)


def _to_numpy(tensor: Tensor, dtype: torch.dtype) -> np.ndarray:
    """A copy as NumPy; bfloat16, which NumPy lacks, as its bits."""
    tensor = tensor.detach().to("cpu", dtype if tensor.is_floating_point() else tensor.dtype)
    return (
        (tensor.view(torch.uint16) if dtype is torch.bfloat16 and tensor.is_floating_point() else tensor).numpy().copy()
    )


def _to_tensors(state: dict[str, np.ndarray]) -> Iterator[tuple[str, Tensor]]:
    """The inverse of `_to_numpy`. Object-store arrays are read-only, and torch warns of such: hence the copy."""
    for name, array in state.items():
        tensor = torch.from_numpy(array if array.flags.writeable else array.copy())
        yield name, tensor.view(torch.bfloat16) if tensor.dtype == torch.uint16 else tensor
