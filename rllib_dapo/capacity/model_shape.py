"""The sizes of a model that decide memory and time, from its configuration alone."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from rllib_dapo.capacity.known_models import known_sizes
from rllib_dapo.findings import SettingsError, one_line
from rllib_dapo.models import folder_if_there, load_config
from rllib_dapo.models.attention import EAGER, choose_attention
from rllib_dapo.models.experts import chosen_experts, is_of_expert
from rllib_dapo.models.lora_settings import LoraSettings, linear_layers
from rllib_dapo.models.model_names import TINY_MODELS, tiny_recipe

if TYPE_CHECKING:
    from pathlib import Path

    from torch import nn
    from transformers import PreTrainedConfig

_WITHOUT_KEYS = ("linear_attention", "mamba", "recurrent", "conv", "moe")


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelShape:
    """Sizes of a decoder.

    Attributes:
        parameters: All of them; a weight that is shared counts once.
        layer_parameters: Those of each decoder layer.
        active_parameters: Those that a token is multiplied with: of experts the chosen ones, and
            not the table of input embeddings.
        vocabulary: Rows of the output projection.
        ties_embeddings: Whether that projection is the table of input embeddings.
        hidden: Width of the residual stream.
        heads: Attention heads.
        kv_heads: Heads of keys and values.
        head_size: Width of a head.
        latent: Width of what is cached in place of keys and values (latent attention), or 0.
        inner: Width of the feed-forward layer that a token passes through, in all its experts.
        experts_per_token: Number of experts that a token passes through; 0 without a mixture.
        windows: Of each layer, the most tokens whose keys and values it needs: None for all, 0 for
            a layer without keys and values.
        is_eager: Whether attention writes out its scores, a number for each pair of tokens.
        linear: Path, inputs and outputs of each linear layer that can have an adapter.
    """

    parameters: int
    layer_parameters: tuple[int, ...]
    active_parameters: int
    vocabulary: int
    ties_embeddings: bool
    hidden: int
    heads: int
    kv_heads: int
    head_size: int
    latent: int
    inner: int
    experts_per_token: int
    windows: tuple[int | None, ...]
    is_eager: bool
    linear: tuple[tuple[str, int, int], ...] = ()

    @property
    def layers(self) -> int:
        """Number of decoder layers."""
        return len(self.windows)

    @property
    def embedding_parameters(self) -> int:
        """Numbers in the table of input embeddings, and in an output projection of its own."""
        return self.vocabulary * self.hidden

    @property
    def projection_parameters(self) -> int:
        """Numbers in the weights that activations are multiplied with, experts included."""
        table = 0 if self.ties_embeddings else self.embedding_parameters
        return self.parameters - table

    def adapter_parameters(self, lora: LoraSettings) -> int:
        """Numbers in an adapter: `rank (inputs + outputs)` of each layer that has one.

        Args:
            lora: The adapter's shape.
        """
        return sum(
            lora.rank * (inputs + outputs)
            for path, inputs, outputs in self.linear
            if lora.adapts(path)
        )

    def kv_elements(self, tokens: float, *, kv_heads: int | None = None) -> float:
        """Numbers in the keys and values of a sequence: `2 layers kv_heads head_size tokens`.

        Args:
            tokens: Length of the sequence. A sliding window bounds what its layer keeps of it.
            kv_heads: Heads that are kept here, where they are spread over several GPUs.
        """
        heads = self.kv_heads if kv_heads is None else kv_heads
        width = self.latent or 2 * heads * self.head_size
        return sum(width * min(tokens, tokens if w is None else w) for w in self.windows)

    def trainable_parameters(self, freeze_fraction: float) -> int:
        """Numbers that are trained; see `learner.model_setup.freeze_first_layers`.

        Args:
            freeze_fraction: `language_model.freeze_fraction`.
        """
        if freeze_fraction <= 0:
            return self.parameters
        frozen = min(math.ceil(freeze_fraction * self.layers), self.layers)
        table = 0 if self.ties_embeddings else self.embedding_parameters
        return self.parameters - table - sum(self.layer_parameters[:frozen])


@cache
def model_shape(name: str, *, trust_remote_code: bool = False, fetch: bool = True) -> ModelShape:
    """The shape of a run's model. No weights are loaded, and none are needed.

    Args:
        name: `language_model.name`.
        trust_remote_code: Whether code that comes with the model may run.
        fetch: Whether its config.json, and nothing else, may be fetched from the hub.

    Raises:
        SettingsError: If its configuration is not at hand, or is not one of a language model; one
            line.
    """
    config = _config(name, trust_remote_code=trust_remote_code, fetch=fetch)
    try:
        return shape_of(config, trust_remote_code=trust_remote_code)
    except (ValueError, TypeError, AttributeError, KeyError, RuntimeError) as error:
        raise SettingsError(
            f"language_model.name={name!r}: its configuration does not describe a language model "
            f"that can be planned: {one_line(error)}"
        ) from error


def shape_of(config: PreTrainedConfig, *, trust_remote_code: bool = False) -> ModelShape:
    """The shape that a configuration describes, counted in a model without storage.

    Args:
        config: A model's configuration.
        trust_remote_code: Whether code that comes with the model may run.

    Raises:
        ValueError: If transformers has no language model for it.
    """
    model = _empty_model(config, trust_remote_code=trust_remote_code)
    text = config.get_text_config()
    own = {id(p): (name, p.numel()) for name, p in model.named_parameters()}
    total = sum(count for _, count in own.values())

    # Of the experts a token passes through the chosen ones alone.
    sizes = text.to_dict()
    experts = sum(count for name, count in own.values() if is_of_expert(name))
    top_k, of = chosen_experts(sizes)
    idle = experts - experts * top_k // of if experts and top_k else 0

    inputs, outputs = model.get_input_embeddings(), model.get_output_embeddings()
    is_tied = outputs is None or inputs.weight is outputs.weight
    heads = int(text.num_attention_heads)
    kv_heads = 1 if sizes.get("multi_query") else _first(sizes, ("num_key_value_heads",)) or heads
    return ModelShape(
        parameters=total,
        layer_parameters=_layer_parameters(model, int(text.num_hidden_layers)),
        active_parameters=total - idle - (0 if is_tied else inputs.weight.numel()),
        vocabulary=int(text.vocab_size),
        ties_embeddings=is_tied,
        hidden=int(text.hidden_size),
        heads=heads,
        kv_heads=kv_heads,
        head_size=_first(sizes, ("head_dim",)) or int(text.hidden_size) // heads,
        latent=(sizes.get("kv_lora_rank") or 0) + (sizes.get("qk_rope_head_dim") or 0)
        if sizes.get("kv_lora_rank")
        else 0,
        inner=_inner_width(sizes, top_k if experts else 0),
        experts_per_token=top_k if experts else 0,
        windows=layer_windows(sizes, int(text.num_hidden_layers)),
        is_eager=choose_attention(config) == EAGER,
        linear=tuple((path, *sizes) for path, sizes in linear_layers(model).items()),
    )


def layer_windows(sizes: Mapping[str, Any], layers: int) -> tuple[int | None, ...]:
    """Of each layer, the most tokens whose keys and values it needs; see `ModelShape.windows`.

    Args:
        sizes: Configuration of the text model.
        layers: Number of its layers.
    """
    window = sizes.get("sliding_window") or None
    kinds = sizes.get("layer_types") or sizes.get("layers_block_type")
    if not kinds:
        uses = sizes.get("use_sliding_window", True)
        return (window if uses else None,) * layers

    def needed(kind: str) -> int | None:
        if any(word in kind for word in _WITHOUT_KEYS):
            return 0
        if "chunked" in kind:
            return sizes.get("attention_chunk_size") or window
        return window if "sliding" in kind else None

    # Layers that take the keys and values of one before them keep none of their own.
    shared = int(sizes.get("num_kv_shared_layers") or 0)
    return tuple(0 if i >= layers - shared else needed(str(k)) for i, k in enumerate(kinds))


def _config(name: str, *, trust_remote_code: bool, fetch: bool) -> PreTrainedConfig:
    if (folder := folder_if_there(name)) is not None:
        return _loaded(folder, trust_remote_code=trust_remote_code)
    if name in TINY_MODELS:
        return _config_of_tiny(name)

    from huggingface_hub import is_offline_mode, try_to_load_from_cache

    try:
        is_cached = isinstance(try_to_load_from_cache(name, "config.json"), str)
    except ValueError:  # no such name can be on the hub
        is_cached = False
    if is_cached:
        return _loaded(name, trust_remote_code=trust_remote_code)
    if (sizes := known_sizes(name)) is not None:
        from transformers import AutoConfig

        return AutoConfig.for_model(**sizes)

    why = "it is not in the local hub cache"
    if fetch and not is_offline_mode():
        try:
            return load_config(name, trust_remote_code=trust_remote_code)
        except ValueError as error:
            why = one_line(error).partition(": ")[2]
    raise SettingsError(
        f"language_model.name={name!r}: a plan needs its config.json, and {why}: run `hf download "
        f"{name} config.json` where there is a network, or name a folder that holds that file"
    )


def _loaded(path: Path | str, *, trust_remote_code: bool) -> PreTrainedConfig:
    try:
        return load_config(path, trust_remote_code=trust_remote_code)
    except ValueError as error:
        raise SettingsError(one_line(error)) from error


def _config_of_tiny(name: str) -> PreTrainedConfig:
    """The built-in models' configurations, before they are made."""
    from rllib_dapo.models.tiny import tiny_config

    return tiny_config(tiny_recipe(name))


