"""The sizes that a configuration gives: exact counts, keys and values, experts, windows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from transformers import AutoConfig

from rllib_dapo.capacity.known_models import KNOWN, known_sizes
from rllib_dapo.capacity.model_shape import ModelShape, layer_windows, model_shape, shape_of
from rllib_dapo.findings import SettingsError
from rllib_dapo.models import load_causal_lm

# What their makers say, or what the safetensors index on the hub adds up to.
PARAMETERS = {
    "Qwen/Qwen2.5-0.5B": 494_032_768,
    "Qwen/Qwen2.5-1.5B-Instruct": 1_543_714_304,
    "Qwen/Qwen2.5-7B": 7_615_616_512,
    "Qwen/Qwen2.5-32B": 32_763_876_352,
    "Qwen/Qwen3-0.6B": 596_049_920,
    "Qwen/Qwen3-30B-A3B": 30_532_122_624,
    "meta-llama/Llama-3.1-8B": 8_030_261_248,
    "smollm2-135m": 134_515_008,
}


def _shape(**sizes: Any) -> ModelShape:
    small = {
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "vocab_size": 100,
    }
    return shape_of(AutoConfig.for_model(**{"model_type": "llama", **small, **sizes}))


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameters_are_counted_to_the_last_one(name: str) -> None:
    shape = model_shape(name, fetch=False)
    assert shape.parameters == PARAMETERS[name]
    assert sum(shape.layer_parameters) < shape.parameters


@pytest.mark.parametrize("name", KNOWN)
def test_every_model_of_the_table_has_a_shape(name: str) -> None:
    sizes = known_sizes(name)
    assert sizes is not None
    assert shape_of(AutoConfig.for_model(**sizes)).layers == sizes["num_hidden_layers"]


def test_keys_and_values_of_a_token_by_hand() -> None:
    """`2 layers kv_heads head_size`: 2 x 24 x 2 x 64 and 2 x 64 x 8 x 128 numbers."""
    assert model_shape("Qwen/Qwen2.5-0.5B", fetch=False).kv_elements(1) == 6_144
    assert model_shape("Qwen/Qwen2.5-32B", fetch=False).kv_elements(1) == 131_072
    assert model_shape("Qwen/Qwen2.5-32B", fetch=False).kv_elements(10) == 1_310_720


def test_tied_embeddings_count_once_and_are_multiplied_with() -> None:
    tied, untied = (_shape(tie_word_embeddings=tie) for tie in (True, False))
    assert untied.parameters - tied.parameters == 100 * 64
    assert tied.active_parameters == tied.parameters
    # A table that is only looked up costs no arithmetic.
    assert untied.active_parameters == untied.parameters - 100 * 64


def test_a_token_passes_through_its_experts_alone() -> None:
    shape = model_shape("Qwen/Qwen3-30B-A3B", fetch=False)
    assert shape.experts_per_token == 8
    assert shape.inner == 8 * 768
    # Of 128 experts 8; and without the input table. The makers say 3.3 billion with it.
    assert 3.0e9 < shape.active_parameters < 3.1e9


def test_sliding_windows_bound_what_is_kept() -> None:
    shape = _shape(
        model_type="qwen2",
        layer_types=["full_attention", "sliding_attention"] * 2,
        sliding_window=16,
        use_sliding_window=True,
    )
    assert shape.windows == (None, 16, None, 16)
    a_token = 2 * 2 * 16  # two heads of 16, keys and values
    assert shape.kv_elements(8) == 4 * 8 * a_token
    assert shape.kv_elements(100) == (2 * 100 + 2 * 16) * a_token


@pytest.mark.parametrize(
    ("sizes", "windows"),
    [
        ({"sliding_window": None}, (None, None)),
        ({"sliding_window": 32, "use_sliding_window": False}, (None, None)),
        ({"sliding_window": 32}, (32, 32)),
        ({"layer_types": ["linear_attention", "full_attention"]}, (0, None)),
        ({"layer_types": ["full_attention"] * 2, "num_kv_shared_layers": 1}, (None, 0)),
        ({"layer_types": ["chunked_attention", "conv"], "attention_chunk_size": 64}, (64, 0)),
    ],
)
def test_what_layers_keep_follows_from_their_kinds(
    sizes: dict[str, Any], windows: tuple[int | None, ...]
) -> None:
    assert layer_windows(sizes, 2) == windows


@pytest.mark.parametrize("fraction", [0.0, 0.3, 0.5, 0.99])
def test_frozen_layers_are_those_that_training_freezes(fraction: float, raw_model: Path) -> None:
    from rllib_dapo.learner.model_setup import freeze_first_layers

    model = load_causal_lm(raw_model, dtype="float32")
    freeze_first_layers(model, fraction)
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert model_shape(str(raw_model)).trainable_parameters(fraction) == trained


def test_latent_attention_keeps_one_vector_for_all_heads() -> None:
    shape = _shape(
        model_type="deepseek_v2",
        num_key_value_heads=4,
        kv_lora_rank=32,
        qk_rope_head_dim=8,
        q_lora_rank=None,
        n_routed_experts=4,
        num_experts_per_tok=2,
        moe_intermediate_size=32,
    )
    assert shape.kv_elements(3) == 4 * 3 * (32 + 8)


def test_the_tiny_model_needs_not_be_made(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("RLLIB_DAPO_CACHE", str(tmp_path))
    assert model_shape.__wrapped__("tiny").parameters == 1_347_648
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["some-lab/secret-7b", "unsloth/Qwen2.5-7B"])
def test_a_model_that_is_not_at_hand_is_refused_in_one_line(name: str) -> None:
    with pytest.raises(SettingsError, match=r"needs its config\.json.*hf download") as refusal:
        model_shape(name)
    assert "\n" not in str(refusal.value)


def test_what_is_no_language_model_is_refused_in_one_line(tmp_path: Path) -> None:
    AutoConfig.for_model("vit").save_pretrained(tmp_path)
    with pytest.raises(SettingsError, match="does not describe a language model") as refusal:
        model_shape(str(tmp_path))
    assert "\n" not in str(refusal.value)
