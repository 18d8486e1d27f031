"""The configurations that `rllib-dapo plan` looks at: of a run file, with their values checked."""

from __future__ import annotations

from pathlib import Path

from rllib_dapo.capacity.known_models import known_sizes
from rllib_dapo.config.dapo_config import DAPOConfig
from rllib_dapo.models.model_names import TINY
from rllib_dapo.run.preflight import check_values
from rllib_dapo.run.run_settings import read_settings


def planned_configs(path: Path, overrides: list[str]) -> tuple[list[DAPOConfig], str]:
    """Reads a run file for a plan: neither data, nor environment, nor model need be there.

    Args:
        path: The run file.
        overrides: Texts `dotted.name=value`, as after `--set`.

    Returns:
        The configurations of variants and of the ends of search spaces; and the run's name.

    Raises:
        SettingsError: For the first finding on names or values; one line.
    """
    settings = read_settings(path, overrides)
    for config in settings.checked:
        # A model of the table is planned wherever it is; any other one must be right.
        changed = config.copy(copy_frozen=False)
        if known_sizes(str(config.model_name)) is not None:
            changed.model_name = TINY
        check_values(changed, settings)
    return list(settings.checked), settings.name
