"""Both engines sample from the model they were given, and report the right probabilities."""

from __future__ import annotations

import json
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ray.util import placement_group_table
from transformers import PreTrainedModel

from rllib_dapo.models import load_causal_lm, load_tokenizer, prompt_token_ids
from rllib_dapo.rollout.engine import Completion, Engine, Request, Sampling
from rllib_dapo.rollout.make_engine import make_engine

SAMPLING = Sampling(num_responses=6, max_tokens=2, temperature=0.7)
SEEDS = list(range(100, 109))
# Every engine, and every way to spread vLLM's over two workers.
ENGINES: dict[str, dict[str, Any]] = {
    "vllm": {},
    "transformers": {},
    "vllm, tensor parallel": {"tensor_parallel_size": 2},
    "vllm, pipeline parallel": {"pipeline_parallel_size": 2},
    "vllm, tensor parallel on Ray": {"tensor_parallel_size": 2, "executor": "ray"},
    "vllm, pipeline parallel on Ray": {"pipeline_parallel_size": 2, "executor": "ray"},
}


@pytest.fixture(scope="module")
def prompts(raw_model: Path) -> list[list[int]]:
    tokenizer = load_tokenizer(raw_model)
    return [prompt_token_ids(tokenizer, f"{a}+{b}=") for a in range(3) for b in range(3)]


@pytest.fixture(scope="module")
def long_prompt(raw_model: Path) -> list[int]:
    """A prompt that fills blocks of vLLM's cache: asked again, its beginning is found there."""
    return prompt_token_ids(load_tokenizer(raw_model), "+".join("1234567890" * 15) + "=")


@pytest.fixture(scope="module")
def model(raw_model: Path) -> PreTrainedModel:
    return load_causal_lm(raw_model, dtype=torch.float32)


@pytest.fixture(scope="module")
def other_model(other_raw_model: Path) -> PreTrainedModel:
    return load_causal_lm(other_raw_model, dtype=torch.float32)


def start(name: str, folder: Path) -> Engine:
    return make_engine(
        name.partition(",")[0],
        model=str(folder),
        dtype="float32",
        trust_remote_code=False,
        max_model_len=400,
        max_concurrent_responses=16,
        cpu_kv_cache_gib=0.25,
        seed=0,
        engine_kwargs={},
        **ENGINES[name],
    )


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(
            name,
            marks=[
                *([pytest.mark.slow] if layout else []),
                *([pytest.mark.exhaustive] if "executor" in layout else []),
            ],
        )
        for name, layout in ENGINES.items()
    ],
)
def started(request: pytest.FixtureRequest, raw_model: Path) -> Iterator[Engine]:
    if ENGINES[request.param].get("executor") != "ray":
        engine = start(request.param, raw_model)
        yield engine
        engine.close()
        return

    request.getfixturevalue("cluster")
    groups = placed()
    engine = start(request.param, raw_model)
    yield engine
    engine.close()
    while placed() != groups:  # until the room of its workers is free again
        time.sleep(0.1)


def placed() -> set[str]:
    """The placement groups that hold room in this process's Ray."""
    return {name for name, group in placement_group_table().items() if group["state"] != "REMOVED"}


@pytest.fixture
def engine(started: Engine, model: PreTrainedModel) -> Engine:
    """An engine with the weights of `model`, whatever the test before gave it."""
    load(started, model)
    return started


def load(engine: Engine, model: PreTrainedModel) -> None:
    with engine.taking_weights(1):
        engine.load_weights((name, tensor.clone()) for name, tensor in model.state_dict().items())


@torch.no_grad()
def recomputed(model: PreTrainedModel, prompt: list[int], completion: Completion) -> np.ndarray:
    """Log-probabilities of a response at SAMPLING's temperature, from one plain forward pass."""
    ids = torch.tensor([[*prompt, *completion.token_ids.tolist()]])
    logprobs = (model(ids).logits[0, len(prompt) - 1 : -1] / SAMPLING.temperature).log_softmax(-1)
    return logprobs.gather(-1, ids[0, len(prompt) :, None]).squeeze(-1).numpy()


