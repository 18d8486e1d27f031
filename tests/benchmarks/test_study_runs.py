"""A study goes on where it was interrupted."""

from __future__ import annotations

import json
from pathlib import Path

from study_runs import RunKey, RunStore, digest, planned, share_of

ONE = RunKey(task="sums", arm="dapo", lr=1e-4, seed=0)
TWO = RunKey(task="sums", arm="dapo", lr=1e-4, seed=1)
DIGESTS = {ONE: "a", TWO: "b"}


def line(key: RunKey, name: str, **more: object) -> dict[str, object]:
    return {
        "task": key.task,
        "arm": key.arm,
        "lr": key.lr,
        "seed": key.seed,
        "digest": name,
        **more,
    }


def test_a_run_that_is_there_is_found_and_one_of_other_settings_is_not(tmp_path: Path) -> None:
    store = RunStore(tmp_path / "new" / "runs.jsonl")
    assert store.done(DIGESTS) == {}
    store.add(line(ONE, "a", accuracy=0.5))
    store.add(line(TWO, "of other settings"))
    assert store.done(DIGESTS) == {ONE: line(ONE, "a", accuracy=0.5)}


def test_a_line_that_was_cut_off_costs_its_own_run_alone(tmp_path: Path) -> None:
    store = RunStore(tmp_path / "runs.jsonl")
    store.add(line(ONE, "a"))
    whole = json.dumps(line(TWO, "b"))
    with store.path.open("a") as file:
        file.write(whole[: len(whole) // 2])
    assert list(store.done(DIGESTS)) == [ONE]

    store.add(line(TWO, "b"))
    assert list(store.done(DIGESTS)) == [ONE, TWO]


def test_of_a_run_that_was_made_twice_the_first_counts(tmp_path: Path) -> None:
    store = RunStore(tmp_path / "runs.jsonl")
    store.add(line(ONE, "a", accuracy=0.1))
    store.add(line(ONE, "a", accuracy=0.9))
    assert store.done(DIGESTS)[ONE]["accuracy"] == 0.1


def test_every_run_is_planned_once_and_every_worker_has_its_own() -> None:
    runs = planned(["sums", "backwards"], ["grpo", "dapo"], [1e-4, 3e-4], [0, 1, 2])
    assert len(set(runs)) == len(runs) == 24
    shares = [share_of(runs, part, 2) for part in (0, 1)]
    assert sorted(map(repr, shares[0] + shares[1])) == sorted(map(repr, runs))


def test_all_arms_have_a_seed_before_one_has_the_next() -> None:
    runs = planned(["sums"], ["grpo", "dapo"], [1e-4], [0, 1])
    assert [(run.seed, run.arm) for run in runs] == [
        (0, "grpo"),
        (0, "dapo"),
        (1, "grpo"),
        (1, "dapo"),
    ]


def test_a_digest_depends_on_content_and_not_on_order() -> None:
    assert digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1}) != digest({"a": 1, "b": 3})
