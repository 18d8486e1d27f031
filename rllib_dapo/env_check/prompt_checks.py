"""Checks that a prompt is a pure function of its seed."""

from __future__ import annotations

from rllib_dapo.env_check.environment_finding import Fault, Finding, Level, shown_apart
from rllib_dapo.env_check.examined import SEEDS, TAME_TEXTS, Examined


def check_seeds(examined: Examined) -> None:
    """Checks that equal seeds give equal prompts, and different seeds different ones."""
    examined.prompts = prompts = {seed: examined.reset(seed) for seed in examined.patiently(SEEDS)}

    for seed in examined.patiently(prompts):
        for again in (examined.reset(seed), examined.reset(seed)):
            if again.digest != prompts[seed].digest:
                shown, then = shown_apart(prompts[seed].text, again.text)
                raise _prompt_fault(
                    f"reset(seed={seed}) gave {shown}, and then {then}",
                    "make the problem a pure function of the seed: draw only from a generator "
                    "that is made from the seed",
                )

    different = len({prompt.digest for prompt in prompts.values()})
    is_known = len(prompts) == len(SEEDS) and "empty prompt" not in examined.found
    if is_known and different <= len(prompts) // 2:
        examined.note(
            Finding(
                fault=f"{len(prompts)} different seeds gave {different} different "
                f"{'prompt' if different == 1 else 'prompts'}",
                fix="if the seed does not choose something that the prompt does not show, use "
                "it: different seeds should give different problems",
                level=Level.LOOK,
                cause="few prompts",
            )
        )


def check_history(examined: Examined) -> None:
    """Checks that earlier seeds, responses and resets without a seed do not change a prompt."""
    if "prompt" in examined.found:
        return
    for text in TAME_TEXTS[:3]:
        examined.reset(None)
        if examined.can_step:
            examined.step(text)

    for seed in examined.patiently(reversed(examined.prompts)):
        later = examined.reset(seed)
        if later.digest != examined.prompts[seed].digest:
            shown, then = shown_apart(examined.prompts[seed].text, later.text)
            raise _prompt_fault(
                f"reset(seed={seed}) gave {shown}, and after other episodes {then}",
                "do not keep anything from one episode to the next that a problem depends on",
            )


def check_copies(examined: Examined) -> None:
    """Checks that two environments in one process give the same problems, independently."""
    if "prompt" in examined.found:
        return
    examined.env.make(1)

    for seed in examined.patiently(SEEDS[:3]):
        mine = examined.reset(seed)
        examined.reset(seed + 1, 1)
        if examined.can_step:
            examined.step(TAME_TEXTS[0])

        other = examined.reset(seed, 1)
        if other.digest != mine.digest:
            shown, others = shown_apart(mine.text, other.text)
            raise _prompt_fault(
                "two environments with the same settings give different prompts for seed "
                f"{seed}: {shown} and {others}",
                "do not keep anything in the class or the module that a problem depends on",
            )
    examined.env.close(1)


def check_processes(examined: Examined) -> None:
    """Checks that another process gives the same prompts.

    Python orders sets of texts differently in each process.
    """
    if "prompt" in examined.found:
        return
    examined.elsewhere.make()

    for seed in examined.patiently(SEEDS[:3]):
        mine, theirs = examined.reset(seed), examined.elsewhere.reset(seed)
        if mine.digest != theirs.digest:
            shown, there = shown_apart(mine.text, theirs.text)
            raise _prompt_fault(
                f"reset(seed={seed}) gives {shown} in one process, and {there} in another process",
                "sort sets of texts before drawing from them, and do not use hash() of a text "
                "or anything else that differs between processes",
            )
    examined.elsewhere.close()


def _prompt_fault(fault: str, fix: str) -> Fault:
    return Fault(Finding(fault=fault, fix=fix, cause="prompt"))