def largest_gap(
    model: PreTrainedModel, prompts: list[list[int]], groups: list[list[Completion]]
) -> float:
    """Largest difference between reported and recomputed log-probabilities."""
    return max(
        float(np.abs(completion.logprobs - recomputed(model, prompt, completion)).max())
        for prompt, group in zip(prompts, groups, strict=True)
        for completion in group
    )


def tokens(groups: list[list[Completion]]) -> list[list[list[int]]]:
    return [[completion.token_ids.tolist() for completion in group] for group in groups]


def test_reported_logprobs_are_those_of_a_plain_forward_pass(
    engine: Engine, model: PreTrainedModel, prompts: list[list[int]]
) -> None:
    groups = engine.generate(prompts, sampling=SAMPLING, seeds=SEEDS)
    assert [len(group) for group in groups] == [6] * 9
    assert largest_gap(model, prompts, groups) < 1e-4


def test_a_response_ends_with_its_end_of_sequence_token_or_at_the_limit(
    engine: Engine, model: PreTrainedModel, prompts: list[list[int]]
) -> None:
    groups = engine.generate(prompts, sampling=SAMPLING, seeds=SEEDS)

    end = model.generation_config.eos_token_id
    for completion in (c for group in groups for c in group):
        ids = completion.token_ids.tolist()
        assert completion.token_ids.dtype == np.int32
        assert completion.logprobs.dtype == np.float32
        assert len(ids) == len(completion.logprobs)
        assert end not in ids[:-1]
        assert completion.finish_reason == ("stop" if ids[-1] == end else "length")
        assert completion.finish_reason == "stop" or len(ids) == SAMPLING.max_tokens

    assert {c.finish_reason for group in groups for c in group} == {"stop", "length"}


def test_a_seed_fixes_a_prompts_responses_whatever_else_is_in_the_batch(
    engine: Engine, prompts: list[list[int]]
) -> None:
    together = tokens(engine.generate(prompts, sampling=SAMPLING, seeds=SEEDS))
    alone = [
        tokens(engine.generate([prompt], sampling=SAMPLING, seeds=[seed]))[0]
        for prompt, seed in zip(prompts, SEEDS, strict=True)
    ]
    backwards = tokens(engine.generate(prompts[::-1], sampling=SAMPLING, seeds=SEEDS[::-1]))
    assert together == alone == backwards[::-1]


def test_seeds_and_responses_of_a_group_draw_differently(
    engine: Engine, prompts: list[list[int]]
) -> None:
    sampling = replace(SAMPLING, num_responses=16)
    groups = tokens(engine.generate([prompts[4]] * 4, sampling=sampling, seeds=[1, 2, 3, 4]))
    assert len({str(group) for group in groups}) == 4
    assert all(len({str(ids) for ids in group}) > 1 for group in groups)


def test_tokens_are_drawn_as_often_as_their_probability_says(
    engine: Engine, model: PreTrainedModel, prompts: list[list[int]]
) -> None:
    count = 1000
    sampling = replace(SAMPLING, num_responses=count, max_tokens=1)
    (group,) = engine.generate([prompts[4]], sampling=sampling, seeds=[5])

    drawn = Counter(int(completion.token_ids[0]) for completion in group)
    with torch.no_grad():
        probabilities = (
            model(torch.tensor([prompts[4]])).logits[0, -1] / SAMPLING.temperature
        ).softmax(-1)
    distance = (
        sum(abs(drawn[token] / count - p) for token, p in enumerate(probabilities.tolist())) / 2
    )
    assert len(drawn) > 5
    # A thousand draws are off by about 0.04; at temperature 1.0 or 0.5 it would be 0.1.
    assert distance < 0.06


