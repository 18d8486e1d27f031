"""`rollout.sampling` and `evaluation.evaluation_sampling`: what is refused, what they come to."""

from __future__ import annotations

from typing import Any

import pytest

from rllib_dapo import DAPOConfig
from rllib_dapo.config.sampling_checks import check_sampling
from rllib_dapo.core import SamplingSet
from rllib_dapo.rollout.sampling_options import SamplingOptions
from rllib_dapo.rollout.sampling_settings import (
    evaluation_options,
    refuse_unknown_tokens,
    sampling_of,
    trained_sampling_set,
)

TRAINING, EVALUATION = "rollout.sampling", "evaluation.evaluation_sampling"


def make(
    sampling: dict[str, Any] | None = None, evaluation: dict[str, Any] | None = None, **rollout: Any
) -> DAPOConfig:
    return (
        DAPOConfig()
        .language_model("tiny")
        .rollout(sampling=sampling or {}, **rollout)
        .evaluation(evaluation_sampling=evaluation or {})
    )


@pytest.mark.parametrize(
    ("sampling", "said"),
    [
        ({"topk": 3}, "unknown setting rollout.sampling.topk; did you mean 'top_k'?"),
        ({"stops": "a"}, "unknown setting rollout.sampling.stops; did you mean 'stop'?"),
        ({"top_p": 0.9}, "unknown setting rollout.sampling.top_p: use rollout.top_p"),
        ({"max_tokens": 9}, ".max_tokens: use rollout.max_response_tokens"),
        ({"stop": ["a", ""]}, ".stop=['a', ''] must be a text or a list of texts, none of them em"),
        ({"stop": 3}, ".stop=3 must be a text or a list of texts"),
        ({"stop_token_ids": ["a"]}, ".stop_token_ids=['a'] must be a list of token ids"),
        ({"stop_token_ids": [-1]}, ".stop_token_ids=[-1] must be a list of token ids"),
        ({"stop_token_ids": [True]}, ".stop_token_ids=[True] must be a list of token ids"),
        ({"stop": "a", "include_stop": "no"}, ".include_stop='no' must be true or false"),
        ({"include_stop": False}, ".include_stop=False does nothing without stop or stop_token_"),
        ({"top_k": 1.5}, ".top_k=1.5 must be a whole number"),
        ({"top_k": -1}, ".top_k=-1 must be at least 0: 0 keeps all tokens"),
        ({"top_k": 1}, ".top_k=1 leaves the likeliest token alone, so that all responses are eq"),
        ({"min_p": 1.1}, ".min_p=1.1 must lie in [0, 1]"),
        ({"min_p": float("nan")}, ".min_p=nan must be a number"),
        ({"min_p": 1.0}, ".min_p=1.0 leaves the likeliest token alone"),
        ({"repetition_penalty": 0}, ".repetition_penalty=0 must be positive"),
        ({"presence_penalty": 2.5}, ".presence_penalty=2.5 must lie in [-2, 2]"),
        ({"frequency_penalty": -3}, ".frequency_penalty=-3 must lie in [-2, 2]"),
        ({"bad_words": [""]}, ".bad_words=[''] must be a text or a list of texts"),
        ({"regex": 3}, ".regex=3 must be text"),
        ({"json_schema": 3}, ".json_schema=3 must be a JSON schema"),
    ],
    ids=str,
)
def test_each_wrong_option_is_one_line_before_anything_is_loaded(
    sampling: dict[str, Any], said: str
) -> None:
    (finding,) = check_sampling(make(sampling))
    assert said in finding
    assert finding.startswith((TRAINING, f"unknown setting {TRAINING}"))
    with pytest.raises(ValueError, match=TRAINING):
        make(sampling).validate()


