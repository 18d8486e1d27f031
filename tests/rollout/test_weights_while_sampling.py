"""New weights between two steps of an engine: responses go on, and each token has its version."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import PreTrainedModel

from rllib_dapo.models import load_causal_lm, load_tokenizer, prompt_token_ids
from rllib_dapo.rollout.engine import Completion, Engine, FinishedResponse, Request, Sampling
from rllib_dapo.rollout.make_engine import make_engine

SAMPLING = Sampling(num_responses=16, max_tokens=12, temperature=2.0)
STEPS = 2  # before the new weights come


@pytest.fixture(scope="module")
def models(raw_model: Path, other_raw_model: Path) -> dict[int, PreTrainedModel]:
    """By the version of their weights."""
    folders = {1: raw_model, 2: other_raw_model}
    return {
        version: load_causal_lm(folder, dtype=torch.float32) for version, folder in folders.items()
    }


@pytest.fixture(scope="module")
def prompt(raw_model: Path) -> list[int]:
    """It fills blocks of vLLM's cache: asked again, its beginning is found there."""
    return prompt_token_ids(load_tokenizer(raw_model), "+".join("1234567890" * 15) + "=")


@pytest.fixture(scope="module", params=["vllm", "transformers"])
def engine(request: pytest.FixtureRequest, raw_model: Path) -> Iterator[Engine]:
    made = make_engine(
        request.param,
        model=str(raw_model),
        dtype="float32",
        trust_remote_code=False,
        max_model_len=400,
        max_concurrent_responses=SAMPLING.num_responses,
        cpu_kv_cache_gib=0.25,
        seed=0,
        engine_kwargs={},
    )
    yield made
    made.close()


def load(engine: Engine, models: dict[int, PreTrainedModel], version: int) -> None:
    with engine.taking_weights(version):
        engine.load_weights((n, t.clone()) for n, t in models[version].state_dict().items())


def finish(engine: Engine) -> list[FinishedResponse]:
    finished = []
    while not engine.is_idle:
        finished += engine.step()
    return finished


@torch.no_grad()
def recomputed(
    models: dict[int, PreTrainedModel], prompt: list[int], completion: Completion
) -> np.ndarray:
    """Log-probabilities of a response, each token by the weights that its version names.

    What older weights have computed of earlier tokens stays as it is, as in an engine's cache.
    """
    ids = torch.tensor([[*prompt, *completion.token_ids.tolist()]])
    starts = completion.version_starts
    stops = [len(prompt) + start - 1 for start, _ in starts[1:]] + [ids.shape[1] - 1]
    cache, begin, logits = None, 0, []
    for (_, version), stop in zip(starts, stops, strict=True):
        out = models[version](ids[:, begin:stop], past_key_values=cache, use_cache=True)
        cache, begin = out.past_key_values, stop
        logits.append(out.logits[0])
    logprobs = (torch.cat(logits)[len(prompt) - 1 :] / SAMPLING.temperature).log_softmax(-1)
    return logprobs.gather(-1, ids[0, len(prompt) :, None]).squeeze(-1).numpy()


def largest_gap(
    models: dict[int, PreTrainedModel], prompt: list[int], finished: list[FinishedResponse]
) -> float:
    return max(
        float(np.abs(one.completion.logprobs - recomputed(models, prompt, one.completion)).max())
        for one in finished
    )


def test_responses_under_way_go_on_under_new_weights_and_new_ones_see_nothing_of_the_old(
    engine: Engine, models: dict[int, PreTrainedModel], prompt: list[int]
) -> None:
    load(engine, models, 1)
    engine.add(Request(key=0, prompt_ids=prompt, sampling=SAMPLING, seed=0))
    engine.add(Request(key=1, prompt_ids=prompt, sampling=SAMPLING, seed=100))
    early = [one for _ in range(STEPS) for one in engine.step()]
    load(engine, models, 2)
    engine.add(Request(key=2, prompt_ids=prompt, sampling=SAMPLING, seed=200))
    late = finish(engine)

    versions = {
        key: {one.completion.version_starts for one in early + late if one.key == key}
        for key in (0, 1, 2)
    }
    assert all(len(one.completion.token_ids) for one in early + late)
    assert versions[2] == {((0, 2),)}
    if engine.__class__.__name__ == "VLLMEngine":
        # Some have ended by then, some go on, and some are not begun.
        mixed = {starts for starts in versions[0] | versions[1] if len(starts) == 2}
        assert mixed
        assert all(starts in {((0, 1), (k, 2)) for k in range(1, STEPS + 1)} for starts in mixed)
    else:  # a step is a whole group
        assert versions[0] == versions[1] == {((0, 1),)}
    assert largest_gap(models, prompt, early + late) < 1e-4
    # They are two models.
    swapped = {1: models[2], 2: models[1]}
    assert largest_gap(swapped, prompt, early + late) > 0.1


def test_weights_for_an_idle_engine_leave_nothing_of_the_old_either(
    engine: Engine, models: dict[int, PreTrainedModel], prompt: list[int]
) -> None:
    for version in (1, 2, 1):
        load(engine, models, version)
        engine.add(Request(key=0, prompt_ids=prompt, sampling=SAMPLING, seed=0))
        finished = finish(engine)
        assert {one.completion.version_starts for one in finished} == {((0, version),)}
        assert largest_gap(models, prompt, finished) < 1e-4
