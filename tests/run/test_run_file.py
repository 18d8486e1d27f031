"""A run file on top of others: what it takes from its base, and what it says over it."""

from __future__ import annotations

from pathlib import Path

import pytest

from rllib_dapo.findings import SettingsError
from rllib_dapo.run.run_file import RunFile, read_run_file
from rllib_dapo.run.run_settings import build

BASE = """
# Data: sums.jsonl, in a drawer
preset: grpo
environment: {env: rllib_dapo/Arithmetic-v0, env_config: {max_operand: 49, terms: 3}}
training: {lr: 1e-4, adam_betas: [0.9, 0.99]}
rollout: {engine_kwargs: {max_num_seqs: 8}}
evaluation: {evaluation_interval: 5, evaluation_config: {env_config: {split: heldout}}}
search: {training.epsilon_low: {grid: [0.1, 0.2]}, training.lr: {choice: [1.0e-4, 1.0e-5]}}
tune: {scheduler: {type: asha, grace_period: 2}, num_samples: 3}
stop: {training_iteration: 10, env_runners: {accuracy: 0.9}, reward_nan: true}
"""


def _read(folder: Path, text: str, *overrides: str, base: str = BASE) -> RunFile:
    (folder / "base.yaml").write_text(base)
    file = folder / "mine.yaml"
    file.write_text(f"base: base.yaml\n{text}")
    return read_run_file(file, overrides)


def test_what_is_not_written_is_the_bases(tmp_path: Path) -> None:
    mine = _read(tmp_path, "")
    alone = read_run_file(tmp_path / "base.yaml")
    assert mine.sections == alone.sections
    assert (mine.search, mine.stop, mine.rules) == (alone.search, alone.stop, alone.rules)
    assert mine.tune == alone.tune
    assert (mine.name, mine.data_hint) == ("mine", "sums.jsonl, in a drawer")


def test_what_is_written_wins_key_by_key(tmp_path: Path) -> None:
    mine = _read(
        tmp_path,
        "training: {lr: 1e-5}\npreset: ppo\ntune: {num_samples: 1}\nstop: {training_iteration: 3}",
    )
    assert mine.sections["training"] == {"lr": 1e-5, "adam_betas": [0.9, 0.99]}
    assert mine.sections["preset"] == "ppo"
    assert (mine.tune.num_samples, mine.tune.scheduler["type"]) == (1, "asha")
    assert mine.stop == {"training_iteration": 3, "env_runners/accuracy": 0.9}
    assert mine.rules.reward_nan


def test_a_value_is_replaced_as_a_whole_and_an_environments_settings_are_merged(
    tmp_path: Path,
) -> None:
    mine = _read(
        tmp_path,
        "environment: {env_config: {max_operand: 9}}\n"
        "rollout: {engine_kwargs: {seed: 1}}\n"
        "evaluation: {evaluation_config: {env_config: {max_operand: 9}}}\n"
        "tune: {scheduler: {type: fifo}}\n"
        "search: {training.epsilon_low: {uniform: [0.1, 0.2]}}",
    )
    assert mine.sections["environment"]["env_config"] == {"max_operand": 9, "terms": 3}
    assert mine.sections["evaluation"]["evaluation_config"] == {
        "env_config": {"split": "heldout", "max_operand": 9}
    }
    assert mine.sections["rollout"]["engine_kwargs"] == {"seed": 1}
    assert mine.tune.scheduler == {"type": "fifo"}
    assert mine.search["training.epsilon_low"] == {"uniform": [0.1, 0.2]}


def test_another_environment_leaves_the_settings_of_the_bases_behind(tmp_path: Path) -> None:
    mine = _read(tmp_path, "environment: {env: rllib_dapo/Math-v0, env_config: {path: x.jsonl}}")
    assert mine.sections["environment"]["env_config"] == {"path": "x.jsonl"}
    assert mine.sections["evaluation"]["evaluation_config"] == {}
    assert mine.data_hint == ""


def test_null_takes_away_what_a_base_searches_for_and_stops_at(tmp_path: Path) -> None:
    mine = _read(
        tmp_path,
        "search: {training.lr: null}\nstop: {env_runners/accuracy: null, reward_nan: null}",
        "search.training.epsilon_low=null",
    )
    assert (mine.search, mine.stop) == ({}, {"training_iteration": 10})
    assert not mine.rules.reward_nan


def test_null_for_what_no_base_has_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"mine\.yaml: search\.training\.gamma=null takes away"):
        _read(tmp_path, "search: {training.gamma: null}")


def test_a_base_has_a_base_and_may_be_a_preset(tmp_path: Path) -> None:
    mine = _read(tmp_path, "training: {lr: 1}", base="base: tiny_arithmetic\n")
    assert mine.sections["training"]["lr"] == 1
    assert mine.sections["language_model"]["name"] == "tiny"
    assert mine.sections["env_runners"]["num_cpus_per_env_runner"] == 1
    assert mine.stop == {"training_iteration": 60}


def test_a_base_lies_beside_the_file_that_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert _read(tmp_path, "").sections["preset"] == "grpo"


@pytest.mark.parametrize(
    ("base", "message"),
    [
        ("mine.yaml", "is based on itself"),
        ("nowhere.yaml", r"mine\.yaml: base: nowhere\.yaml: no such file"),
        ("tiny_arithmetik", "did you mean 'tiny_arithmetic'"),
        ("3", "base=3 must be a run file, or the name of a preset"),
        ("[a, b]", r"must be a run file, or the name of a preset"),
    ],
)
def test_a_base_that_cannot_be_is_refused_in_one_line(
    tmp_path: Path, base: str, message: str
) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(f"base: {base}\n")
    with pytest.raises(SettingsError, match=message) as refused:
        read_run_file(file)
    assert "\n" not in str(refused.value)


def test_two_files_that_are_based_on_each_other_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="is based on itself"):
        _read(tmp_path, "", base="base: mine.yaml\n")


def test_a_fault_in_a_base_is_told_of_the_base(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"base\.yaml: unknown setting 'training\.lrr'"):
        _read(tmp_path, "", base="training: {lrr: 1}\n")


def test_an_old_name_works_and_is_noted_once(tmp_path: Path) -> None:
    mine = _read(tmp_path, "", base="importance_sampling: {start_gap_limit: 0.5, cap: 2.0}\n")
    assert mine.sections["start_guard"] == {"limit": 0.5}
    assert mine.sections["importance_sampling"] == {"cap": 2.0}
    (note,) = mine.notes
    assert note.endswith(
        "base.yaml: importance_sampling.start_gap_limit is now called start_guard.limit"
    )


def test_an_old_name_works_by_hand(tmp_path: Path) -> None:
    mine = _read(tmp_path, "", "importance_sampling.on_start_gap=warn", base="{}")
    assert build(mine).config.on_start_gap == "warn"


def test_data_sets_are_refused_by_training(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="makes this a file for `rllib-dapo evaluate MODEL"):
        build(_read(tmp_path, "datasets: {sums: {}}", base="{}"))
