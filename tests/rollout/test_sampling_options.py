"""`rollout.sampling` with real engines: stop strings, episodes of several turns, and the rest.

The model is random and its tokenizer works on bytes, with tokens of several characters: stop
strings begin and end inside tokens, and characters come in halves.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from ray.rllib.core import DEFAULT_MODULE_ID
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedTokenizerFast

from rllib_dapo import DAPOConfig
from rllib_dapo.core import PromptGroup
from rllib_dapo.envs import TextSpace
from rllib_dapo.models import load_tokenizer
from rllib_dapo.rollout.engine import Completion, Engine, Request, Sampling
from rllib_dapo.rollout.env_runner import TextEnvRunner
from rllib_dapo.rollout.sampling_options import SamplingOptions
from rllib_dapo.rollout.stop_strings import Decode, plain_decode, read_text

TEXT = "the answer is 42.\nand then we end here: the end.\n\nso there it is, is it not?\n" * 3
STOP = ("en", "\n", "s ", "é")
RESPONSES, TOKENS = 16, 40
SAMPLING = Sampling(num_responses=RESPONSES, max_tokens=TOKENS, temperature=1.3)


class TalkEnv(gym.Env):
    """Takes three responses and repeats how long each was."""

    def __init__(self, config: dict[str, Any]) -> None:
        self.observation_space = self.action_space = TextSpace(1000)

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> tuple[str, dict]:
        super().reset(seed=seed)
        self.heard: list[str] = []
        return f"the {seed} is ", {}

    def step(self, action: str) -> tuple[str, float, bool, bool, dict]:
        self.heard.append(action)
        return f" {len(action)} so ", float(len(action) % 2), len(self.heard) == 3, False, {}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random model and a tokenizer of bytes and a few dozen longer tokens."""
    folder = tmp_path_factory.mktemp("model")
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=340,
        special_tokens=["<eos>", "<think>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        max_token_length=5,
        show_progress=False,
    )
    tokenizer.train_from_iterator([TEXT], trainer)
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<eos>").save_pretrained(folder)

    config = LlamaConfig(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        bos_token_id=None,
        eos_token_id=0,
    )
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        model.lm_head.weight.mul_(8)
    model.save_pretrained(folder)
    return folder


@pytest.fixture(
    scope="module", params=["transformers", pytest.param("vllm", marks=pytest.mark.slow)]
)
def runner(request: pytest.FixtureRequest, folder: Path) -> Iterator[TextEnvRunner]:
    config = (
        DAPOConfig()
        .environment(TalkEnv)
        .language_model(str(folder), dtype="float32", num_threads=1)
        .rollout(
            engine=request.param,
            cpu_kv_cache_gib=0.25,
            max_prompt_tokens=24,
            max_response_tokens=80,
            temperature=1.3,
            skip_special_tokens=False,
        )
        .training(prompts_per_step=2, group_size=8, minibatch_size=16)
        .overlong(buffer_tokens=2)
        .env_runners(num_env_runners=0)
    )
    runner = TextEnvRunner(config=config)
    yield runner
    runner.stop()


@pytest.fixture(scope="module")
def engine(runner: TextEnvRunner) -> Engine:
    return runner.module[DEFAULT_MODULE_ID].engine


def sampled(engine: Engine, **options: Any) -> list[Completion]:
    sampling = replace(SAMPLING, options=SamplingOptions(**options))
    (completions,) = engine.generate([[60, 70, 80]], sampling=sampling, seeds=[5])
    return completions


@pytest.fixture(scope="module")
def unstopped(engine: Engine) -> list[Completion]:
    """What is sampled with the same seeds where nothing but the model stops a response."""
    return sampled(engine)


def assert_begins(part: Completion, whole: Completion) -> None:
    length = len(part.token_ids)
    assert part.token_ids.tolist() == whole.token_ids[:length].tolist()
    np.testing.assert_allclose(part.logprobs, whole.logprobs[:length], atol=1e-4)


