"""How a run is doing, in one line."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from shutil import get_terminal_size
from typing import TYPE_CHECKING, Any, TextIO

from ray import tune

from rllib_dapo.run.search.clip_bounds import DRAW

if TYPE_CHECKING:
    from ray.tune.experiment import Trial

LOG_EVERY_S = 5.0
_PATIENCE_S = 2.0
_LOG_WAITING_EVERY_S = 30.0
_REDRAW_S = 0.5
_RAY_STARTS_ACTORS_WITHIN_S = 60.0
_ERASE = "\r\x1b[K"
_NOTEBOOK_COLUMNS = 120


class ProgressLine(tune.Callback):
    """Prints how the trials are doing.

    On a terminal and in a notebook one line is drawn again and again; a line with an evaluation
    stays. A log file gets plain lines, at most one every few seconds.
    """

    def __init__(
        self,
        *,
        total: int | None = None,
        followers: Sequence[str] = (),
        stream: TextIO | None = None,
        every_s: float = LOG_EVERY_S,
    ) -> None:
        """Begins without having printed anything.

        Args:
            total: Number of iterations of a trial, if that is known.
            followers: Attributes of the configuration that follow from a variant's name, and so
                need not be printed beside it.
            stream: Where to print; by default standard output. Tune pickles callbacks, so an open
                file cannot be used; a `StringIO` can.
            every_s: Seconds between two lines in a log file.
        """
        self._total = total
        self._followers = tuple(followers)
        self._stream = stream
        self._every_s = every_s
        self._several = False
        self._started = time.monotonic()
        self._last_print = float("-inf")
        self._has_result = False
        self._last_start: dict[str, str] = {}  # by trial, what was printed when it started

    def setup(self, *_: Any, total_num_samples: int | None = None, **__: Any) -> None:
        """Learns how many trials there will be."""
        self._several = (total_num_samples or 1) > 1
        self._started = time.monotonic()

    def on_step_begin(self, iteration: int, trials: list[Trial], **_: Any) -> None:
        """Says what is being waited for, until there is a result."""
        waited = time.monotonic() - self._started
        pause = _REDRAW_S if self._is_redrawn else _LOG_WAITING_EVERY_S
        if self._has_result or waited < _PATIENCE_S or self._since_last_print() < pause:
            return
        self._print(waiting_line(trials, waited_s=waited), stays=False)

    def on_trial_result(
        self, iteration: int, trials: list[Trial], trial: Trial, result: dict[str, Any], **_: Any
    ) -> None:
        """Prints a result."""
        has_evaluation = "evaluation" in result or not self._has_result
        is_last = result["training_iteration"] == self._total
        self._has_result = True

        stays = has_evaluation or is_last
        is_soon = self._since_last_print() < self._every_s
        if not self._is_redrawn and not stays and is_soon:
            return
        name = f"{trial}  " if self._several else ""
        self._print(name + progress_line(result, total=self._total), stays=stays)

    def on_trial_start(self, iteration: int, trials: list[Trial], trial: Trial, **_: Any) -> None:
        """Says what a trial tries, if there are several; after a pause only what has changed."""
        if not self._several:
            return
        tried = ", ".join(f"{name}={short(value)}" for name, value in self._tried(trial).items())
        line = f"{trial}  {tried or 'starts'}"
        if self._last_start.get(str(trial)) != line:
            self._last_start[str(trial)] = line
            self._print(line, stays=True)

    def _tried(self, trial: Trial) -> dict[str, Any]:
        """The settings by which a trial differs from the others, with their current values."""
        params = dict(trial.evaluated_params)
        if DRAW in params:  # the bounds follow from it, and Tune does not list what follows
            bounds = {name: trial.config[name] for name in ("epsilon_low", "epsilon_high")}
            params = bounds | params

        # Population based training changes the configuration, and leaves the parameters that were
        # drawn at first as they were.
        told = told_by_name(params, self._followers)
        return {
            name: _at(trial.config, name, value)
            for name, value in params.items()
            if name not in told
        }

    def on_trial_recover(self, iteration: int, trials: list[Trial], trial: Trial, **_: Any) -> None:
        """Says that a failed trial starts again."""
        line = f"{trial} failed and starts again from its last checkpoint; {trial.error_file}"
        self._print(line, stays=True)

    def on_experiment_end(self, trials: list[Trial], **_: Any) -> None:
        """Erases the line that would have been drawn again."""
        if self._is_redrawn:
            self._out.write(self._redrawn(""))
            self._out.flush()

    @property
    def _out(self) -> TextIO:
        return self._stream or sys.stdout

    @property
    def _is_redrawn(self) -> bool:
        return self._out.isatty() or _is_notebook(self._out)

    def _since_last_print(self) -> float:
        return time.monotonic() - self._last_print

    def _print(self, line: str, *, stays: bool) -> None:
        if self._is_redrawn:
            self._out.write(self._redrawn(line) + ("\n" if stays else ""))
        else:
            self._out.write(line + "\n")
        self._out.flush()
        self._last_print = time.monotonic()

    def _redrawn(self, line: str) -> str:
        """A line that replaces the one before."""
        if _is_notebook(self._out):  # it has no code to erase a line, so the old one is overwritten
            return "\r" + line[:_NOTEBOOK_COLUMNS].ljust(_NOTEBOOK_COLUMNS)
        return _ERASE + line[: get_terminal_size().columns - 1]


def _is_notebook(stream: TextIO) -> bool:
    """Whether a stream is that of a Jupyter kernel, and so ends up in a notebook."""
    return type(stream).__module__.startswith("ipykernel.")


def told_by_name(names: Iterable[str], followers: Sequence[str]) -> set[str]:
    """Selects the settings that a trial's name tells: the variant's name is a part of it.

    Args:
        names: Names of settings as Tune writes them, with slashes.
        followers: Attributes of the configuration that follow from the variant.
    """
    return {name for name in names if name.partition("/")[0] in ("variant", DRAW, *followers)}


def progress_line(result: Mapping[str, Any], *, total: int | None) -> str:
    """One result in one line.

    Args:
        result: What `Algorithm.train` returns.
        total: Number of iterations of the trial, if that is known.
    """
    iteration, seconds = result["training_iteration"], result["time_total_s"]
    clock = duration(seconds)
    if total and iteration < total:
        clock += f", {duration(seconds / iteration * (total - iteration))} left"

    rollout = result.get("env_runners", {})
    learner = result.get("learners", {}).get("default_policy", {})
    is_updated = _is_number(learner.get("gradient_updates"))
    parts = [
        f"{iteration}/{total}" if total else f"{iteration}",
        clock,
        _figure("accuracy", rollout.get("accuracy"), ".3f"),
        evaluation_text(result),
        "" if is_updated else "no update: no group was informative",
        _figure("reward", rollout.get("episode_return_mean"), "+.2f"),
        _figure("entropy", learner.get("entropy"), ".3f"),
        _figure("length", rollout.get("response_length_mean"), ".1f"),
        _figure("accepted", rollout.get("acceptance_rate"), ".0%"),
        _figure("tokens/s", rollout.get("rollout_tokens_per_second"), ".0f"),
    ]
    return "  ".join(part for part in parts if part)


def evaluation_text(result: Mapping[str, Any]) -> str:
    """The evaluation in a result, such as `evaluation avg@8 0.612`.

    Args:
        result: What `Algorithm.train` returns. Every result has the evaluation before training,
            which counts only in the first.

    Returns:
        The text; empty if there was no evaluation.
    """
    places = {"evaluation": ""}
    if result["training_iteration"] <= 1:
        places["evaluation_at_start"] = " at the start"

    for key, when in places.items():
        for name, value in result.get(key, {}).get("env_runners", {}).items():
            if name.startswith("avg@"):
                return f"evaluation {name} {value:.3f}{when}"
    return ""


def waiting_line(trials: list[Trial], *, waited_s: float) -> str:
    """What is going on while there is no result yet.

    Args:
        trials: All trials made so far.
        waited_s: Seconds since the run started.
    """
    clock = duration(waited_s)
    if any(trial.status == "RUNNING" for trial in trials):
        return f"starting: loading the model and the engine, then the first iteration ({clock})"
    if not trials or waited_s < _RAY_STARTS_ACTORS_WITHIN_S:
        return f"starting ({clock})"

    resources = trials[0].placement_group_factory.required_resources
    needs = ", ".join(f"{amount:g} {name}s" for name, amount in resources.items() if amount)
    return (
        f"waiting for resources: Ray is busy, or has less than the {needs} that a trial needs "
        f"({clock})"
    )


def duration(seconds: float) -> str:
    """`0:42`, `12:05`, `3:00:10`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _at(config: Mapping[str, Any], name: str, default: Any) -> Any:
    """The value under a name with slashes."""
    value: Any = config
    for key in name.split("/"):
        if not isinstance(value, Mapping) or key not in value:
            return default
        value = value[key]
    return value


def short(value: Any) -> str:
    """A value with no more digits than one wants to read."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _figure(name: str, value: float | None, form: str) -> str:
    return f"{name} {value:{form}}" if _is_number(value) else ""


def _is_number(value: float | None) -> bool:
    """Whether a value was logged: RLlib reports NaN where an iteration did not log it again."""
    return value is not None and not math.isnan(value)
