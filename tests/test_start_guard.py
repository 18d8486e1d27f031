"""What a gap between engine and Learner is put down to, from its report alone."""

from __future__ import annotations

from typing import Any

import pytest

from rllib_dapo import DAPOConfig
from rllib_dapo.learner.logprob_gap import GapReport
from rllib_dapo.start_guard import describe_gap

BOS = 1


def report(**values: float | None) -> GapReport:
    defaults = {
        "tokens": 640,
        "mean": 0.4321,
        "largest": 3.21,
        "at_temperature_one": 0.4,
        "in_float32": 0.4,
    }
    return GapReport(**defaults | values)


def cause(
    given: GapReport, config: DAPOConfig, *, prompt_ids: tuple[int, ...] = (BOS, 22, 16)
) -> str:
    line = describe_gap(given, config, prompt_ids=list(prompt_ids), bos_token_id=BOS)
    return line.partition("probable cause: ")[2]


def test_the_line_says_how_large_the_gap_is() -> None:
    line = describe_gap(report(), DAPOConfig(), prompt_ids=[BOS, 22], bos_token_id=BOS)
    assert line.startswith(
        "engine and Learner differ by 0.432 nats per token in the mean and 3.21 at most, "
        "over 640 tokens sampled with the same weights; probable cause: "
    )
    assert "\n" not in line


@pytest.mark.parametrize(
    ("rollout", "said"),
    [
        (
            {"engine_kwargs": {"top_k": 40}},
            "the engine samples from another distribution than the policy: take top_k out of",
        ),
        (
            {"top_p": 0.9, "engine_kwargs": {"min_p": 0.1, "repetition_penalty": 1.1}},
            "the engine samples from another distribution than the policy: take min_p, "
            "repetition_penalty out of rollout.engine_kwargs",
        ),
        ({"top_p": 0.9}, "weights: the engine's are not the Learner's"),
        (
            {"engine_kwargs": {"quantization": "fp8"}},
            "the engine is quantised (rollout.engine_kwargs)",
        ),
        (
            {"engine_kwargs": {"kv_cache_dtype": "fp8"}},
            "the engine is quantised (rollout.engine_kwargs)",
        ),
        (
            {"engine_kwargs": {"gpu_memory_utilization": 0.5}},
            "weights: the engine's are not the Learner's",
        ),
        ({"temperature": 0.7}, "weights: the engine's are not the Learner's"),
    ],
)
def test_settings_that_part_the_two_are_named(rollout: dict[str, Any], said: str) -> None:
    assert cause(report(), DAPOConfig().rollout(**rollout)).startswith(said)


def test_a_gap_that_temperature_one_explains_is_that_of_raw_logprobs() -> None:
    config = DAPOConfig().rollout(temperature=0.7, engine_kwargs={"top_k": 40})
    explained = report(at_temperature_one=0.01)
    assert cause(explained, config).startswith(
        "raw log-probabilities: the engine reports them as before"
    )
    # at temperature 1 there is nothing to divide by
    assert cause(explained, config.rollout(temperature=1.0)).startswith(
        "the engine samples from another distribution"
    )


def test_a_doubled_beginning_of_sequence_token_is_seen_in_the_prompt() -> None:
    doubled = cause(report(), DAPOConfig(), prompt_ids=(BOS, BOS, 22))
    assert doubled.startswith("a doubled beginning-of-sequence token (id 1) in front of the prompt")
    assert cause(report(), DAPOConfig(), prompt_ids=(BOS, 22, BOS, BOS)).startswith("weights")
    without = describe_gap(report(), DAPOConfig(), prompt_ids=[7, 7, 22], bos_token_id=None)
    assert "probable cause: weights" in without


@pytest.mark.parametrize(
    ("in_float32", "said"), [(0.01, "language_model.dtype=bfloat16"), (None, "weights")]
)
def test_a_gap_that_float32_explains_is_that_of_the_type(
    in_float32: float | None, said: str
) -> None:
    line = cause(report(in_float32=in_float32), DAPOConfig())
    assert line.startswith(said)
    assert ("in float32 the gap would be 0.01" in line) == (in_float32 is not None)


def test_an_assumption_must_explain_half_of_the_gap() -> None:
    assert cause(report(mean=1.0, in_float32=0.49), DAPOConfig()).startswith("language_model.dtype")
    assert cause(report(mean=1.0, in_float32=0.51), DAPOConfig()).startswith("weights")