@pytest.mark.parametrize(
    ("evaluation", "said"),
    [
        ({"regex": "("}, ".regex cannot be followed"),
        ({"json_schema": {"type": "objekt"}}, ".json_schema cannot be followed"),
        ({"json_schema": "{"}, ".json_schema cannot be followed"),
        ({"json_schema": "[1]"}, ".json_schema cannot be followed"),
        ({"regex": "a", "choice": ["a"]}, "regex and choice exclude each other"),
        ({"top_p": 0.9}, ".top_p: use evaluation.evaluation_top_p"),
    ],
    ids=str,
)
def test_what_evaluations_cannot_do_is_refused_too(evaluation: dict[str, Any], said: str) -> None:
    pytest.importorskip("llguidance", reason="vLLM's parser of grammars is not installed")
    (finding,) = check_sampling(make(evaluation=evaluation))
    assert said in finding
    assert EVALUATION in finding


OF_TEXT: list[dict[str, Any]] = [
    {"repetition_penalty": 1.2},
    {"presence_penalty": 0.5},
    {"frequency_penalty": -0.5},
    {"bad_words": ["so"]},
    {"regex": r"\p{L}+|[0-9]{2}"},
    {"choice": ["yes", "no"]},
    {"json_schema": {"type": "object"}},
]


@pytest.mark.parametrize("options", OF_TEXT, ids=str)
def test_what_depends_on_the_text_is_for_evaluations_with_vllm_alone(
    options: dict[str, Any],
) -> None:
    (name,) = options
    make(evaluation=options).validate()

    (trained,) = check_sampling(make(options))
    assert trained.startswith(f"{TRAINING}.{name}=")
    assert trained.endswith(
        f"leave it out, or set it for evaluations alone, as {EVALUATION}.{name}"
    )
    (other,) = check_sampling(make(evaluation=options, engine="transformers"))
    assert other.startswith(f"{EVALUATION}.{name} needs rollout.engine=vllm")


def test_right_options_are_taken_a_text_stands_for_a_list_and_null_for_a_default() -> None:
    sampling = {"stop": "\n", "stop_token_ids": 7, "include_stop": False, "top_k": 5, "min_p": None}
    config = make(sampling)
    config.validate()
    assert sampling_of(config, evaluation=False).options == SamplingOptions(
        stop=("\n",), stop_token_ids=(7,), include_stop=False, top_k=5
    )


def test_evaluations_sample_as_training_does_but_for_what_they_change() -> None:
    config = make(
        {"stop": ["\n", "."], "top_k": 5}, {"top_k": None, "min_p": 0.1, "json_schema": {"a": 1}}
    )
    assert sampling_of(config, evaluation=False).options == SamplingOptions(
        stop=("\n", "."), top_k=5
    )
    options = evaluation_options(config)
    assert sampling_of(config, evaluation=True).options == options
    assert options.given() == {"stop": ("\n", "."), "min_p": 0.1, "json_schema": '{"a": 1}'}


def test_learners_are_given_the_set_that_training_samples_from() -> None:
    config = make({"top_k": 5, "min_p": 0.1}, {"top_k": 7}, top_p=0.9)
    assert trained_sampling_set(config) == SamplingSet(top_k=5, top_p=0.9, min_p=0.1)
    assert config.model_config["sampling_set"] == {"top_k": 5, "top_p": 0.9, "min_p": 0.1}
    assert trained_sampling_set(make()).is_whole


def test_a_stop_token_that_the_model_does_not_have_is_refused_by_its_id() -> None:
    refuse_unknown_tokens(make({"stop_token_ids": [9]}), vocabulary=10)
    with pytest.raises(ValueError, match=r"rollout\.sampling\.stop_token_ids holds 10, and the"):
        refuse_unknown_tokens(make({"stop_token_ids": [10]}), vocabulary=10)
    with pytest.raises(ValueError, match=r"evaluation\.evaluation_sampling\.stop_token_ids"):
        refuse_unknown_tokens(make(evaluation={"stop_token_ids": 10}), vocabulary=10)
