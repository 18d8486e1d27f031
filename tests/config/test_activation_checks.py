"""Settings on what an update computes with: which values are taken, and which are refused."""

from __future__ import annotations

from typing import Any

import pytest

from rllib_dapo import DAPOConfig
from rllib_dapo.config.value_checks import check_settings


def findings(**attributes: Any) -> list[str]:
    config = DAPOConfig().language_model("tiny").update_from_dict(attributes)
    return list(check_settings(config))


@pytest.mark.parametrize(
    ("attributes", "said"),
    [
        ({"gradient_checkpointing": 0}, "language_model.gradient_checkpointing=0 must be at least"),
        ({"activation_offload": True}, "and Learners have none: set learners.num_gpus_per_learner"),
        ({"max_shared_row_tokens": "all"}, "training.max_shared_row_tokens='all' must be a whole"),
    ],
)
def test_what_cannot_work_is_one_line(attributes: dict[str, Any], said: str) -> None:
    (finding,) = findings(**attributes)
    assert said in finding


@pytest.mark.parametrize(
    "attributes",
    [
        {"gradient_checkpointing": 3},
        {"gradient_checkpointing": True},
        {"activation_offload": True, "num_gpus_per_learner": 1},
        {"max_shared_row_tokens": "auto"},
        {"max_shared_row_tokens": 512},
    ],
    ids=str,
)
def test_what_works_is_taken(attributes: dict[str, Any]) -> None:
    assert findings(**attributes) == []
