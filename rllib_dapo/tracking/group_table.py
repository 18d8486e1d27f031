"""Groups as rows of an Arrow table, one for each response: plain names and values, no pickle."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import pyarrow as pa

from rllib_dapo.core.types import PromptGroup, Response, TurnRecord

_SCHEMA = pa.schema(
    [
        ("step", pa.int64()),
        ("seed", pa.int64()),
        ("weights_version", pa.int64()),
        ("prompt", pa.string()),
        ("prompt_ids", pa.list_(pa.int32())),
        ("token_ids", pa.list_(pa.int32())),
        ("loss_mask", pa.list_(pa.bool_())),
        ("logprobs", pa.list_(pa.float32())),
        ("finish_reason", pa.string()),
        ("reward", pa.float64()),  # NaN: no verdict
        ("is_correct", pa.bool_()),
        ("text", pa.string()),
        ("reason", pa.string()),
        ("prediction", pa.string()),
        ("components", pa.string()),  # JSON
        ("metrics", pa.string()),  # JSON
        ("turns", pa.string()),  # JSON
        ("version_starts", pa.string()),  # JSON
    ]
)


def to_table(
    groups: Sequence[PromptGroup], *, number: int, metadata: dict[bytes, bytes] | None = None
) -> pa.Table:
    """Groups as a table; one without responses leaves no row.

    Args:
        groups: The groups, in order.
        number: Number of weight updates before the step that they are for.
        metadata: Metadata of the table.
    """
    rows = [_row(number, group, response) for group in groups for response in group.responses]
    return pa.Table.from_pylist(rows, schema=_SCHEMA.with_metadata(metadata))


def from_table(table: pa.Table) -> list[PromptGroup]:
    """The groups of a table, in order."""
    of_seed: dict[int, list[dict[str, Any]]] = {}
    for row in table.to_pylist():
        of_seed.setdefault(row["seed"], []).append(row)
    return [_group(rows) for rows in of_seed.values()]


def _row(number: int, group: PromptGroup, response: Response) -> dict[str, Any]:
    return {
        "step": number,
        "seed": group.seed,
        "weights_version": group.weights_version,
        "prompt": group.prompt,
        "prompt_ids": group.prompt_ids,
        "token_ids": response.token_ids,
        "loss_mask": response.loss_mask,
        "logprobs": response.logprobs,
        "finish_reason": response.finish_reason,
        "reward": response.reward,
        "is_correct": response.is_correct,
        "text": response.text,
        "reason": response.reason,
        "prediction": response.prediction,
        "components": json.dumps(dict(response.components)),
        "metrics": json.dumps(dict(response.metrics)),
        "turns": json.dumps([asdict(turn) for turn in response.turns]),
        "version_starts": json.dumps(response.version_starts),
    }


def _group(rows: Sequence[dict[str, Any]]) -> PromptGroup:
    first = rows[0]
    return PromptGroup(
        seed=first["seed"],
        prompt=first["prompt"],
        prompt_ids=np.asarray(first["prompt_ids"], dtype=np.int32),
        responses=tuple(_response(row) for row in rows),
        weights_version=first["weights_version"],
    )


def _response(row: dict[str, Any]) -> Response:
    return Response(
        token_ids=np.asarray(row["token_ids"], dtype=np.int32),
        loss_mask=np.asarray(row["loss_mask"], dtype=np.bool_),
        logprobs=np.asarray(row["logprobs"], dtype=np.float32),
        finish_reason=row["finish_reason"],
        reward=row["reward"],
        is_correct=row["is_correct"],
        text=row["text"],
        reason=row["reason"],
        prediction=row["prediction"],
        components=json.loads(row["components"]),
        metrics=json.loads(row.get("metrics") or "{}"),
        turns=tuple(TurnRecord(**turn) for turn in json.loads(row["turns"])),
        # A recording of an earlier version has neither these nor metrics.
        version_starts=tuple(map(tuple, json.loads(row.get("version_starts") or "[]"))),
    )
