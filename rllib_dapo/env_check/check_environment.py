"""Checks an environment against the rules that training relies on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rllib_dapo.env_check import prompt_checks, response_checks
from rllib_dapo.env_check.environment_finding import Finding, Level
from rllib_dapo.env_check.environment_process import EnvironmentProcess, pickled
from rllib_dapo.env_check.examined import Examined

# Causes that Gymnasium's checker does not look for.
_BEYOND_GYMNASIUM = {"few prompts", "no end", "reset slow", "step slow"}


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
    examined = Examined(here, elsewhere)
    with examined.collecting():
        sent = pickled(env, env_config)
        here.take(sent)
        elsewhere.take(sent)
        _examine(examined)
    return sorted(examined.found.values(), key=lambda finding: not finding.breaks_training)


def _examine(examined: Examined) -> None:
    """Runs all checks that make sense after what the earlier ones have found."""
    made = examined.env.make()
    examined.numeric = {kind: made["spaces"][kind] for kind in made["numeric"]}

    with examined.collecting():
        response_checks.check_first_episode(examined)
    if examined.seconds["reset"]:  # there is a prompt
        _play_on(examined)
    with examined.collecting():
        examined.env.close()


def _play_on(examined: Examined) -> None:
    for check in (
        prompt_checks.check_seeds,
        response_checks.check_odd_texts,
        response_checks.check_outcomes,
        prompt_checks.check_history,
        prompt_checks.check_copies,
        prompt_checks.check_processes,
        response_checks.check_verdicts,
        response_checks.check_speed,
    ):
        if "reset lost" not in examined.found:
            with examined.collecting():
                check(examined)

    # It would tell what is wrong with a value again, in other words.
    is_of_texts = all(prompt.is_text for prompt in examined.prompts.values())
    if is_of_texts and examined.found.keys() <= _BEYOND_GYMNASIUM:
        with examined.collecting():
            _check_gymnasium(examined)


def _check_gymnasium(examined: Examined) -> None:
    """Runs Gymnasium's own checker. What training relies on is checked by the others."""
    examined.env.make(2)
    told = examined.env.gymnasium(2)
    if told:
        examined.note(
            Finding(
                fault=f"Gymnasium's checker: {told}",
                fix="see Gymnasium's documentation of Env",
                level=Level.LOOK,
                cause="gymnasium",
            )
        )
