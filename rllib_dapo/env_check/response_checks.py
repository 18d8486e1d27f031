"""Checks that episodes can be played, end, and are worth something, whatever a model writes."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from contextlib import contextmanager

from rllib_dapo.env_check import examined as examination
from rllib_dapo.env_check.environment_finding import Fault, Finding, Level, shown_apart
from rllib_dapo.env_check.examined import SEEDS, TAME_TEXTS, Examined
from rllib_dapo.env_check.odd_texts import ODD_TEXTS

RESET_SECONDS, STEP_SECONDS = 1.0, 5.0  # medians above which sampling waits for the environment
MAX_TURNS = 100


def check_first_episode(examined: Examined) -> None:
    """Checks that one ordinary episode can be played."""
    with _about_texts(examined, "observation"):
        examined.reset(SEEDS[0])
    with _about_texts(examined, "action"):
        examined.step(TAME_TEXTS[0])


def check_odd_texts(examined: Examined) -> None:
    """Checks that episodes of texts that break parsers are scored, and end."""
    if not examined.can_step:
        return

    for number, text in enumerate(examined.patiently(ODD_TEXTS)):
        try:
            examined.reset(SEEDS[number % len(SEEDS)])
            ended = _play(examined, text)
        except Fault as fault:
            examined.note(fault.finding)
            if examined.is_lost:
                return
            continue

        if not ended:
            examined.note(
                Finding(
                    fault=f"an episode of {MAX_TURNS} times the same response did not end "
                    "(rollout.max_turns will cut it off)",
                    fix="set terminated, or truncated after a number of turns",
                    level=Level.LOOK,
                    cause="no end",
                )
            )


def check_outcomes(examined: Examined) -> None:
    """Checks that a response is worth the same when its episode is played again.

    What a prompt does not show is a function of the seed too.
    """
    if not examined.can_step or "prompt" in examined.found:
        return
    for seed, text in examined.patiently(zip(SEEDS, TAME_TEXTS, strict=False)):
        first, again = ((examined.reset(seed), examined.step(text))[1] for _ in range(2))
        if (first.reward, first.digest) == (again.reward, again.digest):
            continue

        examined.found.pop("few prompts", None)  # the seed has no effect: told once
        is_reward = first.reward != again.reward
        what = "gave the reward" if is_reward else "observed"
        values = (first.reward, again.reward)
        values = values if is_reward else shown_apart(first.text, again.text)
        examined.note(
            Finding(
                fault=f"step({text!r}) after reset(seed={seed}) {what} {values[0]}, and then "
                f"{values[1]}",
                fix="draw whatever an episode depends on from a generator that is made from "
                "the seed; if a judge is meant to waver, leave it",
                level=Level.LOOK,
                cause="outcome",
            )
        )
        return


def check_verdicts(examined: Examined) -> None:
    """Checks that some response got a verdict."""
    is_told = bool(examined.found.keys() & {"reward", "missing reason", "crash"})
    reasons = [called.reason for called in examined.outcomes]
    if reasons and all(reasons) and not is_told:
        examined.note(
            Finding(
                fault=f"not one of {len(reasons)} responses got a verdict: {reasons[0]}",
                fix="give a reward for whatever a model may write, if only that of a failure",
                cause="verdicts",
            )
        )


def check_speed(examined: Examined) -> None:
    """Checks that calls are quick enough for sampling, and for these checks."""
    limits = {"reset": RESET_SECONDS, "step": STEP_SECONDS}
    for name, times in examined.seconds.items():
        median = statistics.median(times) if times else 0.0
        if median <= limits[name]:
            continue
        examined.note(
            Finding(
                fault=f"{name} takes {median:.2g} s (median of {len(times)}), longer than "
                f"{limits[name]:g} s",
                fix="load what does not change in __init__, and bound the rest: it runs once "
                "for every response",
                level=Level.LOOK,
                cause=f"{name} slow",
            )
        )

    if examined.is_cut_short and not examined.found.keys() & {"reset slow", "step slow"}:
        examined.note(
            Finding(
                fault="it is too slow to be asked everything: a check was cut short after "
                f"{examination.PATIENCE_SECONDS:g} s",
                fix="check it with settings that make it quick, if there are any",
                level=Level.LOOK,
                cause="step slow",
            )
        )


@contextmanager
def _about_texts(examined: Examined, kind: str) -> Iterator[None]:
    """Where a space is of numbers, that is the cause of whatever goes wrong with texts."""
    try:
        yield
    except Fault as fault:
        is_lost = fault.finding.cause.endswith("lost")
        if is_lost or not examined.numeric.get(kind):
            raise
        shown = " and ".join(f"its {name}s are {of}" for name, of in examined.numeric.items())
        raise Fault(
            Finding(
                fault=f"it is not about texts: {shown} ({fault.finding.fault})",
                fix="wrap it so that it says its state, and reads its actions, as text; "
                "examples/gymnasium_text.py does that",
                cause="spaces",
            )
        ) from fault


def _play(examined: Examined, text: str) -> bool:
    """Plays an episode with one response for all turns, and returns whether it ended."""
    # That one episode goes on forever is found once.
    turns = 1 if "no end" in examined.found else MAX_TURNS
    played = 0
    for _ in examined.patiently(range(turns)):
        called = examined.step(text)
        played += 1
        if called.is_over or called.reason:
            return True
    return played < MAX_TURNS  # it was not given all of them
