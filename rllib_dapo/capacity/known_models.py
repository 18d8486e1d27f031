"""Shapes of a few well-known models, so that a run can be planned where no hub is at hand."""

from __future__ import annotations

from typing import Any


def _qwen25(
    hidden: int, inner: int, layers: int, heads: int, kv_heads: int, *, tied: bool, words: int
) -> dict[str, Any]:
    return {
        "model_type": "qwen2",
        "hidden_size": hidden,
        "intermediate_size": inner,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "vocab_size": words,
        "tie_word_embeddings": tied,
        "max_position_embeddings": 131_072,
    }


def _qwen3(hidden: int, inner: int, layers: int, heads: int, *, tied: bool) -> dict[str, Any]:
    return {
        "model_type": "qwen3",
        "hidden_size": hidden,
        "intermediate_size": inner,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": 8,
        "head_dim": 128,
        "vocab_size": 151_936,
        "tie_word_embeddings": tied,
        "max_position_embeddings": 40_960,
    }


# What their config.json says of sizes, by the name on the hub without its owner and without
# `-Base`, `-Instruct` or the like, which have the same shape.
KNOWN: dict[str, dict[str, Any]] = {
    "Qwen2.5-0.5B": _qwen25(896, 4864, 24, 14, 2, tied=True, words=151_936),
    "Qwen2.5-1.5B": _qwen25(1536, 8960, 28, 12, 2, tied=True, words=151_936),
    "Qwen2.5-3B": _qwen25(2048, 11_008, 36, 16, 2, tied=True, words=151_936),
    "Qwen2.5-7B": _qwen25(3584, 18_944, 28, 28, 4, tied=False, words=152_064),
    "Qwen2.5-14B": _qwen25(5120, 13_824, 48, 40, 8, tied=False, words=152_064),
    "Qwen2.5-32B": _qwen25(5120, 27_648, 64, 40, 8, tied=False, words=152_064),
    "Qwen2.5-72B": _qwen25(8192, 29_568, 80, 64, 8, tied=False, words=152_064),
    "Qwen2.5-Math-1.5B": _qwen25(1536, 8960, 28, 12, 2, tied=True, words=151_936),
    "Qwen2.5-Math-7B": _qwen25(3584, 18_944, 28, 28, 4, tied=False, words=152_064),
    "Qwen3-0.6B": _qwen3(1024, 3072, 28, 16, tied=True),
    "Qwen3-1.7B": _qwen3(2048, 6144, 28, 16, tied=True),
    "Qwen3-4B": _qwen3(2560, 9728, 36, 32, tied=True),
    "Qwen3-8B": _qwen3(4096, 12_288, 36, 32, tied=False),
    "Qwen3-14B": _qwen3(5120, 17_408, 40, 40, tied=False),
    "Qwen3-32B": _qwen3(5120, 25_600, 64, 64, tied=False),
    "Qwen3-30B-A3B": {
        **_qwen3(2048, 6144, 48, 32, tied=False),
        "model_type": "qwen3_moe",
        "num_key_value_heads": 4,
        "moe_intermediate_size": 768,
        "num_experts": 128,
        "num_experts_per_tok": 8,
    },
    "Llama-3.1-8B": {
        "model_type": "llama",
        "hidden_size": 4096,
        "intermediate_size": 14_336,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "vocab_size": 128_256,
        "tie_word_embeddings": False,
        "max_position_embeddings": 131_072,
    },
    "smollm2-135m": {
        "model_type": "llama",
        "hidden_size": 576,
        "intermediate_size": 1536,
        "num_hidden_layers": 30,
        "num_attention_heads": 9,
        "num_key_value_heads": 3,
        "head_dim": 64,
        "vocab_size": 49_152,
        "tie_word_embeddings": True,
        "max_position_embeddings": 8192,
    },
}
_OWNERS = ("qwen", "meta-llama", "huggingfacetb")
_SAME_SHAPE = ("-instruct-2507", "-thinking-2507", "-instruct", "-base", "-chat")


def known_sizes(name: str) -> dict[str, Any] | None:
    """Sizes of a model by its name; None if it is not in the table.

    Args:
        name: A built-in model, or a hub name of the model's own makers: what others call alike
            may have another shape.
    """
    owner, _, model = name.lower().rpartition("/")
    if owner and owner not in _OWNERS:
        return None
    for ending in _SAME_SHAPE:
        model = model.removesuffix(ending)
    return {key.lower(): sizes for key, sizes in KNOWN.items()}.get(model)
