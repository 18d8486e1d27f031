"""Recordings of the groups that a run trained on, written and read back."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from rllib_dapo import DAPOConfig
from rllib_dapo.core import PromptGroup, Response
from rllib_dapo.core.types import TurnRecord
from rllib_dapo.tracking.recording import (
    read_recording,
    recorded_settings,
    recording_folder,
    write_step,
)


def _response(**fields: Any) -> Response:
    plain = {
        "token_ids": np.asarray([5, 6, 7], dtype=np.int32),
        "loss_mask": np.asarray([True, False, True]),
        "logprobs": np.asarray([-0.1, -2.5, -1e-7], dtype=np.float32),
        "finish_reason": "stop",
        "reward": 1.0,
        "is_correct": True,
        "text": "zwölf\n",
    }
    return Response(**(plain | fields))


GROUPS = [
    PromptGroup(
        seed=7,
        prompt="3+4=",
        prompt_ids=np.asarray([1, 2], dtype=np.int32),
        weights_version=3,
        responses=(
            _response(
                prediction="7",
                components={"format": 0.5},
                turns=(TurnRecord(said="a", reward=1.0, observation=""),),
            ),
            _response(
                reward=math.nan, is_correct=None, reason="timeout: 5 s", finish_reason="length"
            ),
        ),
    ),
    PromptGroup(
        seed=2,
        prompt="",
        prompt_ids=np.asarray([1], dtype=np.int32),
        weights_version=3,
        responses=(_response(),),
    ),
]


def _same(one: PromptGroup, other: PromptGroup) -> bool:
    arrays = [(one.prompt_ids, other.prompt_ids)]
    for a, b in zip(one.responses, other.responses, strict=True):
        arrays += [(a.token_ids, b.token_ids), (a.loss_mask, b.loss_mask), (a.logprobs, b.logprobs)]
    # NaN is not equal to itself, but is written alike.
    return repr(one.summary()) == repr(other.summary()) and all(
        a.dtype == b.dtype and np.array_equal(a, b) for a, b in arrays
    )


def test_groups_come_back_as_they_were_and_in_their_order(tmp_path: Path) -> None:
    write_step(recording_folder(None, str(tmp_path)), 3, GROUPS, DAPOConfig())

    (step,) = read_recording(tmp_path)
    assert step.number == 3
    again = step.groups()
    assert [group.seed for group in again] == [7, 2]
    assert all(_same(one, other) for one, other in zip(GROUPS, again, strict=True))
    assert again[0].responses[0].turns == GROUPS[0].responses[0].turns
    assert (again[0].responses[0].text, again[0].prompt) == ("zwölf\n", "3+4=")


def test_a_step_that_is_made_again_replaces_the_first(tmp_path: Path) -> None:
    folder = recording_folder(None, str(tmp_path))
    for groups in (GROUPS, GROUPS[1:]):
        write_step(folder, 0, groups, DAPOConfig())
    write_step(folder, 10, GROUPS, DAPOConfig())
    steps = read_recording(tmp_path)
    assert [step.number for step in steps] == [0, 10]
    assert len(steps[0].groups()) == 1


def test_a_file_says_what_its_update_was_made_with_in_plain_words(tmp_path: Path) -> None:
    config = (
        DAPOConfig()
        .training(lr=3e-4, epsilon_high=0.4, adam_betas=(0.8, 0.9), token_mask=len)
        .kl(coefficient=0.1)
    )
    write_step(recording_folder(None, str(tmp_path)), 0, GROUPS, config)

    (step,) = read_recording(tmp_path)
    expected = {
        "training.lr": 3e-4,
        "training.epsilon_high": 0.4,
        "training.adam_betas": [0.8, 0.9],
        "training.token_mask": "builtins:len",
        "kl.coefficient": 0.1,
        "debugging.seed": 0,
    }
    assert {name: step.settings[name] for name in expected} == expected
    assert json.loads(
        pq.read_schema(step.file).metadata[b"rllib_dapo.settings"]
    ) == recorded_settings(config)


def test_a_recording_is_found_in_its_trial_and_in_a_run_of_one_trial(tmp_path: Path) -> None:
    for trial in ("trial_00000", "trial_00001"):
        write_step(recording_folder(None, str(tmp_path / "run" / trial)), 0, GROUPS, DAPOConfig())

    trial = tmp_path / "run" / "trial_00000"
    for path in (trial, trial / "recording"):
        assert read_recording(path)[0].file.parent == trial / "recording"
    with pytest.raises(ValueError, match="2 recordings found: name one of them"):
        read_recording(tmp_path / "run")
    with pytest.raises(
        ValueError, match=r"no recording found: train with --set rollout\.record_groups=true"
    ):
        read_recording(tmp_path)


def test_another_parquet_file_is_not_taken_for_a_recording(tmp_path: Path) -> None:
    write_step(recording_folder(None, str(tmp_path)), 0, GROUPS, DAPOConfig())
    file = tmp_path / "recording" / "step_000000.parquet"
    pq.write_table(pq.read_table(file).replace_schema_metadata(None), file)
    with pytest.raises(ValueError, match="is not a recorded training step"):
        read_recording(tmp_path)
