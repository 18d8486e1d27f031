"""Settings that come from RLlib: each has its effect, or is refused or warned of."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ray import cloudpickle
from ray.rllib.algorithms.algorithm_config import AlgorithmConfig
from ray.rllib.callbacks.callbacks import RLlibCallback

from rllib_dapo import DAPOConfig
from rllib_dapo.config.inherited_checks import refused_settings, warned_settings
from rllib_dapo.config.inherited_sections import rllib_sections
from rllib_dapo.config.rllib_settings import INTERNAL, UNUSED, USED
from rllib_dapo.config.setting import own_sections
from rllib_dapo.config.value_checks import check_settings, settings_warnings
from rllib_dapo.findings import SettingsError
from rllib_dapo.ray_internals import DEPRECATED_VALUE
from rllib_dapo.run.preflight import check_run, warnings
from rllib_dapo.run.run_settings import read_settings

RLLIB = vars(AlgorithmConfig())
DEPRECATED = {name for name, value in RLLIB.items() if value == DEPRECATED_VALUE} - INTERNAL


def valid_config() -> DAPOConfig:
    return DAPOConfig().environment("rllib_dapo/Arithmetic-v0").language_model("tiny")


def test_every_setting_of_rllib_is_in_one_of_the_tables() -> None:
    tables = (set(UNUSED), set(USED), set(INTERNAL), DEPRECATED)
    assert set().union(*tables) == set(RLLIB), "RLlib has changed: find out what each setting does"
    assert sum(len(table) for table in tables) == len(RLLIB)


def test_what_is_called_a_setting_is_an_argument_of_that_method() -> None:
    for attribute, unused in UNUSED.items():
        section, _, name = unused.setting.rpartition(".")
        if section:
            assert name in inspect.signature(getattr(AlgorithmConfig, section)).parameters, name
        else:
            assert name == attribute


@pytest.mark.parametrize("attribute", [*UNUSED, *sorted(DEPRECATED)])
def test_a_setting_without_effect_is_told_in_one_line(attribute: str) -> None:
    config = valid_config()
    setattr(config, attribute, {"other": 3})
    refused, warned = list(refused_settings(config)), warned_settings(config)

    unused = UNUSED.get(attribute)
    (line,) = refused if unused is None or unused.is_refused else warned
    assert len(refused) + len(warned) == 1
    assert "\n" not in line
    if unused is not None:
        assert line == f"{unused.setting}={{'other': 3}} has no effect here: {unused.instead}"


def test_the_defaults_are_told_nothing_of() -> None:
    config = valid_config()
    config.validate()
    config.get_evaluation_config_object().validate()  # RLlib has changed settings in it
    again = cloudpickle.loads(cloudpickle.dumps(config))
    for one in (config, again, valid_config().update_from_dict(config.to_dict())):
        assert list(refused_settings(one)) == []
        assert warned_settings(one) == []


def test_a_validated_configuration_may_be_changed_and_validated_again() -> None:
    config = valid_config()
    config.validate()
    config.training(group_size=8, minibatch_size=256).learners(num_learners=2)
    config.validate()
    assert config.train_batch_size_per_learner == 512 * 8 // 2
    assert config.total_train_batch_size == 512 * 8


def test_the_size_that_earlier_versions_kept_in_a_configuration_is_no_finding() -> None:
    config = valid_config()
    config._train_batch_size_per_learner = 512 * 16
    config.validate()


CHANGES: dict[str, Callable[[DAPOConfig], Any]] = {
    "training.train_batch_size=1": lambda c: c.training(train_batch_size=1),
    "training.train_batch_size_per_learner=1": lambda c: c.training(train_batch_size_per_learner=1),
    "training.shuffle_batch_per_epoch=True": lambda c: c.training(shuffle_batch_per_epoch=True),
    "env_runners.rollout_fragment_length=7": lambda c: c.env_runners(rollout_fragment_length=7),
    "env_runners.batch_mode='complete_episodes'": lambda c: c.env_runners(
        batch_mode="complete_episodes"
    ),
    "env_runners.explore=False": lambda c: c.env_runners(explore=False),
    "env_runners.num_envs_per_env_runner=4": lambda c: c.env_runners(num_envs_per_env_runner=4),
    "evaluation.evaluation_duration=5": lambda c: c.evaluation(evaluation_duration=5),
    "multi_agent.policies={": lambda c: c.multi_agent(policies={"a", "b"}),
    "multi_agent.policies_to_train=['x']": lambda c: c.multi_agent(policies_to_train=["x"]),
    "rl_module.model_config={'fcnet_hiddens': [8]}": lambda c: c.rl_module(
        model_config={"fcnet_hiddens": [8]}
    ),
    "offline_data.input_='data'": lambda c: c.offline_data(input_="data"),
    "callbacks.on_episode_step=<function": lambda c: c.callbacks(on_episode_step=print_nothing),
    "api_stack.enable_rl_module_and_learner=False": lambda c: c.api_stack(
        enable_rl_module_and_learner=False, enable_env_runner_and_connector_v2=False
    ),
    "train_batch_size=1": lambda c: setattr(c, "train_batch_size", 1),
    "training.train_batch_size_per_learner=2": lambda c: setattr(
        c, "train_batch_size_per_learner", 2
    ),
    "env_runners.explore=0": lambda c: c.update_from_dict({"explore": 0}),
    "training.train_batch_size=2": lambda c: c.update_from_dict({"train_batch_size": 2}),
    "evaluation.evaluation_config.explore=False": lambda c: c.evaluation(
        evaluation_config={"explore": False}
    ),
    "evaluation.evaluation_config.temperature=0.2": lambda c: c.evaluation(
        evaluation_config=DAPOConfig.overrides(temperature=0.2)
    ),
    "unknown setting 'epsilon_hig'; did you mean 'epsilon_high'?": lambda c: setattr(
        c, "epsilon_hig", 0.3
    ),
    "env_runners.num_env_runners='two' must be": lambda c: c.env_runners(num_env_runners="two"),
    "learners.num_learners=None must be a whole number": lambda c: c.learners(num_learners=None),
    "evaluation.evaluation_interval=-1 must be": lambda c: c.evaluation(evaluation_interval=-1),
}


def print_nothing(**_: Any) -> None:
    """A callback."""


@pytest.mark.parametrize("told", CHANGES)
def test_what_would_be_believed_is_refused(told: str) -> None:
    config = valid_config()
    CHANGES[told](config)
    with pytest.raises(ValueError, match=re.escape(told)) as refused:
        config.validate()
    assert "\n" not in str(refused.value)


def test_evaluation_may_have_an_environment_of_its_own() -> None:
    config = valid_config().evaluation(
        evaluation_config={"env": "rllib_dapo/Math-v0", "env_config": {"split": "heldout"}}
    )
    assert list(check_settings(config)) == []
    whole = valid_config().environment(env_config={"max_operand": 3})
    whole = valid_config().evaluation(evaluation_config=whole)
    assert list(check_settings(whole)) == []


def test_callbacks_that_are_never_called_are_named() -> None:
    class Mixed(RLlibCallback):
        def on_episode_step(self, **kwargs: Any) -> None:
            """Never called."""

        def on_train_result(self, **kwargs: Any) -> None:
            """Called."""

    (line,) = settings_warnings(valid_config().callbacks(Mixed))
    assert line.startswith("Mixed: on_episode_step is never called here; what is called: ")


def test_a_run_file_is_told_the_same(tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    text = (
        "language_model: {name: tiny}\n"
        "environment: {env: rllib_dapo/Arithmetic-v0, env_config: {max_operand: 9}}\n"
    )
    file.write_text(f"{text}training: {{train_batch_size: 64}}\n")
    with pytest.raises(SettingsError, match=r"run\.yaml: training\.train_batch_size=64 has no eff"):
        check_run(read_settings(file), available={})

    file.write_text(f"{text}env_runners: {{episodes_to_numpy: false}}\n")
    (line,) = warnings(read_settings(file))
    assert "env_runners.episodes_to_numpy=False has no effect here" in line


@pytest.mark.parametrize("section", sorted({*rllib_sections(), *own_sections(DAPOConfig)}))
def test_a_misspelt_argument_is_told_what_was_meant(section: str) -> None:
    method = getattr(DAPOConfig(), section)
    name = next(
        name
        for base in (DAPOConfig, AlgorithmConfig)
        if hasattr(base, section)
        for name in inspect.signature(getattr(base, section)).parameters
        if name not in ("self", "kwargs") and len(name) > 3
    )
    with pytest.raises(TypeError) as refused:
        method(**{f"{name[:-1]}{name[-1]}x": 1})
    assert str(refused.value) == f"{section}() has no setting '{name}x'; did you mean '{name}'?"


@pytest.mark.parametrize(
    ("section", "name", "hint"),
    [
        ("training", "epsilon_hig", "did you mean 'epsilon_high'?"),
        ("training", "grad_clip_bye", "did you mean 'grad_clip_by'?"),
        ("rollout", "lr", "lr is a setting of training()"),
        ("env_runners", "group_size", "group_size is a setting of training()"),
    ],
)
def test_the_nearest_setting_is_named_wherever_it_belongs(
    section: str, name: str, hint: str
) -> None:
    with pytest.raises(TypeError, match=re.escape(f"{section}() has no setting {name!r}; {hint}")):
        getattr(DAPOConfig(), section)(**{name: 1})
