"""Top-k, top-p and min-p: an engine and a Learner give the same probabilities, as the guard asks.

All of it with real engines, which cut their own sets from their own logits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import LlamaConfig, TopKLogitsWarper, TopPLogitsWarper

from rllib_dapo import DAPOConfig
from rllib_dapo.core import PromptGroup, Response, SamplingSet
from rllib_dapo.learner.training_data import GroupTrainingData
from rllib_dapo.models import load_causal_lm
from rllib_dapo.rollout.engine import Completion, Engine
from rllib_dapo.rollout.make_engine import make_engine
from rllib_dapo.rollout.sampling_settings import sampling_of
from rllib_dapo.start_guard import AUTO_LIMITS

MakeTrainer = Callable[[DAPOConfig], Any]
MakeData = Callable[..., GroupTrainingData]

WORDS, PROMPT, TOKENS = 2000, [5, 17, 300, 41, 2], 24
SETTINGS: dict[str, dict[str, Any]] = {
    "top-k": {"sampling": {"top_k": 20}},
    "top-p": {"top_p": 0.8},
    "min-p": {"sampling": {"min_p": 0.05}},
    "top-k, top-p": {"top_p": 0.7, "sampling": {"top_k": 50}},
    "min-p, top-p": {"top_p": 0.9, "sampling": {"min_p": 0.02}},
    "min-p, top-k, top-p": {
        "top_p": 0.9,
        "temperature": 0.7,
        "sampling": {"min_p": 0.01, "top_k": 30},
    },
}
# The likeliest of 2,000 words has a probability of 0.02 in the mean, and of 0.6.
HEADS = {"flat": 4.0, "sharp": 24.0}


@pytest.fixture(scope="module")
def folder(random_model: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = LlamaConfig(
        vocab_size=WORDS,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        tie_word_embeddings=False,
        bos_token_id=None,
        eos_token_id=None,
    )
    return random_model(config, tmp_path_factory.mktemp("model"))


@pytest.fixture(
    scope="module",
    params=[
        ("transformers", "float32"),
        pytest.param(("vllm", "float32"), marks=pytest.mark.exhaustive),
        pytest.param(("vllm", "bfloat16"), marks=pytest.mark.exhaustive),
    ],
    ids=" ".join,
)
def engine_and_dtype(
    request: pytest.FixtureRequest, folder: Path
) -> Iterator[tuple[Engine, str, str]]:
    name, dtype = request.param
    engine = make_engine(
        name,
        model=str(folder),
        dtype=dtype,
        trust_remote_code=False,
        max_model_len=64,
        max_concurrent_responses=16,
        cpu_kv_cache_gib=0.25,
        seed=0,
        engine_kwargs={},
    )
    yield engine, name, dtype
    engine.close()


@pytest.fixture
def config(folder: Path, engine_and_dtype: tuple[Engine, str, str]) -> DAPOConfig:
    _, name, dtype = engine_and_dtype
    return (
        DAPOConfig()
        .environment("rllib_dapo/Arithmetic-v0")
        .language_model(str(folder), dtype=dtype, num_threads=1, logprob_chunk_tokens=30)
        .rollout(engine=name, max_prompt_tokens=8, max_response_tokens=TOKENS)
        .training(prompts_per_step=4, group_size=4, minibatch_size=16)
        .overlong(buffer_tokens=2)
        .env_runners(num_env_runners=0)
    )


def group_of(completions: list[Completion]) -> PromptGroup:
    return PromptGroup(
        seed=0,
        prompt="",
        prompt_ids=np.array(PROMPT, np.int32),
        responses=tuple(
            Response(
                token_ids=one.token_ids,
                loss_mask=np.ones(len(one.token_ids), dtype=bool),
                logprobs=one.logprobs,
                finish_reason=one.finish_reason,
                reward=0.0,
                is_correct=None,
                text="",
            )
            for one in completions
        ),
        weights_version=0,
    )


@pytest.mark.parametrize("head", list(HEADS))
@pytest.mark.parametrize("named", list(SETTINGS))
def test_engine_and_learner_agree_within_the_guards_limit(
    named: str,
    head: str,
    config: DAPOConfig,
    engine_and_dtype: tuple[Engine, str, str],
    make_trainer: MakeTrainer,
    make_data: MakeData,
) -> None:
    engine, _, dtype = engine_and_dtype
    config.rollout(**SETTINGS[named])
    trainer = make_trainer(config)
    with torch.no_grad():
        trainer.module.lm.lm_head.weight.mul_(HEADS[head])
    with engine.taking_weights(1):
        engine.load_weights((n, t.clone()) for n, t in trainer.module.whole_weights())

    sampling = sampling_of(config, evaluation=False)
    sampled = engine.generate([PROMPT] * 4, sampling=sampling, seeds=[7, 17, 27, 37])
    groups = dict(enumerate(map(group_of, sampled)))

    # Else the test would show nothing: over all tokens the Learner says something else.
    data = make_data(groups=groups, plan={"max_response_tokens": TOKENS})
    with trainer.module.settings_changed(sampling_set=SamplingSet()):
        whole = trainer.learner.measure_sampler_gap([data])
    ours = trainer.learner.measure_sampler_gap([data])

    assert ours.tokens == 16 * TOKENS
    assert len({tuple(r.token_ids) for group in groups.values() for r in group.responses}) > 8
    assert ours.mean < AUTO_LIMITS[dtype]
    # Where bfloat16 rounds by some hundredths, what lies outside of the set may weigh as little.
    assert whole.mean > (20 if dtype == "float32" else 1) * ours.mean


def test_policy_and_reference_are_cut_by_the_rule_that_transformers_has_too(
    learner_config: Callable[..., DAPOConfig],
    make_trainer: MakeTrainer,
    make_data: MakeData,
    raw_model: Path,
) -> None:
    config = learner_config().rollout(top_p=0.9, sampling={"top_k": 40}).kl(coefficient=0.1)
    config.language_model(logprob_chunk_tokens=5)
    trainer, data = make_trainer(config), make_data()
    ((plan,),) = data.shards
    batches = [batch.tensors() for batch in trainer.learner.plan_batches(plan, data)]
    model = load_causal_lm(raw_model, dtype=torch.float32)
    top_k, top_p = TopKLogitsWarper(40), TopPLogitsWarper(0.9)

    compared = outside = 0
    for batch in batches:
        with torch.no_grad():
            ours = trainer.learner.forward_micro_batch(batch)["logprobs"]
            assert torch.equal(trainer.module.reference_logprobs(batch), ours)
            for row, (key, index) in enumerate(zip(batch["groups"], batch["indices"], strict=True)):
                group = data.groups[int(key)]
                response = torch.tensor(group.responses[int(index)].token_ids).long()
                ids = torch.cat([torch.tensor(group.prompt_ids).long(), response])
                logits = model(ids[None]).logits[0, len(group.prompt_ids) - 1 : -1]
                kept = top_p(ids, top_k(ids, logits / config.temperature)).isfinite()
                outside += int((~kept.gather(-1, response[:, None])).sum())
                kept.scatter_(-1, response[:, None], True)  # what was sampled belongs to it
                cut = (logits / config.temperature).masked_fill(~kept, -torch.inf)
                theirs = cut.log_softmax(-1).gather(-1, response[:, None]).squeeze(-1)

                mask = batch["mask"][row][: len(response)]
                torch.testing.assert_close(
                    ours[row][: len(response)][mask], theirs[mask], atol=1e-4, rtol=0
                )
                compared += len(response)
    assert 0 < outside < compared
