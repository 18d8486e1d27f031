"""What comes out of a checkpoint is an ordinary model, to vLLM and to transformers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from rllib_dapo.checkpoint.export import export_checkpoint
from rllib_dapo.models import prompt_token_ids
from rllib_dapo.rollout.engine import Sampling
from rllib_dapo.rollout.make_engine import make_engine


@pytest.mark.slow
def test_vllm_samples_from_an_exported_model_with_the_probabilities_transformers_gives(
    recorded_run: Any, tmp_path: Path
) -> None:
    folder = export_checkpoint(recorded_run.checkpoint, tmp_path / "model")

    prompt = prompt_token_ids(AutoTokenizer.from_pretrained(folder), "3+4=")
    engine = make_engine(
        "vllm",
        model=str(folder),
        dtype="float32",
        trust_remote_code=False,
        max_model_len=32,
        max_concurrent_responses=4,
        cpu_kv_cache_gib=0.25,
        seed=0,
        engine_kwargs={},
    )
    try:
        (response, *_) = engine.generate(
            [prompt], sampling=Sampling(num_responses=4, max_tokens=6), seeds=[1]
        )[0]
    finally:
        engine.close()

    ids = torch.tensor([[*prompt, *response.token_ids.tolist()]])
    with torch.no_grad():
        logits = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)(ids).logits[0]
    expected = (
        logits.log_softmax(-1)[len(prompt) - 1 : -1]
        .gather(-1, ids[0, len(prompt) :, None])
        .squeeze(-1)
    )
    np.testing.assert_allclose(response.logprobs, expected.numpy(), atol=1e-4)