def test_temperature_0_takes_the_likeliest_token_each_time(
    engine: Engine, model: PreTrainedModel, prompts: list[list[int]]
) -> None:
    greedy = Sampling(num_responses=2, max_tokens=2, temperature=0, top_p=0.5)
    for prompt, group in zip(
        prompts, tokens(engine.generate(prompts, sampling=greedy, seeds=SEEDS)), strict=True
    ):
        assert group[0] == group[1]
        with torch.no_grad():
            for place, token in enumerate(group[0]):
                ids = torch.tensor([[*prompt, *group[0][:place]]])
                assert token == int(model(ids).logits[0, -1].argmax())


def test_some_places_of_a_group_are_what_they_are_in_the_whole_group(
    engine: Engine, prompts: list[list[int]]
) -> None:
    (whole,) = tokens(engine.generate(prompts[:1], sampling=SAMPLING, seeds=SEEDS[:1]))
    engine.add(
        Request(key=3, prompt_ids=prompts[0], sampling=SAMPLING, seed=SEEDS[0], places=[1, 4])
    )
    found = {}
    while not engine.is_idle:
        found |= {(f.key, f.index): f.completion.token_ids.tolist() for f in engine.step()}
    assert found == {(3, 1): whole[1], (3, 4): whole[4]}


def test_new_weights_are_what_is_sampled_from(
    engine: Engine,
    model: PreTrainedModel,
    other_model: PreTrainedModel,
    prompts: list[list[int]],
    long_prompt: list[int],
) -> None:
    asked, seeds = [*prompts, long_prompt], [*SEEDS, 1]
    before = engine.generate(asked, sampling=SAMPLING, seeds=seeds)

    load(engine, other_model)
    changed = engine.generate(asked, sampling=SAMPLING, seeds=seeds)
    assert largest_gap(other_model, asked, changed) < 1e-4
    assert largest_gap(model, asked, changed) > 0.1

    load(engine, model)
    again = engine.generate(asked, sampling=SAMPLING, seeds=seeds)
    assert tokens(again) == tokens(before)
    assert largest_gap(model, asked, again) < 1e-4


def test_new_weights_forget_what_the_old_ones_cached_of_a_prompt(
    engine: Engine, model: PreTrainedModel, other_model: PreTrainedModel, long_prompt: list[int]
) -> None:
    for _ in range(2):  # the second time from the cache
        groups = engine.generate([long_prompt], sampling=SAMPLING, seeds=[1])
        assert largest_gap(model, [long_prompt], groups) < 1e-4

    load(engine, other_model)
    groups = engine.generate([long_prompt], sampling=SAMPLING, seeds=[1])
    assert largest_gap(other_model, [long_prompt], groups) < 1e-4


def test_no_prompt_gives_no_responses(engine: Engine) -> None:
    assert engine.generate([], sampling=SAMPLING, seeds=[]) == []


def test_an_engine_goes_on_after_an_abort(
    engine: Engine, model: PreTrainedModel, prompts: list[list[int]]
) -> None:
    engine.abort()
    groups = engine.generate(prompts, sampling=SAMPLING, seeds=SEEDS)
    assert largest_gap(model, prompts, groups) < 1e-4


def test_a_weight_that_is_not_given_is_named(engine: Engine, model: PreTrainedModel) -> None:
    """vLLM would go on with the old one, and log a warning at most."""
    weights = model.state_dict()
    del weights["model.layers.1.mlp.down_proj.weight"]
    with pytest.raises((RuntimeError, ValueError), match=r"model\.layers\.1\.mlp\.down_proj"):
        engine.load_weights(iter(weights.items()))


