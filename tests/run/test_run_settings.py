from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ray.tune.search.sample import Domain

from rllib_dapo import DAPOConfig
from rllib_dapo.config.setting import section_kinds, sections
from rllib_dapo.findings import SettingsError
from rllib_dapo.run.run_settings import RunSettings, read_settings
from rllib_dapo.run.yaml_file import parse_override

PRESETS = Path(__file__).parents[2] / "tune_configs"


def _read(folder: Path, text: str, *overrides: str) -> RunSettings:
    file = folder / "run.yaml"
    file.write_text(text)
    return read_settings(file, overrides)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("training.lr=1e-5", 1e-5),
        ("training.lr=3E-4", 3e-4),
        ("training.lr=-.5e+2", -50.0),
        ("training.lr=1.5e-5", 1.5e-5),
        ("training.group_size=8", 8),
        ("evaluation.evaluate_before_training=true", True),
        ("training.dual_clip=null", None),
        ("language_model.name=1e-5-model", "1e-5-model"),
        (
            "environment.env_config={path: [a, b], limit: 1e3}",
            {"path": ["a", "b"], "limit": 1000.0},
        ),
        ("environment.env_config.template=a=b", "a=b"),
    ],
)
def test_an_override_is_read_as_yaml_with_scientific_numbers(text: str, value: Any) -> None:
    name, read = parse_override(text)
    assert (name, read, type(read)) == (text.partition("=")[0], value, type(value))


@pytest.mark.parametrize(
    "text", ["training.lr", "preset", "training=3", ".lr=3", "training.=3", "=3"]
)
def test_an_override_without_a_name_or_a_value_says_how_to_write_one(text: str) -> None:
    with pytest.raises(SettingsError, match=r"write it as --set section\.name=value"):
        parse_override(text)


def test_sections_are_methods_and_keys_their_arguments(tmp_path: Path) -> None:
    settings = _read(
        tmp_path,
        "training: {lr: 1e-5, epsilon_high: 0.3}\noverlong: {buffer_tokens: 7}\n"
        "env_runners: {num_env_runners: 3}\n",
    )
    config = settings.config
    assert (config.lr, config.epsilon_high, config.overlong_buffer_tokens) == (1e-5, 0.3, 7)
    assert config.num_env_runners == 3
    assert settings.name == "run"


def test_every_section_has_settings_and_none_that_rllib_gave_up() -> None:
    assert all(section_kinds(DAPOConfig, section) for section in sections(DAPOConfig))
    assert {"lr", "minibatch_size", "epsilon_low"} <= set(section_kinds(DAPOConfig, "training"))
    assert "num_rollout_workers" not in section_kinds(DAPOConfig, "env_runners")


def test_an_override_wins_over_the_file_and_reaches_nested_settings(tmp_path: Path) -> None:
    settings = _read(
        tmp_path,
        "environment: {env: rllib_dapo/Arithmetic-v0, env_config: {digits: 2, terms: 3}}\n",
        "environment.env_config.digits=1",
        "evaluation.evaluation_config.env_config.split=heldout",
    )
    assert settings.config.env_config == {"digits": 1, "terms": 3}
    assert settings.config.evaluation_config == {"env_config": {"split": "heldout"}}


def test_files_are_looked_for_from_here_and_not_from_where_workers_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, raw_model: Path
) -> None:
    monkeypatch.chdir(raw_model.parent)
    settings = _read(
        tmp_path,
        f"language_model: {{name: {raw_model.name}}}\n"
        "environment: {env_config: {path: [a.jsonl, /b.jsonl]}}\n"
        "evaluation: {evaluation_config: {env_config: {path: c.jsonl}}}\n",
    )
    here = raw_model.parent
    assert settings.config.model_name == str(raw_model)
    assert settings.config.env_config["path"] == [str(here / "a.jsonl"), "/b.jsonl"]
    assert settings.config.evaluation_config["env_config"]["path"] == str(here / "c.jsonl")


def test_search_spaces_reach_the_configuration_and_their_ends_are_checked(tmp_path: Path) -> None:
    settings = _read(
        tmp_path,
        "search:\n"
        "  training.lr: {loguniform: [1e-7, 1e-5]}\n"
        "  training.group_size: {grid: [4, 8]}\n"
        "  environment.env_config.digits: {choice: [1, 2]}\n",
    )
    config = settings.config
    assert isinstance(config.lr, Domain)
    assert 1e-7 <= config.lr.sample() <= 1e-5
    assert config.group_size == {"grid_search": [4, 8]}
    assert config.env_config["digits"].categories == [1, 2]
    checked = {(c.lr, c.group_size, c.env_config["digits"]) for c in settings.checked}
    assert checked == {(1e-7, 4, 1), (1e-5, 4, 1), (1e-7, 8, 1), (1e-7, 4, 2)}


@pytest.mark.parametrize(
    ("text", "override"),
    [
        ("preset: grpo\ntraining: {epsilon_high: 0.28}\nkl: {estimator: k2}\n", ()),
        ("training: {epsilon_high: 0.28}\nkl: {estimator: k2}\npreset: grpo\n", ()),
        ("training: {epsilon_high: 0.28}\nkl: {estimator: k2}\n", ("preset=grpo",)),
        ("preset: ppo\ntraining: {epsilon_high: 0.28}\n", ("kl.estimator=k2", "preset=grpo")),
    ],
)
def test_sections_stand_on_top_of_the_preset_wherever_it_stands(
    tmp_path: Path, text: str, override: tuple[str, ...]
) -> None:
    settings = _read(tmp_path, text, *override)
    for config in (settings.config, *settings.checked):
        assert (config.loss_aggregation, config.kl_coefficient, config.advantage_estimator) == (
            "sequence_mean",
            0.04,
            "group",
        )
        assert (config.epsilon_high, config.kl_estimator) == (0.28, "k2")


