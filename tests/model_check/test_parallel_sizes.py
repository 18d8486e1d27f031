"""A model is cut only into as many parts as its layers and their heads give."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rllib_dapo import DAPOConfig
from rllib_dapo.model_check.parallel_sizes import check_parallel_sizes

SIZES = {
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
}


def findings(folder: Path, sizes: dict[str, object], *, tensor: int, pipeline: int) -> list[str]:
    (folder / "config.json").write_text(json.dumps(sizes))
    config = DAPOConfig().rollout(tensor_parallel_size=tensor, pipeline_parallel_size=pipeline)
    return [finding.detail for finding in check_parallel_sizes(folder, config)]


@pytest.mark.parametrize(("tensor", "pipeline"), [(1, 1), (2, 1), (4, 1), (8, 3), (1, 2)])
def test_what_fits_is_let_through(tmp_path: Path, tensor: int, pipeline: int) -> None:
    """Two key-value heads serve four or eight workers as copies."""
    assert findings(tmp_path, SIZES, tensor=tensor, pipeline=pipeline) == []
    assert findings(tmp_path, {"text_config": SIZES}, tensor=tensor, pipeline=pipeline) == []


@pytest.mark.parametrize(
    ("tensor", "pipeline", "changed", "said"),
    [
        (3, 1, {}, "=3 does not divide the model's 8 attention heads: set it to 2"),
        (5, 1, {}, "=5 does not divide the model's 8 attention heads: set it to 4"),
        (
            4,
            1,
            {"num_key_value_heads": 3},
            "=4 does not divide the model's 3 key-value heads: set it to 1",
        ),
        (8, 1, {"intermediate_size": 100}, "=8 does not divide the model's 100 columns in its"),
        (1, 4, {}, "=4 leaves a worker without any of the model's 3 layers: lower it to 3"),
    ],
)
def test_what_does_not_fit_is_refused_with_the_next_that_does(
    tmp_path: Path, tensor: int, pipeline: int, changed: dict[str, object], said: str
) -> None:
    (line,) = findings(tmp_path, SIZES | changed, tensor=tensor, pipeline=pipeline)
    assert said in line


def test_a_hub_name_and_sizes_that_no_file_gives_are_left_to_vllm(tmp_path: Path) -> None:
    config = DAPOConfig().rollout(tensor_parallel_size=3)
    assert check_parallel_sizes("someone/some-model", config) == []
    assert findings(tmp_path, {"num_attention_heads": None}, tensor=3, pipeline=1) == []
