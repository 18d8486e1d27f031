"""Builders shared by the tests of `rllib_dapo.core`, and its axes checked in every call."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import ModuleType
from typing import Any

import jaxtyping
import numpy as np
import pytest
import torch
from beartype import beartype

from rllib_dapo import core
from rllib_dapo.core import PromptGroup, Response, TrainResponse

MakeGroup = Callable[..., PromptGroup]
ToTrain = Callable[[Mapping[int, PromptGroup], Sequence[float]], list[TrainResponse]]


def _make_group(
    prompt_ids: Sequence[int],
    token_ids: Sequence[Sequence[int]],
    *,
    loss_masks: Sequence[Sequence[bool]] | None = None,
    logprobs: Sequence[Sequence[float]] | None = None,
    rewards: Sequence[float] | None = None,
) -> PromptGroup:
    """A group made from token ids; by default all tokens have loss, with log-probability -1."""
    responses = tuple(
        Response(
            token_ids=np.array(ids, dtype=np.int32),
            loss_mask=np.array(loss_masks[i] if loss_masks else [True] * len(ids), dtype=np.bool_),
            logprobs=np.array(logprobs[i] if logprobs else [-1.0] * len(ids), dtype=np.float32),
            finish_reason="stop",
            reward=rewards[i] if rewards else 0.0,
            is_correct=None,
            text="",
        )
        for i, ids in enumerate(token_ids)
    )

    return PromptGroup(
        seed=0,
        prompt="",
        prompt_ids=np.array(prompt_ids, dtype=np.int32),
        responses=responses,
        weights_version=0,
    )


def _to_train(
    groups: Mapping[int, PromptGroup], advantages: Sequence[float]
) -> list[TrainResponse]:
    """Every response of the groups, in order, with its advantage and its raw reward."""
    summaries = {key: group.summary() for key, group in groups.items()}
    places = [
        (key, i) for key, summary in summaries.items() for i in range(len(summary.response_tokens))
    ]

    return [
        TrainResponse(
            group=key,
            index=i,
            prompt_tokens=summaries[key].prompt_tokens,
            response_tokens=summaries[key].response_tokens[i],
            loss_tokens=summaries[key].loss_tokens[i],
            advantage=advantage,
            reward=groups[key].responses[i].reward,
        )
        for (key, i), advantage in zip(places, advantages, strict=True)
    ]


AXES_NAMES = ("Bool", "Float", "Float64", "Int", "Shaped")
CORE_MODULES = [core] + [
    importlib.import_module(f"{core.__name__}.{module.name}")
    for module in pkgutil.iter_modules(core.__path__)
]


def _with_axes(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, which now refuses tensors whose axes or types are not those it names."""
    inner = inspect.unwrap(function)
    checked = jaxtyping.jaxtyped(inner, typechecker=beartype)
    return checked if inner is function else torch.no_grad()(checked)


def _core_functions_with_axes() -> dict[Callable[..., Any], Callable[..., Any]]:
    """Every function of `core`, private ones too, and what takes its place in these tests."""
    functions = {
        function
        for module in CORE_MODULES
        for function in vars(module).values()
        if inspect.isfunction(function) and function.__module__.startswith(core.__name__)
    }
    with pytest.MonkeyPatch.context() as patch:
        # `core` itself imports these names for type checkers alone.
        for module in CORE_MODULES:
            for name in AXES_NAMES:
                patch.setattr(module, name, getattr(jaxtyping, name), raising=False)
        return {function: _with_axes(function) for function in functions}


@pytest.fixture(scope="session")
def with_axes() -> Mapping[Callable[..., Any], Callable[..., Any]]:
    return _core_functions_with_axes()


@pytest.fixture(autouse=True, scope="module")
def check_axes(
    request: pytest.FixtureRequest, with_axes: Mapping[Callable[..., Any], Callable[..., Any]]
) -> Iterator[None]:
    """Holds every call of a function of `core`, by a test or within `core`, to its axes."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (*CORE_MODULES, request.module):
            _replace_functions(patch, module, with_axes)
        yield


def _replace_functions(
    patch: pytest.MonkeyPatch,
    module: ModuleType,
    replacements: Mapping[Callable[..., Any], Callable[..., Any]],
) -> None:
    for name, value in list(vars(module).items()):
        if inspect.isfunction(value) and value in replacements:
            patch.setattr(module, name, replacements[value])


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Tensors here are tiny: on a busy machine threads mostly wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def make_group() -> MakeGroup:
    return _make_group


@pytest.fixture(scope="session")
def to_train() -> ToTrain:
    return _to_train