@pytest.mark.parametrize("include_stop", [True, False])
def test_a_stop_string_ends_a_response_at_the_first_token_that_completes_it(
    include_stop: bool, engine: Engine, unstopped: list[Completion], folder: Path
) -> None:
    decode = plain_decode(load_tokenizer(folder))
    stopped = sampled(engine, stop=STOP, include_stop=include_stop)
    inside = 0

    for one, whole in zip(stopped, unstopped, strict=True):
        assert_begins(one, whole)
        ids = whole.token_ids.tolist()
        ends = [n for n in range(1, len(ids) + 1) if any(s in decode(ids[:n]) for s in STOP)]
        if not ends:
            assert (len(one.token_ids), one.finish_reason) == (len(ids), whole.finish_reason)
            continue

        # A stop string is an end of the policy's own, even where it is the last token that fits.
        assert one.finish_reason == "stop"
        before = min(decode(ids[: ends[0]]).partition(stop)[0] for stop in STOP)
        if include_stop:
            assert len(one.token_ids) == ends[0]
            assert read_text(one, decode) == decode(ids[: ends[0]])
        else:
            assert read_text(one, decode) == before
            assert len(one.token_ids) <= ends[0]
            inside += one.unread > 0 and len(one.token_ids) > 1
    assert include_stop or inside, "no stop string began inside a token"
    assert sum(one.finish_reason == "stop" for one in stopped) > RESPONSES / 2


def test_a_stop_string_on_the_last_token_that_fits_is_no_truncation(
    engine: Engine, folder: Path
) -> None:
    decode = plain_decode(load_tokenizer(folder))
    one = next(c for c in sampled(engine, stop=STOP) if len(c.token_ids) > 1)
    assert any(stop in decode(one.token_ids.tolist()) for stop in STOP)

    sampling = replace(SAMPLING, max_tokens=len(one.token_ids), options=SamplingOptions(stop=STOP))
    (again,) = engine.generate([[60, 70, 80]], sampling=sampling, seeds=[5])
    same = next(c for c in again if c.token_ids.tolist() == one.token_ids.tolist())
    assert same.finish_reason == "stop"


def test_a_special_token_may_be_a_stop_string_and_an_id_may_stop(
    engine: Engine, unstopped: list[Completion], folder: Path
) -> None:
    think = load_tokenizer(folder).convert_tokens_to_ids("<think>")
    frequent = int(np.bincount(np.concatenate([c.token_ids for c in unstopped])[1:]).argmax())
    for options, token in (
        ({"stop": ("<think>",)}, think),
        ({"stop_token_ids": (frequent,)}, frequent),
    ):
        for include_stop in (True, False):
            stopped = sampled(engine, include_stop=include_stop, **options)
            for one, whole in zip(stopped, unstopped, strict=True):
                assert_begins(one, whole)
                ids = whole.token_ids.tolist()
                if token not in ids:
                    assert len(one.token_ids) == len(ids)
                    continue
                assert one.finish_reason == "stop"
                assert len(one.token_ids) == max(1, ids.index(token) + include_stop)


def test_the_models_own_end_is_no_text_and_always_stays(
    engine: Engine, unstopped: list[Completion], folder: Path
) -> None:
    decode = plain_decode(load_tokenizer(folder))
    ended = 0
    for one, whole in zip(
        sampled(engine, stop=("<eos>", "<e"), include_stop=False), unstopped, strict=True
    ):
        if "<e" not in decode(whole.token_ids[:-1].tolist()):
            assert one.token_ids.tolist() == whole.token_ids.tolist()
            ended += whole.token_ids[-1] == 0
    assert ended, "no response ended by itself"