def test_what_may_be_switched_off_is_switched_off_by_null(tmp_path: Path) -> None:
    settings = _read(
        tmp_path,
        "training: {dual_clip: null, entropy_mask_fraction: null, token_mask: null,"
        " lr_decay_updates: null}\n"
        "importance_sampling: {cap: null, sequence_bounds: null, start_gap_limit: null}\n"
        "critic: {value_clip: null}\ndeepspeed: {config: null}\n",
    )
    assert (settings.config.start_gap_limit, settings.config.value_clip) == (None, None)


def test_a_deepspeed_file_is_looked_for_from_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "zero.json").write_text('{"zero_optimization": {"stage": 2}}')
    settings = _read(tmp_path, "deepspeed: {config: zero.json}\n")
    # Read at once: a Learner may run where the file is not.
    assert settings.config.deepspeed_config == {"zero_optimization": {"stage": 2}}
    with pytest.raises(SettingsError, match=r"nowhere\.json' cannot be read"):
        _read(tmp_path, "deepspeed: {config: nowhere.json}\n")
    assert _read(
        tmp_path, "deepspeed: {config: {steps_per_print: 5}}\n"
    ).config.deepspeed_config == {"steps_per_print": 5}


def test_a_value_given_by_hand_is_not_searched_for(tmp_path: Path) -> None:
    settings = _read(tmp_path, "search: {training.lr: {grid: [1e-4, 1e-5]}}\n", "training.lr=3e-4")
    assert settings.config.lr == 3e-4
    assert len(settings.checked) == 1


def test_a_search_can_be_given_by_hand(tmp_path: Path) -> None:
    settings = _read(tmp_path, "training: {lr: 1e-5}\n", "search.training.lr={grid: [1e-4, 3e-4]}")
    assert [config.lr for config in settings.checked] == [1e-4, 3e-4]


def test_metrics_may_be_written_with_dots_slashes_or_nested(tmp_path: Path) -> None:
    settings = _read(
        tmp_path,
        "stop: {training_iteration: 5, env_runners.accuracy: 0.9,"
        " learners: {default_policy: {entropy: 9}}}\n"
        "tune: {metric: evaluation.env_runners.avg@8}\n",
        "stop.env_runners/episode_return_mean=1",
    )
    assert settings.stop == {
        "training_iteration": 5,
        "env_runners/accuracy": 0.9,
        "learners/default_policy/entropy": 9,
        "env_runners/episode_return_mean": 1,
    }
    assert settings.tune.metric == "evaluation/env_runners/avg@8"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "training: {lr: 1}\ntraining: {group_size: 8}\n",
            "line 2: 'training' stands here for the second time",
        ),
        ("training:\n  lr: 1\n  lr: 2\n", "line 3: 'lr' stands here for the second time"),
        ("training: {lr: [1\n", "not YAML"),
        ("- training\n", "must hold sections"),
        ("training: 3\n", "training=3 must be a section"),
        ("training: {group_size: many}\n", "training.group_size='many' must be a whole number"),
        ("training: {group_size: 8.5}\n", "training.group_size=8.5 must be a whole number"),
        ("training: {group_size: null}\n", "training.group_size=None must be a whole number"),
        ("training: {group_size: true}\n", "training.group_size=True must be a whole number"),
        ("training: {lr: fast}\n", "training.lr='fast' must be a number"),
        ("overlong: {penalty: high}\n", "overlong.penalty='high' must be a number"),
        ("overlong: {filtering: 1}\n", "overlong.filtering=1 must be true or false"),
        ("kl: {coefficient: null}\n", "kl.coefficient=None must be a number"),
        ("kl: {beta: 0.1}\n", "unknown setting 'kl.beta'"),
        ("critic: {value_clip: none}\n", "critic.value_clip='none' must be a number"),
        ("importance_sampling: {caps: 2}\n", "did you mean 'importance_sampling.cap'?"),
        ("preset: grop\n", "preset='grop' must be one of dapo, grpo, ppo; did you mean 'grpo'?"),
        ("preset: {grpo: 1}\n", "must be one of dapo, grpo, ppo"),
        ("search: {preset: {grid: [dapo, grpo]}}\n", "compare presets as variants"),
        (
            "tune: {num_sample: 3}\n",
            "unknown setting 'tune.num_sample'; did you mean 'tune.num_samples'?",
        ),
        ("tune: {mode: best}\n", "tune.mode='best' must be one of max, min"),
        ("stop: {training_iterations: 3}\n", "no such metric; did you mean 'training_iteration'?"),
        ("stop: {training_iteration: soon}\n", "stop.training_iteration='soon' must be a number"),
        ("search: {training.lr: {grod: [1]}}\n", "must be one of {grid: [...]}"),
        ("search: {training.lr: {uniform: [2, 1]}}\n", "with low < high"),
        ("search: {training.lr: {loguniform: [0, 1]}}\n", "with low < high"),
        ("search: {training.l: {grid: [1]}}\n", "search: unknown setting 'training.l'"),
        ("search: {stop.training_iteration: {grid: [1]}}\n", "only what differs between trials"),
    ],
)
def test_a_file_that_says_nonsense_is_refused_in_one_line(
    tmp_path: Path, text: str, message: str
) -> None:
    with pytest.raises(SettingsError) as refused:
        _read(tmp_path, text)
    assert message in str(refused.value)
    assert "run.yaml" in str(refused.value)
    assert "\n" not in str(refused.value)


def test_the_parts_of_a_reward_are_metrics_too(tmp_path: Path) -> None:
    settings = _read(tmp_path, "tune: {metric: env_runners.reward_components.format}\n")
    assert settings.tune.metric == "env_runners/reward_components/format"