def test_an_engine_samples_from_all_of_a_version_or_not_at_all(
    engine: Engine,
    model: PreTrainedModel,
    other_model: PreTrainedModel,
    prompts: list[list[int]],
) -> None:
    """A hand-over breaks in the middle: some of the engine's weights are new then, some old."""

    def cut() -> Iterator[tuple[str, torch.Tensor]]:
        weights = list(other_model.state_dict().items())
        yield from weights[: len(weights) // 2]
        raise ConnectionError("the Learner is gone")

    with pytest.raises(ConnectionError), engine.taking_weights(7):
        engine.load_weights(cut())
    with pytest.raises(RuntimeError, match="the engine holds half of version 7 of the weights"):
        engine.generate(prompts, sampling=SAMPLING, seeds=SEEDS)

    # The next hand-over does not add to what came of the first one.
    load(engine, other_model)
    groups = engine.generate(prompts, sampling=SAMPLING, seeds=SEEDS)
    assert largest_gap(other_model, prompts, groups) < 1e-4
    assert largest_gap(model, prompts, groups) > 0.1


def test_bfloat16_weights_arrive_as_they_are(
    engine: Engine, other_model: PreTrainedModel, prompts: list[list[int]]
) -> None:
    rounded = {name: tensor.bfloat16() for name, tensor in other_model.state_dict().items()}
    with engine.taking_weights(2):
        engine.load_weights(iter(rounded.items()))

    expected = deepcopy(other_model)
    expected.load_state_dict(rounded)
    groups = engine.generate(prompts, sampling=SAMPLING, seeds=SEEDS)
    assert largest_gap(expected, prompts, groups) < 1e-4


@pytest.mark.parametrize("kind", ["transformers", pytest.param("vllm", marks=pytest.mark.slow)])
def test_sampling_that_the_models_files_recommend_is_not_used(
    raw_model: Path, prompts: list[list[int]], tmp_path: Path, kind: str
) -> None:
    """The Learner would know nothing of it."""
    folder = tmp_path / "model"
    shutil.copytree(raw_model, folder)
    recommended = json.loads((folder / "generation_config.json").read_text())
    recommended |= {"repetition_penalty": 1.5, "min_new_tokens": 2, "top_k": 3, "temperature": 0.1}
    (folder / "generation_config.json").write_text(json.dumps(recommended))

    def sampled(folder: Path) -> list[list[list[int]]]:
        engine = start(kind, folder)
        try:
            return tokens(engine.generate(prompts, sampling=SAMPLING, seeds=SEEDS))
        finally:
            engine.close()

    assert sampled(folder) == sampled(raw_model)


def test_an_engine_in_its_sleep_refuses_until_it_has_weights_and_cache(
    engine: Engine, model: PreTrainedModel, prompts: list[list[int]]
) -> None:
    if type(engine).__name__ == "TransformersEngine":
        with pytest.raises(NotImplementedError, match="TransformersEngine cannot sleep"):
            engine.sleep()
        return

    before = engine.generate(prompts, sampling=SAMPLING, seeds=SEEDS)
    engine.add(Request(key=0, prompt_ids=prompts[0], sampling=SAMPLING, seed=0))
    engine.wake("weights")  # it is awake
    for _ in range(2):  # the second time it sleeps already
        engine.sleep()
    assert engine.is_idle, "what was under way is given up"

    def refused(act: Callable[[], Any]) -> None:
        with pytest.raises(RuntimeError, match=r"the engine sleeps \(rollout\.colocate\)"):
            act()

    request = Request(key=1, prompt_ids=prompts[0], sampling=SAMPLING, seed=0)
    for act in (
        lambda: engine.add(request),
        engine.step,
        lambda: engine.weight_checksums([]),
        lambda: engine.start_transfer(2),
        lambda: engine.receive_transfer({}),
        lambda: engine.load_weights(iter(model.state_dict().items())),
    ):
        refused(act)

    engine.wake("weights")
    load(engine, model)
    refused(lambda: engine.add(request))
    engine.wake("kv_cache")
    after = engine.generate(prompts, sampling=SAMPLING, seeds=SEEDS)
    assert [[c.token_ids.tolist() for c in group] for group in after] == [
        [c.token_ids.tolist() for c in group] for group in before
    ]
