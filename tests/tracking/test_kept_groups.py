"""Groups in a checkpoint: what was written is what is read."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from rllib_dapo.core.types import PromptGroup, Response, TurnRecord
from rllib_dapo.tracking.kept_groups import read_kept, write_kept


def group(seed: int, *, responses: int) -> PromptGroup:
    draws = np.random.default_rng(seed)
    return PromptGroup(
        seed=seed,
        prompt=f"{seed}+1=",
        prompt_ids=np.array([1, 2, seed], dtype=np.int32),
        responses=tuple(
            Response(
                token_ids=draws.integers(0, 9, size=4).astype(np.int32),
                loss_mask=np.array([True, True, False, True]),
                logprobs=-draws.random(4).astype(np.float32),
                finish_reason="stop" if index else "length",
                reward=1.0 if index else float("nan"),
                is_correct=True if index else None,
                text=f"said {index}",
                reason="" if index else "timeout: 5 s",
                prediction=str(index),
                components={"form": 0.5},
                turns=(TurnRecord(said="a", reward=1.0, observation="b"),),
                version_starts=((0, 3), (2, 4)),
            )
            for index in range(responses)
        ),
        weights_version=3,
    )


def test_groups_are_read_as_they_were_written_but_for_such_without_responses(
    tmp_path: Path,
) -> None:
    groups = [group(7, responses=2), group(5, responses=3)]
    write_kept(tmp_path, [*groups, group(9, responses=0)], number=4)
    again = read_kept(tmp_path)
    assert [one.seed for one in again] == [7, 5]
    for one, other in zip(again, groups, strict=True):
        np.testing.assert_equal(
            [vars_of(response) for response in one.responses],
            [vars_of(response) for response in other.responses],
        )
        assert one.prompt_ids.tolist() == other.prompt_ids.tolist()
        assert (one.prompt, one.weights_version) == (other.prompt, other.weights_version)
        assert one.summary().tokens_by_version == {3: 2 * len(one.responses), 4: len(one.responses)}


def vars_of(response: Response) -> dict[str, object]:
    return {name: getattr(response, name) for name in Response.__dataclass_fields__}


def test_a_checkpoint_without_groups_has_no_file(tmp_path: Path) -> None:
    write_kept(tmp_path, [], number=0)
    assert list(tmp_path.iterdir()) == []
    assert read_kept(tmp_path) == []
