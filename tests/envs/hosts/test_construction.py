"""How a class or a function is called with the settings, by what its signature says."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import gymnasium as gym
import pytest

from rllib_dapo.envs.arithmetic import ArithmeticEnv
from rllib_dapo.envs.hosts.construction import construct, environment_class


class Made:
    """Notes what it was made with."""

    got: dict[str, Any]


class ByKeywords(Made, gym.Env):
    def __init__(self, size: int = 4, render_mode: str | None = None) -> None:
        self.got = {"size": size, "render_mode": render_mode}


class Required(Made, gym.Env):
    def __init__(self, size: int) -> None:
        self.got = {"size": size}


class KeywordOnly(Made, gym.Env):
    def __init__(self, *, size: int = 4) -> None:
        self.got = {"size": size}


class AnyKeywords(Made, gym.Env):
    def __init__(self, **kwargs: Any) -> None:
        self.got = kwargs


class NoArguments(Made, gym.Env):
    def __init__(self) -> None:
        self.got = {}


class NoInit(Made, gym.Env):
    got: dict[str, Any] = {}  # noqa: RUF012 (nobody changes it)


class HandsOn(ByKeywords):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)


class ByConfig(Made, gym.Env):
    def __init__(self, config: Any) -> None:
        self.got = dict(config)


class ByOptionalConfig(Made, gym.Env):
    def __init__(self, env_config: Any = None, size: int = 1) -> None:
        self.got = dict(env_config)


class ByAnnotation(Made, gym.Env):
    def __init__(self, given: Mapping[str, Any] | None = None) -> None:
        self.got = dict(given or {})


class ByLoneArgument(Made, gym.Env):
    def __init__(self, c: Any) -> None:
        self.got = dict(c)


class HandsConfigOn(ByConfig):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)


def make_it(size: int = 4) -> ByKeywords:
    return ByKeywords(size)


@pytest.mark.parametrize(
    ("make", "size", "default"),
    [
        (ByKeywords, {"size": 6, "render_mode": None}, {"size": 4, "render_mode": None}),
        (HandsOn, {"size": 6, "render_mode": None}, {"size": 4, "render_mode": None}),
        (KeywordOnly, {"size": 6}, {"size": 4}),
        (AnyKeywords, {"size": 6}, {}),
        (ByConfig, {"size": 6}, {}),
        (HandsConfigOn, {"size": 6}, {}),
        (ByOptionalConfig, {"size": 6}, {}),
        (ByAnnotation, {"size": 6}, {}),
        (ByLoneArgument, {"size": 6}, {}),
        (lambda config: ByConfig(config), {"size": 6}, {}),
        (make_it, {"size": 6, "render_mode": None}, {"size": 4, "render_mode": None}),
        (
            functools.partial(ByKeywords, render_mode="ansi"),
            {"size": 6, "render_mode": "ansi"},
            {"size": 4, "render_mode": "ansi"},
        ),
    ],
)
def test_settings_go_where_the_signature_has_them(
    make: Any, size: dict[str, Any], default: dict[str, Any]
) -> None:
    config = {} if make is ByOptionalConfig else {"size": 6}
    if make is not ByOptionalConfig:
        assert construct(make, config).got == size
    assert construct(make, {}).got == default


def test_a_required_argument_is_a_setting_of_its_name() -> None:
    assert construct(Required, {"size": 6}).got == {"size": 6}
    with pytest.raises(ValueError, match=r"^Required: env_config lacks size"):
        construct(Required, {})


@pytest.mark.parametrize("make", [NoArguments, NoInit])
def test_a_class_without_settings_is_made_and_given_none(make: Any) -> None:
    assert construct(make, {}).got == {}
    with pytest.raises(ValueError, match=r"unknown setting 'size' .* it takes no settings"):
        construct(make, {"size": 6})


@pytest.mark.parametrize("make", [ByKeywords, HandsOn, functools.partial(ByKeywords, size=1)])
def test_a_misspelt_setting_is_refused_in_one_line(make: Any) -> None:
    with pytest.raises(ValueError, match="unknown setting") as refusal:
        construct(make, {"sise": 6})
    told = str(refusal.value)
    assert "unknown setting 'sise' (value 6) in env_config; did you mean 'size'?" in told
    assert "\n" not in told


def test_environments_of_this_package_get_the_mapping() -> None:
    assert construct(ArithmeticEnv, {"max_operand": 3}).unwrapped.settings["max_operand"] == 3


def test_the_class_is_told_before_it_is_made() -> None:
    assert environment_class("rllib_dapo/Arithmetic-v0") is ArithmeticEnv
    assert environment_class(ByKeywords) is ByKeywords
    assert environment_class(functools.partial(ByKeywords, size=1)) is ByKeywords
    assert environment_class(make_it) is None
    assert environment_class("nowhere/Nothing-v0") is None
