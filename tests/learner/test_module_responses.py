"""The RLModule in the hands of RLlib's tools: prompts in, responses out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ray.rllib.core.rl_module.rl_module import RLModule

from rllib_dapo import DAPOConfig
from rllib_dapo.learner.module import CausalLMModule
from rllib_dapo.models import load_tokenizer, prompt_token_ids

LearnerConfig = Callable[..., DAPOConfig]
BuildModule = Callable[..., CausalLMModule]
PROMPTS = ["1+1=", "2+3=", "4+4="]


@pytest.fixture
def module(learner_config: LearnerConfig, build_module: BuildModule) -> CausalLMModule:
    """Of a Learner, with the weights that it trains."""
    return build_module(learner_config())


def test_each_prompt_has_a_response_with_the_log_probabilities_of_its_tokens(
    module: CausalLMModule, raw_model: Path
) -> None:
    outputs = module.forward_exploration({"obs": PROMPTS})
    tokenizer = load_tokenizer(raw_model)
    assert all(isinstance(text, str) for text in outputs["actions"])
    for i, prompt in enumerate(PROMPTS):
        tokens, logprobs = outputs["token_ids"][i], outputs["token_logprobs"][i]
        assert 1 <= len(tokens) == len(logprobs) <= 8
        assert tokenizer.decode(tokens, skip_special_tokens=True) == outputs["actions"][i]
        assert outputs["action_logp"][i] == pytest.approx(logprobs.sum(), abs=1e-5)

        # By a plain forward pass, at the temperature of training.
        ids = [*prompt_token_ids(tokenizer, prompt), *tokens.tolist()]
        with torch.no_grad():
            logits = module.lm(torch.tensor([ids])).logits[0, -len(tokens) - 1 : -1]
        scores = (logits / module.model_config["temperature"]).log_softmax(-1)
        expected = scores[torch.arange(len(tokens)), torch.tensor(tokens.tolist())]
        np.testing.assert_allclose(logprobs, expected, atol=1e-4)


def test_inference_takes_the_likeliest_token_each_time(
    module: CausalLMModule, raw_model: Path
) -> None:
    tokenizer = load_tokenizer(raw_model)
    outputs = module.forward_inference({"obs": PROMPTS})
    for prompt, tokens in zip(PROMPTS, outputs["token_ids"], strict=True):
        ids = prompt_token_ids(tokenizer, prompt)
        for token in tokens:
            with torch.no_grad():
                assert int(module.lm(torch.tensor([ids])).logits[0, -1].argmax()) == token
            ids.append(int(token))
    again = module.forward_inference({"obs": PROMPTS, "seeds": [7, 8, 9]})
    assert again["actions"] == outputs["actions"]


def test_a_seed_chooses_the_response_and_nothing_else_does(module: CausalLMModule) -> None:
    many = {"obs": ["1+1="] * 8, "seeds": range(8)}
    texts = module.forward_exploration(many)["actions"]
    assert len(set(texts)) > 1
    assert module.forward_exploration({"obs": ["1+1="], "seeds": [5]})["actions"] == texts[5:6]
    assert module.forward_exploration({"obs": ["1+1="] * 8})["actions"] == texts


def test_texts_messages_and_token_ids_are_the_same_prompt(
    module: CausalLMModule, raw_model: Path
) -> None:
    ids = prompt_token_ids(load_tokenizer(raw_model), "1+1=")
    forms: list[Any] = ["1+1=", [{"role": "user", "content": "1+1="}], ids, np.array(ids)]
    outputs = module.forward_exploration({"obs": forms, "seeds": [3] * 4})
    assert len(set(outputs["actions"])) == 1


def test_an_engine_and_a_learner_write_the_same(
    learner_config: LearnerConfig, build_module: BuildModule, module: CausalLMModule
) -> None:
    engine = build_module(learner_config(), inference_only=True)
    batch = {"obs": PROMPTS}
    assert (
        engine.forward_exploration(batch)["actions"] == module.forward_exploration(batch)["actions"]
    )


@pytest.mark.parametrize(
    "settings",
    [
        {"dtype": "bfloat16"},
        {"lora": {"rank": 4}},
        {"lora": {"rank": 4}, "dtype": "bfloat16"},
        {"gradient_checkpointing": True},
    ],
    ids=str,
)
def test_whatever_is_trained_responds(
    learner_config: LearnerConfig, build_module: BuildModule, settings: dict[str, Any]
) -> None:
    module = build_module(learner_config().language_model(**settings))
    outputs = module.forward_inference({"obs": PROMPTS})
    assert all(1 <= len(tokens) <= 8 for tokens in outputs["token_ids"])
    assert np.isfinite(outputs["action_logp"]).all()


def test_sampling_leaves_the_module_as_it_was(module: CausalLMModule) -> None:
    module.lm.train()
    before = module.lm.generation_config.to_dict()
    module.forward_exploration({"obs": PROMPTS})
    assert module.lm.training
    assert module.lm.generation_config.to_dict() == before


def test_a_saved_module_is_loaded_by_rllib_and_responds(
    module: CausalLMModule, tmp_path: Path
) -> None:
    module.save_to_path(tmp_path / "module")
    loaded = RLModule.from_checkpoint(tmp_path / "module")
    batch = {"obs": PROMPTS}
    assert loaded.forward_inference(batch)["actions"] == module.forward_inference(batch)["actions"]


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        ({}, "it has nothing"),
        ({"prompts": ["1+1="]}, "it has 'prompts'"),
        ({"obs": "1+1="}, 'a batch must have "obs": a list of prompts'),
        ({"obs": ["1+1="], "seeds": [1, 2]}, "1 observations, but 2 seeds"),
        ({"obs": ["1" * 50]}, "rollout.max_prompt_tokens=8"),
        ({"obs": [[]]}, "a prompt of 0 tokens"),
        ({"obs": [{"role": "user"}]}, "a prompt must be a text or a list of messages"),
    ],
)
def test_a_batch_that_is_no_batch_of_prompts_is_refused(
    module: CausalLMModule, batch: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        module.forward_inference(batch)
