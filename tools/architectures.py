"""Small random models of many architectures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

PROMPT_TOKENS, RESPONSE_TOKENS, WINDOW = 12, 14, 8
VOCABULARY = 128

SIZES = {
    "vocab_size": VOCABULARY,
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "max_position_embeddings": 256,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
LLAMA = SIZES | {"intermediate_size": 128, "num_key_value_heads": 2}
HEADS = LLAMA | {"head_dim": 32}
EXPERTS = HEADS | {"moe_intermediate_size": 64, "num_experts": 4, "num_experts_per_tok": 2}
GPT2_SIZES = {
    "vocab_size": VOCABULARY,
    "n_embd": 64,
    "n_layer": 2,
    "n_head": 2,
    "n_positions": 256,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
WINDOWED = {"sliding_window": WINDOW}
TWO_KINDS = {"layer_types": ["sliding_attention", "full_attention"]}

# Name -> transformers' configuration class and its settings. Windows are shorter than a response,
# caps and scales far from 1: whoever forgets them is far off.
ARCHITECTURES: dict[str, tuple[str, dict[str, Any]]] = {
    "Llama": ("LlamaConfig", LLAMA),
    "Llama, tied": ("LlamaConfig", LLAMA | {"tie_word_embeddings": True}),
    "Qwen2": ("Qwen2Config", LLAMA),
    "Qwen2, window": (
        "Qwen2Config",
        LLAMA | WINDOWED | {"use_sliding_window": True, "max_window_layers": 1},
    ),
    "Qwen3": ("Qwen3Config", HEADS),
    "Qwen2-MoE": (
        "Qwen2MoeConfig",
        {k: v for k, v in EXPERTS.items() if k != "head_dim"}
        | {"shared_expert_intermediate_size": 64},
    ),
    "Qwen3-MoE": ("Qwen3MoeConfig", EXPERTS),
    "Mixtral": ("MixtralConfig", HEADS | {"num_local_experts": 4}),
    "Mistral, window": ("MistralConfig", HEADS | WINDOWED),
    "Gemma 2": (
        "Gemma2Config",
        HEADS | WINDOWED | {"final_logit_softcapping": 3.0, "attn_logit_softcapping": 2.0},
    ),
    "Gemma 3": ("Gemma3TextConfig", HEADS | WINDOWED | TWO_KINDS),
    "Gemma 4": (
        "Gemma4Config",
        {
            "text_config": HEADS
            | WINDOWED
            | TWO_KINDS
            | {
                "num_key_value_heads": 1,
                "global_head_dim": 32,
                "vocab_size_per_layer_input": VOCABULARY,
                "hidden_size_per_layer_input": 8,
                "final_logit_softcapping": 3.0,
            },
            "bos_token_id": 1,
            "eos_token_id": 2,
            "pad_token_id": 0,
        },
    ),
    "Phi-3, window": ("Phi3Config", LLAMA | WINDOWED),
    "GPT-2": ("GPT2Config", GPT2_SIZES),
    "GPT-NeoX": ("GPTNeoXConfig", LLAMA),
    "OPT": (
        "OPTConfig",
        SIZES | {"ffn_dim": 128, "word_embed_proj_dim": 64, "dropout": 0.0},
    ),
    "OLMo 2": ("Olmo2Config", LLAMA),
    "Granite": ("GraniteConfig", LLAMA | {"logits_scaling": 3.0, "residual_multiplier": 0.5}),
    "Cohere": ("CohereConfig", LLAMA | {"logit_scale": 0.25}),
    "Cohere 2": ("Cohere2Config", HEADS | WINDOWED | TWO_KINDS | {"logit_scale": 0.25}),
    "Starcoder2, window": ("Starcoder2Config", LLAMA | WINDOWED),
    "EXAONE 4": ("Exaone4Config", LLAMA | WINDOWED | TWO_KINDS),
    "SmolLM3": ("SmolLM3Config", LLAMA | {"no_rope_layers": [1, 0]}),
    "gpt-oss": (
        "GptOssConfig",
        HEADS
        | WINDOWED
        | TWO_KINDS
        | {"num_local_experts": 4, "num_experts_per_tok": 2, "rope_parameters": None},
    ),
    "BLOOM": (
        "BloomConfig",
        {k: v for k, v in SIZES.items() if k not in ("num_hidden_layers", "num_attention_heads")}
        | {"n_layer": 2, "n_head": 2},
    ),
    "GPT-J": ("GPTJConfig", GPT2_SIZES | {"rotary_dim": 16}),
    "Mamba": (
        "MambaConfig",
        {k: SIZES[k] for k in ("vocab_size", "hidden_size")}
        | {"num_hidden_layers": 2, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0},
    ),
    "RecurrentGemma": (
        "RecurrentGemmaConfig",
        HEADS | {"num_hidden_layers": 3, "lru_width": 64, "attention_window_size": WINDOW},
    ),
}


def make_model(name: str, folder: Path) -> Path:
    """A folder with a random model of an architecture and a tokenizer of single characters."""
    import transformers

    from rllib_dapo.models.tiny import make_tokenizer

    kind, settings = ARCHITECTURES[name]
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(getattr(transformers, kind)(**settings))
    for parameter in model.parameters():
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, std=0.1)
    model.save_pretrained(folder)
    make_tokenizer().save_pretrained(folder)
    return folder


def config_of(model: Path) -> Any:
    """A configuration that trains a model in float32 in this process."""
    from rllib_dapo import DAPOConfig

    return (
        DAPOConfig()
        .language_model(str(model), dtype="float32", num_threads=1)
        .rollout(max_prompt_tokens=PROMPT_TOKENS, max_response_tokens=RESPONSE_TOKENS)
    )


def learner_module(model: Path) -> Any:
    """A Learner's module."""
    from ray.rllib.core import DEFAULT_MODULE_ID

    from rllib_dapo.envs import TextSpace

    spaces = {DEFAULT_MODULE_ID: (TextSpace(1), TextSpace(1))}
    spec = config_of(model).get_multi_rl_module_spec(spaces=spaces, inference_only=False)
    return spec.build()[DEFAULT_MODULE_ID]


@torch.no_grad()
def change(module: Any) -> None:
    """Weights as after some optimizer steps: every one of them is another."""
    generator = torch.Generator().manual_seed(1)
    for parameter in module.lm.parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        parameter.add_(noise, alpha=0.02)
