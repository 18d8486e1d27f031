"""How a run is doing: one line that is drawn again and again, or a line now and then in a log."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from shutil import get_terminal_size
from typing import TYPE_CHECKING, Any, TextIO

from ray import tune

from rllib_dapo.run.durations import duration
from rllib_dapo.run.progress_text import LOG_COLUMNS, folded, progress_line, short
from rllib_dapo.run.search.clip_bounds import DRAW
from rllib_dapo.run.sweep_clock import SweepClock
from rllib_dapo.run.waiting import ask_ray, waiting_line

if TYPE_CHECKING:
    from ray.tune.experiment import Trial

LOG_EVERY_S = 5.0
_PATIENCE_S = 2.0
_LOG_WAITING_EVERY_S = 30.0
_REDRAW_S = 0.5
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
        self._num_trials = 1
        self._started = time.monotonic()
        self._clock = SweepClock(iterations=total)
        self._last_print = float("-inf")
        self._has_result = False
        self._is_interrupted = False
        self._last_start: dict[str, str] = {}  # by trial, what was printed when it started

    def setup(self, *_: Any, total_num_samples: int | None = None, **__: Any) -> None:
        """Learns how many trials there will be."""
        self._num_trials = max(1, total_num_samples or 1)
        self._started = time.monotonic()
        self._clock.start()

    def on_step_begin(self, iteration: int, trials: list[Trial], **_: Any) -> None:
        """Says what is being waited for, until there is a result."""
        waited = time.monotonic() - self._started
        pause = _REDRAW_S if self._is_redrawn else _LOG_WAITING_EVERY_S
        is_soon = waited < _PATIENCE_S or self._since_last_print() < pause
        if self._has_result or self._is_interrupted or is_soon:
            return
        line = waiting_line(trials, waited_s=waited, room=ask_ray())
        self._print(line[: self._columns], stays=False)

    def on_trial_result(
        self, iteration: int, trials: list[Trial], trial: Trial, result: dict[str, Any], **_: Any
    ) -> None:
        """Prints a result."""
        has_evaluation = "evaluation" in result or not self._has_result
        is_last = result["training_iteration"] == self._total
        self._has_result = True
        self._clock.note(str(trial), result["training_iteration"])

        stays = has_evaluation or is_last
        is_soon = self._since_last_print() < self._every_s
        if self._is_interrupted or (not self._is_redrawn and not stays and is_soon):
            return
        line = progress_line(
            result,
            total=self._total,
            name=self._name(trials, trial),
            left=self._left(trials),
            columns=self._columns,
        )
        self._print(line, stays=stays)

    def _name(self, trials: Sequence[Trial], trial: Trial) -> str:
        """`trial 2 of 9`; nothing where there is one."""
        total = max(self._num_trials, len(trials))
        if total == 1:
            return ""
        number = str(getattr(trial, "trial_id", trial)).rpartition("_")[2]
        place = int(number) + 1 if number.isdigit() else len(trials)
        return f"trial {place} of {max(total, place)}"

    def _left(self, trials: Sequence[Trial]) -> str | None:
        """When the sweep will be over; None where there is one trial."""
        if max(self._num_trials, len(trials)) == 1:
            return None
        ended = {str(trial) for trial in trials if trial.is_finished()}
        seconds = self._clock.seconds_left(self._num_trials, ended)
        return "" if seconds is None else f"sweep {duration(seconds)} left"

    def on_trial_start(self, iteration: int, trials: list[Trial], trial: Trial, **_: Any) -> None:
        """Says what a trial tries, if there are several; after a pause only what has changed."""
        name = self._name(trials, trial)
        if not name:
            return
        tried = ", ".join(f"{name}={short(value)}" for name, value in self._tried(trial).items())
        line = f"{name} ({trial}): {tried or 'starts'}"
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
        self._print(f"{trial} failed and starts again from its last checkpoint:", stays=True)
        self._print(f"  {trial.error_file}", stays=True)

    def interrupted(self) -> None:
        """Says that the run ends because of a signal: saving its state may take a while."""
        self._is_interrupted = True
        self._print("interrupted: saving what is there (once more ends it at once)", stays=True)

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

    @property
    def _columns(self) -> int:
        """Width of a line: that of the terminal, or what a log is made for."""
        if _is_notebook(self._out):
            return _NOTEBOOK_COLUMNS
        return get_terminal_size().columns - 1 if self._out.isatty() else LOG_COLUMNS

    def _since_last_print(self) -> float:
        return time.monotonic() - self._last_print

    def _print(self, line: str, *, stays: bool) -> None:
        lines = list(folded(line, max(20, self._columns))) if stays else [line]
        for one in lines:
            if self._is_redrawn:
                self._out.write(self._redrawn(one, is_whole=stays) + ("\n" if stays else ""))
            else:
                self._out.write(one + "\n")
        self._out.flush()
        self._last_print = time.monotonic()

    def _redrawn(self, line: str, *, is_whole: bool = False) -> str:
        """A line that replaces the one before; one that stays may hold a path, and is not cut."""
        text = line if is_whole else line[: self._columns]
        if _is_notebook(self._out):  # it has no code to erase a line, so the old one is overwritten
            return "\r" + text.ljust(_NOTEBOOK_COLUMNS)
        return _ERASE + text


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


def _at(config: Mapping[str, Any], name: str, default: Any) -> Any:
    """The value under a name with slashes."""
    value: Any = config
    for key in name.split("/"):
        if not isinstance(value, Mapping) or key not in value:
            return default
        value = value[key]
    return value