def _empty_model(config: PreTrainedConfig, *, trust_remote_code: bool) -> Any:
    """The model itself, with sizes and without storage."""
    import torch
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(config, trust_remote_code=trust_remote_code)


def _layer_parameters(model: nn.Module, layers: int) -> tuple[int, ...]:
    """Parameters of each layer of the stack; the mean where no stack is found."""
    from torch import nn

    for module in model.modules():
        if isinstance(module, nn.ModuleList) and len(module) == layers:
            return tuple(sum(p.numel() for p in layer.parameters()) for layer in module)
    return (sum(p.numel() for p in model.parameters()) // layers,) * layers


def _inner_width(sizes: Mapping[str, Any], top_k: int) -> int:
    """Width of the feed-forward layer that one token passes through."""
    dense = _first(sizes, ("intermediate_size", "ffn_dim", "n_inner", "ffn_hidden_size"))
    if not top_k:
        return dense or 4 * int(_first(sizes, ("hidden_size", "n_embd", "d_model")))
    shared = _first(sizes, ("shared_expert_intermediate_size",))
    each = _first(sizes, ("moe_intermediate_size",)) or dense
    return top_k * each + (shared or each * int(sizes.get("n_shared_experts") or 0))


def _first(sizes: Mapping[str, Any], names: tuple[str, ...]) -> int:
    """The first of some sizes that is there; 0 if none is."""
    return next((int(sizes[name]) for name in names if isinstance(sizes.get(name), int)), 0)
