"""Checks an environment against the rules that training relies on."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

from rllib_dapo.env_check.environment_finding import Fault, Finding, Level, shown_apart
from rllib_dapo.env_check.environment_process import Called, EnvironmentProcess, pickled
from rllib_dapo.env_check.odd_texts import ODD_TEXTS

SEEDS = tuple(range(12))
TAME_TEXTS = ("1", "something", "Answer: 1", "The answer is 5.", "yes")
RESET_SECONDS, STEP_SECONDS = 1.0, 5.0  # medians above which sampling waits for the environment
MAX_TURNS = 100
# A slow environment is not asked everything: each check stops after this long.
PATIENCE_SECONDS = 40.0
# Causes that Gymnasium's checker does not look for.
_BEYOND_GYMNASIUM = {"few prompts", "no end", "reset slow", "step slow"}

T = TypeVar("T")


def check_environment(env: Any, env_config: Mapping[str, Any] | None = None) -> list[Finding]:
    """Looks for breaches of the rules for text environments in `docs/environments.md`.

    The environment is made in child processes and never in this one. A call that hangs, or ends
    its process, is a finding like any other. One cause gives one finding, and a check that cannot
    go on does not keep the others from running.

    Args:
        env: A Gymnasium id, a name registered with Tune, `module:Class`, or a class, as in
            `DAPOConfig.environment`. A class may be defined in a script or a notebook.
        env_config: Settings of the environment.

    Returns:
        The findings, those that break training first; empty if there is nothing to say.

    Raises:
        SettingsError: If there is no such environment, or if it refuses its settings.
    """
    # Texts have different hashes in the two: what depends on them differs.
    with EnvironmentProcess(hash_seed=1) as here, EnvironmentProcess(hash_seed=2) as elsewhere:
        here.start()
        elsewhere.start()
        return run_checks(env, env_config or {}, here=here, elsewhere=elsewhere)


def run_checks(
    env: Any,
    env_config: Mapping[str, Any],
    *,
    here: EnvironmentProcess,
    elsewhere: EnvironmentProcess,
) -> list[Finding]:
    """Runs the checks in processes that are there; see `check_environment`."""
    checks = _Checks(here, elsewhere)
    with checks.collecting():
        sent = pickled(env, env_config)
        here.take(sent)
        elsewhere.take(sent)
        checks.run()
    return sorted(checks.found.values(), key=lambda finding: not finding.breaks_training)


class _Checks:
    """The checks of one environment, and what they have found."""

    def __init__(self, here: EnvironmentProcess, elsewhere: EnvironmentProcess) -> None:
        self.found: dict[str, Finding] = {}
        self._env, self._elsewhere = here, elsewhere
        self._numeric: Mapping[str, str] = {}
        self._seconds: dict[str, list[float]] = {"reset": [], "step": []}
        self._prompts: dict[int, Called] = {}  # by seed, before any response but one
        self._outcomes: list[Called] = []  # of episodes that are over

    def run(self) -> None:
        """Runs all checks that make sense after what the earlier ones have found."""
        made = self._env.make()
        self._numeric = {kind: made["spaces"][kind] for kind in made["numeric"]}

        with self.collecting():
            self._check_first_episode()
        if not self._seconds["reset"]:  # no reset gave a prompt
            self._close()
            return

        for check in (
            self._check_seeds,
            self._check_odd_texts,
            self._check_outcomes,
            self._check_history,
            self._check_copies,
            self._check_processes,
        ):
            if "reset lost" not in self.found:
                with self.collecting():
                    check()

        self._check_verdicts()
        self._check_speed()
        # It would tell what is wrong with a value again, in other words.
        is_of_texts = all(prompt.is_text for prompt in self._prompts.values())
        if is_of_texts and self.found.keys() <= _BEYOND_GYMNASIUM:
            with self.collecting():
                self._check_gymnasium()
        self._close()

    @contextmanager
    def collecting(self) -> Iterator[None]:
        """Keeps the fault of a check that cannot go on."""
        try:
            yield
        except Fault as fault:
            self._note(fault.finding)

    @property
    def _can_step(self) -> bool:
        """Whether `step` can be used at all, and has not yet ended its process."""
        return bool(self._seconds["step"]) and "step lost" not in self.found

    @property
    def _is_lost(self) -> bool:
        """Whether a call hung or ended its process: any other may do so again, after a while."""
        return any(cause.endswith("lost") for cause in self.found)

    def _note(self, finding: Finding) -> None:
        self.found.setdefault(finding.cause or finding.fault, finding)

    def _reset(self, seed: int | None, number: int = 0) -> Called:
        called = self._env.reset(seed, number)
        self._seconds["reset"].append(called.seconds)
        for finding in called.findings:
            self._note(finding)
        return called

    def _step(self, text: str, number: int = 0) -> Called:
        called = self._env.step(text, number)
        self._seconds["step"].append(called.seconds)
        for finding in called.findings:
            self._note(finding)
        if called.is_over or called.reason:
            self._outcomes.append(called)
        return called

    def _check_first_episode(self) -> None:
        """Checks that one ordinary episode can be played."""
        with self._about_texts("observation"):
            self._reset(SEEDS[0])
        with self._about_texts("action"):
            self._step(TAME_TEXTS[0])

    @contextmanager
    def _about_texts(self, kind: str) -> Iterator[None]:
        """Where a space is of numbers, that is the cause of whatever goes wrong with texts."""
        try:
            yield
        except Fault as fault:
            is_lost = fault.finding.cause.endswith("lost")
            if is_lost or not self._numeric.get(kind):
                raise
            shown = " and ".join(f"its {name}s are {of}" for name, of in self._numeric.items())
            raise Fault(
                Finding(
                    fault=f"it is not about texts: {shown} ({fault.finding.fault})",
                    fix="wrap it so that it says its state, and reads its actions, as text; "
                    "examples/gymnasium_text.py does that",
                    cause="spaces",
                )
            ) from fault

    def _check_odd_texts(self) -> None:
        """Checks that episodes of texts that break parsers are scored, and end."""
        if not self._can_step:
            return
        for number, text in enumerate(_patiently(ODD_TEXTS)):
            try:
                self._reset(SEEDS[number % len(SEEDS)])
                ended = self._play(text)
            except Fault as fault:
                self._note(fault.finding)
                if self._is_lost:
                    return
                continue

            if not ended:
                self._note(
                    Finding(
                        fault=f"an episode of {MAX_TURNS} times the same response did not end "
                        "(rollout.max_turns will cut it off)",
                        fix="set terminated, or truncated after a number of turns",
                        level=Level.LOOK,
                        cause="no end",
                    )
                )

    def _play(self, text: str) -> bool:
        """Plays an episode with one response for all turns, and returns whether it ended."""
        # That one episode goes on forever is found once.
        turns = 1 if "no end" in self.found else MAX_TURNS
        played = 0
        for _ in _patiently(range(turns)):
            called = self._step(text)
            played += 1
            if called.is_over or called.reason:
                return True
        return played < MAX_TURNS  # it was not given all of them

    def _check_outcomes(self) -> None:
        """Checks that a response is worth the same when its episode is played again.

        What a prompt does not show is a function of the seed too.
        """
        if not self._can_step or "prompt" in self.found:
            return
        for seed, text in _patiently(zip(SEEDS, TAME_TEXTS, strict=False)):
            first, again = ((self._reset(seed), self._step(text))[1] for _ in range(2))
            if (first.reward, first.digest) == (again.reward, again.digest):
                continue

            self.found.pop("few prompts", None)  # the seed has no effect: told once
            is_reward = first.reward != again.reward
            what = "gave the reward" if is_reward else "observed"
            values = (first.reward, again.reward)
            values = values if is_reward else shown_apart(first.text, again.text)
            self._note(
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

    def _check_seeds(self) -> None:
        """Checks that equal seeds give equal prompts, and different seeds different ones."""
        self._prompts = prompts = {seed: self._reset(seed) for seed in _patiently(SEEDS)}

        for seed in _patiently(prompts):
            for again in (self._reset(seed), self._reset(seed)):
                if again.digest != prompts[seed].digest:
                    shown, then = shown_apart(prompts[seed].text, again.text)
                    raise _prompt_fault(
                        f"reset(seed={seed}) gave {shown}, and then {then}",
                        "make the problem a pure function of the seed: draw only from a generator "
                        "that is made from the seed",
                    )

        different = len({prompt.digest for prompt in prompts.values()})
        is_known = len(prompts) == len(SEEDS) and "empty prompt" not in self.found
        if is_known and different <= len(prompts) // 2:
            self._note(
                Finding(
                    fault=f"{len(prompts)} different seeds gave {different} different "
                    f"{'prompt' if different == 1 else 'prompts'}",
                    fix="if the seed does not choose something that the prompt does not show, use "
                    "it: different seeds should give different problems",
                    level=Level.LOOK,
                    cause="few prompts",
                )
            )

    def _check_history(self) -> None:
        """Checks that earlier seeds, responses and resets without a seed do not change a prompt."""
        if "prompt" in self.found:
            return
        for text in TAME_TEXTS[:3]:
            self._reset(None)
            if self._can_step:
                self._step(text)

        for seed in _patiently(reversed(self._prompts)):
            later = self._reset(seed)
            if later.digest != self._prompts[seed].digest:
                shown, then = shown_apart(self._prompts[seed].text, later.text)
                raise _prompt_fault(
                    f"reset(seed={seed}) gave {shown}, and after other episodes {then}",
                    "do not keep anything from one episode to the next that a problem depends on",
                )

    def _check_copies(self) -> None:
        """Checks that two environments in one process give the same problems, independently."""
        if "prompt" in self.found:
            return
        self._env.make(1)

        for seed in _patiently(SEEDS[:3]):
            mine = self._reset(seed)
            self._reset(seed + 1, 1)
            if self._can_step:
                self._step(TAME_TEXTS[0])

            other = self._reset(seed, 1)
            if other.digest != mine.digest:
                shown, others = shown_apart(mine.text, other.text)
                raise _prompt_fault(
                    "two environments with the same settings give different prompts for seed "
                    f"{seed}: {shown} and {others}",
                    "do not keep anything in the class or the module that a problem depends on",
                )
        self._env.close(1)

    def _check_processes(self) -> None:
        """Checks that another process gives the same prompts.

        Python orders sets of texts differently in each process.
        """
        if "prompt" in self.found:
            return
        self._elsewhere.make()

        for seed in _patiently(SEEDS[:3]):
            mine, theirs = self._reset(seed), self._elsewhere.reset(seed)
            if mine.digest != theirs.digest:
                shown, there = shown_apart(mine.text, theirs.text)
                raise _prompt_fault(
                    f"reset(seed={seed}) gives {shown} in one process, and {there} in another "
                    "process",
                    "sort sets of texts before drawing from them, and do not use hash() of a text "
                    "or anything else that differs between processes",
                )
        self._elsewhere.close()

    def _check_verdicts(self) -> None:
        """Checks that some response got a verdict."""
        is_told = "reward" in self.found or "missing reason" in self.found or "crash" in self.found
        reasons = [called.reason for called in self._outcomes]
        if reasons and all(reasons) and not is_told:
            self._note(
                Finding(
                    fault=f"not one of {len(reasons)} responses got a verdict: {reasons[0]}",
                    fix="give a reward for whatever a model may write, if only that of a failure",
                    cause="verdicts",
                )
            )

    def _check_speed(self) -> None:
        limits = {"reset": RESET_SECONDS, "step": STEP_SECONDS}
        for name, times in self._seconds.items():
            median = statistics.median(times) if times else 0.0
            if median <= limits[name]:
                continue
            self._note(
                Finding(
                    fault=f"{name} takes {median:.2g} s (median of {len(times)}), longer than "
                    f"{limits[name]:g} s",
                    fix="load what does not change in __init__, and bound the rest: it runs once "
                    "for every response",
                    level=Level.LOOK,
                    cause=f"{name} slow",
                )
            )

    def _check_gymnasium(self) -> None:
        """Runs Gymnasium's own checker. What training relies on is checked by the others."""
        self._env.make(2)
        told = self._env.gymnasium(2)
        if told:
            self._note(
                Finding(
                    fault=f"Gymnasium's checker: {told}",
                    fix="see Gymnasium's documentation of Env",
                    level=Level.LOOK,
                    cause="gymnasium",
                )
            )

    def _close(self) -> None:
        with self.collecting():
            self._env.close()


def _patiently(items: Iterable[T]) -> Iterator[T]:
    """The items, as long as the check that goes through them has not taken too long."""
    until = time.monotonic() + PATIENCE_SECONDS
    for item in items:
        if time.monotonic() > until:
            return
        yield item


def _prompt_fault(fault: str, fix: str) -> Fault:
    return Fault(Finding(fault=fault, fix=fix, cause="prompt"))
