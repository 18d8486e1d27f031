"""Of several sides that failed, or did not come to an end, the one that is the cause is named."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from rllib_dapo.weight_transfer.faults import LEARNERS, SideError, raise_fault
from rllib_dapo.weight_transfer.wire.transfer_group import PEER_LOST

ONE, TWO = "EnvRunner 1", "EnvRunner 2"
WHAT = "the transfer of version 3 of the weights"


def said(
    faults: Mapping[str, str] | None = None,
    pending: tuple[str, ...] = (),
    states: Mapping[str, str] | None = None,
    **options: Any,
) -> tuple[str, frozenset[int], list[str]]:
    """The line, which EnvRunners it takes for dead, and what the others are freed with."""
    freed: list[str] = []
    with pytest.raises(SideError) as caught:
        raise_fault(
            faults or {},
            set(pending),
            **{"died": set(), "has_failed": bool(faults), "timeout_seconds": 7.0, **options},
            what=WHAT,
            on_fault=freed.append,
            doing=lambda: states or {},
        )
    line = str(caught.value)
    assert "\n" not in line
    return line, caught.value.died, freed


@pytest.mark.parametrize("cause", [LEARNERS, ONE])
def test_those_whom_it_took_along_are_not_blamed(cause: str) -> None:
    faults = dict.fromkeys((LEARNERS, ONE, TWO), f"{PEER_LOST}: connection reset")
    line, died, _ = said(faults | {cause: "out of memory"})
    assert line == f"{cause} failed in {WHAT}: out of memory"
    assert died == frozenset()


def test_a_dead_env_runner_is_known_where_it_is_the_whole_cause() -> None:
    dead = {TWO: "its process has ended"}
    lost = {LEARNERS: f"{PEER_LOST}: connection closed"}
    assert said(dead | lost, died={2})[1] == {2}
    assert said(dead | {LEARNERS: "out of memory"}, died={2})[1] == frozenset()


def test_where_all_only_say_that_others_are_gone_all_are_named() -> None:
    line, _, _ = said({LEARNERS: f"{PEER_LOST}: a", ONE: f"{PEER_LOST}: b"})
    assert LEARNERS in line
    assert ONE in line


@pytest.mark.parametrize(
    ("states", "late", "waits"),
    [
        (
            {LEARNERS: "waiting for bucket 2 of 5 to be taken", ONE: "loading bucket 1 of 5"},
            f"{ONE} (loading bucket 1 of 5)",
            LEARNERS,
        ),
        (
            {LEARNERS: "gathering bucket 2 of 5", ONE: "waiting for bucket 2 of 5"},
            f"{LEARNERS} (gathering bucket 2 of 5)",
            ONE,
        ),
        (
            {LEARNERS: "waiting for bucket 1 of 5", ONE: "no sign of life while waiting for it"},
            f"{ONE} (no sign of life while waiting for it)",
            LEARNERS,
        ),
    ],
)
def test_when_time_is_over_the_side_that_keeps_the_other_waiting_is_named(
    states: dict[str, str], late: str, waits: str
) -> None:
    line, _, freed = said(pending=(LEARNERS, ONE), states=states)
    assert line.startswith(
        f"weights.timeout_s=7.0 is over in {WHAT}, and this side has not come to"
    )
    assert f"an end: {late}; it keeps waiting {waits} (" in line
    assert line.endswith("raise weights.timeout_s")
    assert len(freed) == 1
    assert late.partition(" (")[0] in freed[0]


def test_where_nobody_knows_what_they_do_all_that_are_late_are_named() -> None:
    line, _, _ = said(pending=(ONE, TWO))
    assert f"{ONE}, {TWO}" in line


def test_nothing_is_raised_where_nothing_failed() -> None:
    raise_fault(
        {},
        set(),
        died=set(),
        has_failed=False,
        timeout_seconds=None,
        what=WHAT,
        on_fault=lambda fault: None,
        doing=dict,
    )
