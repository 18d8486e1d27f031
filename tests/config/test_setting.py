"""A setting is written once: what a subclass adds is found wherever settings are looked for."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any, Literal, Self

import pytest
from ray import tune
from ray.rllib.algorithms.algorithm_config import NotProvided

from rllib_dapo import DAPOConfig
from rllib_dapo.config.setting import (
    attribute_of,
    own_sections,
    own_settings,
    section_kinds,
    settings_section,
)
from rllib_dapo.config.value_checks import check_settings
from rllib_dapo.findings import SettingsError
from rllib_dapo.run.run_file import read_run_file
from rllib_dapo.run.run_settings import build

TABLES = runpy.run_path(
    str(Path(__file__).parents[2] / "tools" / "configuration_tables.py"), run_name="tables"
)


class FocusedConfig(DAPOConfig):
    """A configuration with two settings more: one in a section that exists, one in its own."""

    def __init__(self, algo_class: type | None = None) -> None:
        super().__init__(algo_class)
        self.focus = 0.5
        self.focus_kind: str | None = None

    @settings_section()
    def training(self, *, focus: float = NotProvided, **kwargs: Any) -> Self:
        """Adds to the section of the base class.

        Args:
            focus: Share of attention, in [0, 1]. Source: paper 9.
            **kwargs: Of the base class.
        """
        return super().training(**kwargs)

    @settings_section(kind="focus_kind")
    def focusing(self, *, kind: Literal["sharp", "soft"] | None = NotProvided) -> Self:
        """A section of its own.

        Args:
            kind: How focus falls off.
        """
        return self


def _read(folder: Path, text: str, *overrides: str) -> FocusedConfig:
    file = folder / "run.yaml"
    file.write_text(text)
    config = build(read_run_file(file, overrides, config_class=FocusedConfig)).config
    assert isinstance(config, FocusedConfig)
    return config


def test_a_setting_of_a_subclass_stands_in_a_run_file(tmp_path: Path) -> None:
    config = _read(tmp_path, "training: {focus: 0.25, lr: 1e-4}\nfocusing: {kind: soft}\n")
    assert (config.focus, config.lr, config.focus_kind) == (0.25, 1e-4, "soft")


def test_a_setting_of_a_subclass_is_overridden_and_searched_for(tmp_path: Path) -> None:
    text = "search: {training.focus: {grid: [0.1, 0.9]}}\n"
    assert _read(tmp_path, text).focus == {"grid_search": [0.1, 0.9]}
    assert _read(tmp_path, text, "training.focus=0.3").focus == 0.3


@pytest.mark.parametrize(
    ("text", "finding"),
    [
        ("training: {fokus: 1}", "'training.fokus'; did you mean 'training.focus'?"),
        ("training: {focus: much}", "training.focus='much' must be a number"),
        ("focusing: {kind: soff}", "must be one of sharp, soft; did you mean 'soft'?"),
        ("focussing: {}", "unknown section 'focussing'; did you mean 'focusing'?"),
    ],
)
def test_a_setting_of_a_subclass_is_checked_in_a_run_file(
    tmp_path: Path, text: str, finding: str
) -> None:
    with pytest.raises(SettingsError) as refused:
        _read(tmp_path, text)
    assert finding in str(refused.value)


def test_a_setting_of_a_subclass_is_checked_with_the_values() -> None:
    config = FocusedConfig().language_model("tiny").training(focus="much")
    assert "training.focus='much' must be a number" in list(check_settings(config))


def test_a_setting_of_a_subclass_has_its_row_in_the_table() -> None:
    table = TABLES["table"]("training", FocusedConfig)
    assert table.splitlines()[-1] == (
        "| `focus` | `0.5` | Share of attention, in [0, 1]. | paper 9 |"
    )
    assert "| `lr` |" in table
    assert TABLES["table"]("focusing", FocusedConfig).splitlines()[-1] == (
        "| `kind` | `null` | How focus falls off. One of `sharp`, `soft`. |  |"
    )


def test_the_base_class_knows_nothing_of_it() -> None:
    assert "training.focus" not in own_settings(DAPOConfig)
    assert "focusing" not in own_sections(DAPOConfig)
    assert own_sections(FocusedConfig) == (*own_sections(DAPOConfig), "focusing")


def test_what_is_not_provided_stays_and_search_spaces_are_values() -> None:
    space = tune.uniform(0.1, 0.2)
    config = DAPOConfig().training(epsilon_low=space).training(lr=1e-5).kl(estimator="k2")
    assert (config.epsilon_low, config.lr, config.kl_estimator) == (space, 1e-5, "k2")
    assert config.epsilon_high == DAPOConfig().epsilon_high


def test_rllibs_arguments_go_on_to_rllib() -> None:
    config = DAPOConfig().training(num_epochs=1, lr=1e-5).evaluation(evaluation_interval=3)
    assert (config.num_epochs, config.evaluation_interval) == (1, 3)
    with pytest.raises(TypeError, match="epsilon_hihg"):
        DAPOConfig().training(epsilon_hihg=0.3)


def test_an_attribute_may_be_called_otherwise_than_its_setting() -> None:
    assert attribute_of("kl.coefficient", DAPOConfig) == "kl_coefficient"
    assert attribute_of("env_runners.num_env_runners", DAPOConfig) == "num_env_runners"


def test_of_rllibs_settings_a_text_is_refused_where_none_may_stand() -> None:
    kinds = section_kinds(DAPOConfig, "learners")
    assert {"num_learners", "num_gpus_per_learner"} <= set(kinds)


def test_an_old_name_still_works_in_python_and_warns() -> None:
    with pytest.warns(FutureWarning, match=r"start_guard\(limit=\.\.\., action=\.\.\.\)"):
        config = DAPOConfig().importance_sampling(start_gap_limit=0.5, on_start_gap="warn")
    assert (config.start_gap_limit, config.on_start_gap) == (0.5, "warn")
