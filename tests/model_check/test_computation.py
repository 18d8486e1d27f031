"""Shortcuts of a Learner are compared with the plain way, which is taken where they differ."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from rllib_dapo.core import LogitAdjustment
from rllib_dapo.learner import row_masks
from rllib_dapo.learner.module import CausalLMModule
from rllib_dapo.model_check.computation import SHARED_ROWS, check_computation
from rllib_dapo.model_check.model_report import ModelFinding

ModelFolder = Callable[..., Path]
ModuleOf = Callable[..., CausalLMModule]


def findings(module: CausalLMModule, *, longest: int = 200) -> dict[str, ModelFinding]:
    found = check_computation(
        module, module.forward_train, device="cpu", longest=longest, shares_rows=True
    )
    return {finding.check: finding for finding in found}


@pytest.mark.parametrize(
    ("kind", "settings", "said"),
    [
        ("Llama", {}, "computed block by block"),
        ("Mistral", {"sliding_window": 8}, "with the window of 8 tokens"),
        ("Gemma2", {"sliding_window": 8, "final_logit_softcapping": 2.0}, "window of 8"),
        (
            "Qwen2",
            {"use_sliding_window": True, "sliding_window": 8, "max_window_layers": 1},
            "window of 8",
        ),
        (
            "Gemma3Text",
            {"sliding_window": 6, "layer_types": ["sliding_attention", "full_attention"]},
            "window of 6",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_windows_and_caps_are_right_in_shared_rows(
    model_folder: ModelFolder, module_of: ModuleOf, kind: str, settings: dict[str, Any], said: str
) -> None:
    found = findings(module_of(model_folder(kind, **settings)))
    assert {name: finding.verdict for name, finding in found.items()} == {
        "log-probabilities": "right",
        "attention": "right",
        SHARED_ROWS: "right",
    }
    assert said in found[SHARED_ROWS].detail


def test_models_that_pass_no_keywords_on_take_the_dense_mask(
    model_folder: ModelFolder, module_of: ModuleOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = module_of(model_folder())
    with_blocks = row_masks.shared_row_inputs

    def without(*args: Any) -> dict[str, Any]:
        return {k: v for k, v in with_blocks(*args).items() if k != "row_blocks"}

    monkeypatch.setattr("rllib_dapo.learner.forward.shared_row_inputs", without)
    finding = findings(module)[SHARED_ROWS]
    assert finding.verdict == "right"
    assert "block by block" not in finding.detail
    assert module.lm.config._attn_implementation == "sdpa"


def test_flex_attention_without_a_gpu_is_refused(
    model_folder: ModelFolder, module_of: ModuleOf
) -> None:
    finding = findings(module_of(model_folder(), attn_implementation="flex_attention"))["attention"]
    assert finding.verdict == "refused"
    assert "language_model.attn_implementation" in finding.detail


def test_a_mask_without_the_window_is_found_out(
    model_folder: ModelFolder, module_of: ModuleOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So a window that this code does not know of leads to separate rows, and not to a fault."""
    module = module_of(model_folder("Mistral", sliding_window=8))
    monkeypatch.setattr(row_masks, "_window", lambda config: None)
    monkeypatch.setattr("rllib_dapo.model_check.computation.longest_window", lambda config: 8)
    finding = findings(module)[SHARED_ROWS]
    assert finding.verdict == "slower"
    assert "training.max_shared_row_tokens=0" in finding.detail


def test_a_wrong_shortcut_past_the_head_is_replaced_by_full_logits(
    model_folder: ModelFolder, module_of: ModuleOf
) -> None:
    module = module_of(model_folder("Gemma2", final_logit_softcapping=2.0))
    module.settings = replace(module.settings, adjustment=LogitAdjustment())
    assert findings(module)["log-probabilities"].verdict == "slower"
    assert module.settings.adjustment is None
    assert findings(module)["log-probabilities"].verdict == "slower"


def test_a_kernel_that_computes_another_model_is_replaced_by_eager(
    model_folder: ModelFolder, module_of: ModuleOf
) -> None:
    """SDPA leaves out Gemma 2's cap on attention scores."""
    folder = model_folder("Gemma2", attn_logit_softcapping=0.5)
    module = module_of(folder, attn_implementation="sdpa")
    finding = findings(module)["attention"]
    assert finding.verdict == "slower"
    assert "language_model.attn_implementation=eager" in finding.detail
    assert module.lm.config._attn_implementation == "eager"

    chosen = module_of(folder)
    assert chosen.lm.config._attn_implementation == "eager"
    assert findings(chosen)["attention"].verdict == "right"


def test_layers_that_carry_state_have_rows_of_their_own(
    tmp_path: Path, module_of: ModuleOf
) -> None:
    from transformers import AutoModelForCausalLM, RecurrentGemmaConfig

    from rllib_dapo.models.tiny import make_tokenizer

    config = RecurrentGemmaConfig(
        vocab_size=128,
        hidden_size=64,
        lru_width=64,
        intermediate_size=128,
        num_hidden_layers=3,
        num_attention_heads=2,
        attention_window_size=8,
        logits_soft_cap=2.0,
    )
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path)
    make_tokenizer().save_pretrained(tmp_path)
    found = findings(module_of(tmp_path))
    assert found["log-probabilities"].verdict == "right"
    assert "cap of 2" in found["log-probabilities"].detail
    assert (found[SHARED_ROWS].verdict, "carry state" in found[SHARED_ROWS].detail) == (
        "slower",
        True,
    )


def test_a_model_that_gives_no_numbers_is_refused(
    model_folder: ModelFolder, module_of: ModuleOf
) -> None:
    module = module_of(model_folder())
    with torch.no_grad():
        module.lm.model.norm.weight.fill_(float("nan"))
    found = findings(module)
    assert found["log-probabilities"].verdict == "refused"
    assert "not finite" in found["log-probabilities"].detail
