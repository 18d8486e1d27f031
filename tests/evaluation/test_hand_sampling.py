"""Prompts that somebody types: rendered as in training, checked, and answered."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from rllib_dapo.evaluation.hand_sampling import prepare_sampling, sample_prompts
from rllib_dapo.findings import SettingsError
from rllib_dapo.models import load_causal_lm, load_tokenizer, prompt_token_ids

Invoke = Callable[..., subprocess.CompletedProcess[str]]
QUICK = {
    "rollout.engine": "transformers",
    "rollout.max_prompt_tokens": 24,
    "rollout.max_response_tokens": 8,
    "language_model.num_threads": 1,
    "language_model.dtype": "float32",
}


def prepared(
    model: Path,
    *prompts: str,
    num_responses: int = 1,
    is_greedy: bool = False,
    **settings: Any,
) -> Any:
    given = QUICK | {name.replace("__", "."): value for name, value in settings.items()}
    return prepare_sampling(
        str(model),
        prompts,
        num_responses=num_responses,
        is_greedy=is_greedy,
        overrides=[f"{name}={value}" for name, value in given.items()],
    )


def test_responses_are_to_the_prompt_in_the_models_own_rendering(raw_model: Path) -> None:
    tokenizer = load_tokenizer(raw_model)
    model = load_causal_lm(raw_model, dtype=torch.float32)
    asked = prepared(raw_model, "1+1=", "2+3=", num_responses=3, rollout__temperature=0.8)
    responses = list(sample_prompts(asked))
    assert [(r.prompt.text, r.index) for r in responses] == [
        (text, index) for text in ("1+1=", "2+3=") for index in range(3)
    ]

    for response in responses:
        ids = prompt_token_ids(tokenizer, response.prompt.text)
        assert list(response.prompt.token_ids) == ids
        tokens = response.completion.token_ids.tolist()
        assert response.text == tokenizer.decode(tokens, skip_special_tokens=True)
        with torch.no_grad():
            logits = model(torch.tensor([ids + tokens])).logits[0, len(ids) - 1 : -1] / 0.8
        expected = logits.log_softmax(-1)[torch.arange(len(tokens)), torch.tensor(tokens)]
        assert response.completion.logprobs == pytest.approx(expected.numpy(), abs=1e-4)


def test_the_seed_decides(raw_model: Path) -> None:
    def texts(seed: int) -> list[str]:
        asked = prepared(raw_model, "1+1=", num_responses=6, debugging__seed=seed)
        return [response.text for response in sample_prompts(asked)]

    assert texts(3) == texts(3)
    assert texts(3) != texts(4)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_responses": 0}, "-n 0: must be at least 1"),
        ({"num_responses": 2, "is_greedy": True}, "2 equal responses: use -n 1"),
        ({"rollout__max_prompt_tokens": 2}, "has 5 tokens, and rollout.max_prompt_tokens=2"),
        ({"rollout__temperature": -1}, "rollout.temperature=-1"),
        ({"training__lr": 1}, "training has no part in an evaluation"),
        ({"rollout__engine": "llama"}, "rollout.engine='llama'"),
    ],
)
def test_what_cannot_be_sampled_is_refused_in_one_line(
    raw_model: Path, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(SettingsError) as refused:
        prepared(raw_model, "1+1=", **settings)
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


def test_the_command_prints_text_or_json(
    raw_model: Path, invoke_command: Invoke, tmp_path: Path
) -> None:
    words = ("sample", raw_model, "1+1=", "-n", 2, "--max-tokens", 4, "--seed", 1)
    settings = {name: value for name, value in QUICK.items() if "response" not in name}
    plain = invoke_command(*words, settings=settings, folder=tmp_path)
    assert plain.returncode == 0, plain.stderr
    lines = invoke_command(*words, "--json", settings=settings, folder=tmp_path).stdout
    told = [json.loads(line) for line in lines.splitlines()]

    assert [one["index"] for one in told] == [0, 1]
    expected = ""
    for one in told:
        length = len(one["token_ids"])
        assert 1 <= length == len(one["logprobs"]) <= 4
        title = f"--- 1+1= [{one['index'] + 1}, {length} tokens, {one['finish_reason']}]"
        expected += f"{title}\n{one['response']}\n"
    assert plain.stdout == expected

    alone = invoke_command(
        "sample", raw_model, "1+1=", "--temperature", 0, settings=QUICK, folder=tmp_path
    )
    assert alone.stdout.count("\n") == 1
    assert "---" not in alone.stdout
    assert not list(tmp_path.iterdir())


def test_the_command_refuses_a_model_that_is_not_there(
    invoke_command: Invoke, tmp_path: Path
) -> None:
    done = invoke_command("sample", "./nowhere", "1+1=", folder=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert len(done.stderr.splitlines()) == 1