@pytest.mark.parametrize("include_stop", [True, False])
def test_turns_end_with_stop_strings_and_trained_ids_are_those_that_were_sampled(
    include_stop: bool, runner: TextEnvRunner, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(
        runner.config.__dict__, "sampling", {"stop": list(STOP), "include_stop": include_stop}
    )
    requests: list[Request] = []
    add = engine.add
    monkeypatch.setattr(engine, "add", lambda request: (requests.append(request), add(request)))
    groups = [
        s.group()
        for s in runner.sample_groups(range(3 * include_stop, 3 * include_stop + 3)).groups
    ]
    monkeypatch.undo()

    turns = [turn for group in groups for r in group.responses for turn in r.turns]
    assert sum(r.num_turns == 3 for g in groups for r in g.responses) > 8
    assert all(r.finish_reason == "length" for g in groups for r in g.responses if r.num_turns < 3)
    has_stop = [any(stop in turn.said for stop in STOP) for turn in turns]
    assert sum(has_stop) > len(turns) / 2 if include_stop else not any(has_stop)

    by_prompt = {tuple(r.prompt_ids): r for r in requests}
    assert_sampled(groups, by_prompt, engine, plain_decode(runner.tokenizer))


def assert_sampled(
    groups: list[PromptGroup],
    by_prompt: dict[tuple[int, ...], Request],
    engine: Engine,
    decode: Decode,
) -> None:
    """Each trained span begins what the engine samples in its place with nothing to stop it."""
    compared = stopped = 0
    for group, index, response in (
        (one, place, response) for one in groups for place, response in enumerate(one.responses)
    ):
        ids = response.token_ids.tolist()
        edges = np.flatnonzero(np.diff(response.loss_mask, prepend=False, append=False))
        assert len(edges) == 2 * response.num_turns

        for turn, (start, stop) in enumerate(zip(edges[::2], edges[1::2], strict=True)):
            # The conversation went on from the ids: the engine was asked to continue these.
            request = by_prompt[(*group.prompt_ids.tolist(), *ids[:start])]
            options = SamplingOptions()
            free = replace(request, sampling=replace(request.sampling, options=options))
            whole = answer(engine, free, index if turn == 0 else 0)
            part = replace(
                whole,
                token_ids=response.token_ids[start:stop],
                logprobs=response.logprobs[start:stop],
            )
            assert_begins(part, whole)

            has_ended = any(one in decode(whole.token_ids.tolist()) for one in STOP)
            has_ended |= whole.finish_reason == "stop"
            if turn == 2:  # the environment has ended the episode
                assert response.finish_reason == ("stop" if has_ended else "length")
            compared, stopped = compared + 1, stopped + has_ended
    assert compared > 30
    assert stopped > compared / 2


def answer(engine: Engine, request: Request, place: int) -> Completion:
    engine.add(replace(request, places=[place]))
    finished = []
    while not engine.is_idle:
        finished += engine.step()
    (one,) = finished
    return one.completion


# What nothing is trained on: vLLM alone


@pytest.fixture
def vllm(runner: TextEnvRunner, engine: Engine) -> Engine:
    if runner.config.engine != "vllm":
        pytest.skip("the transformers engine refuses these")
    return engine


def test_structured_output_bad_words_and_penalties_do_what_they_say(
    vllm: Engine, folder: Path
) -> None:
    decode = load_tokenizer(folder).decode

    def texts(**options: Any) -> list[str]:
        return [decode(c.token_ids, skip_special_tokens=True) for c in sampled(vllm, **options)]

    assert all(re.fullmatch("[0-9]{3}", text) for text in texts(regex="[0-9]{3}"))
    assert set(texts(choice=("yes", "no"))) == {"yes", "no"}
    schema = {
        "type": "object",
        "properties": {"n": {"enum": [1, 2]}},
        "required": ["n"],
        "additionalProperties": False,
    }
    read = [json.loads(text) for text in texts(json_schema=json.dumps(schema)) if "}" in text]
    assert read
    assert {value["n"] for value in read} <= {1, 2}

    assert any("e" in text for text in texts())
    plain, apart = (
        np.mean([len(set(c.token_ids)) / len(c.token_ids) for c in sampled(vllm, **options)])
        for options in ({}, {"presence_penalty": 2.0, "repetition_penalty": 3.0})
    )
    assert plain < apart
    assert not math.isnan(plain)

    # A word of one token, the most frequent one that the tokenizer itself would write so.
    tokenizer = load_tokenizer(folder)
    counts = np.bincount(np.concatenate([c.token_ids for c in sampled(vllm)]))
    common = next(
        int(i) for i in np.argsort(-counts) if tokenizer.encode(decode([int(i)])) == [i] and i > 1
    )
    assert counts[common] > 0
    bad = sampled(vllm, bad_words=(decode([common]),))
    assert not any(common in c.token_ids for c in bad)
