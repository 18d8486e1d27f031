"""How an environment is made: the signature of what makes it says how it takes its settings.

It imports little, for it runs in the child processes of environments too.
"""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import gymnasium

from rllib_dapo.envs.shown_value import shown

# Names that RLlib's and other environments give to the one mapping that holds all settings.
_CONFIG_NAMES = frozenset(
    {"config", "env_config", "env_context", "context", "ctx", "cfg", "conf", "env_cfg", "settings"}
)
_CONFIG_TYPES = ("Mapping", "MutableMapping", "Dict", "dict", "EnvContext")
_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


def construct(make: Callable[..., Any], config: Mapping[str, Any]) -> gymnasium.Env[Any, Any]:
    """Makes an environment by a class or a function.

    Its signature decides. A first argument that is called `config`, or is annotated as a mapping,
    gets all settings, as RLlib's environments do; so does a lone argument that is required and has
    no setting of its name. Otherwise each setting is an argument of its name.

    Args:
        make: The class or function.
        config: The settings, `environment.env_config`.

    Raises:
        ValueError: If there is a setting that `make` does not take, or one is lacking that it
            needs; one line.
    """
    parameters = _parameters(make)
    if parameters is None:  # written in C: nothing tells, so it is called as RLlib would
        made: gymnasium.Env[Any, Any] = make(config)
        return made
    if _takes_mapping(parameters, config):
        made = make(config)
        return made

    _refuse_misfits(_name(make), parameters, config)
    made = make(**config)
    return made


def environment_class(env: Any) -> type | None:
    """Returns the class that an environment will have, if that can be told before it is made.

    Args:
        env: A class, or the id or specification of a registered environment.
    """
    # Importing a user's module may raise anything, and making the environment will raise it again.
    try:
        specification: Any = gymnasium.spec(env) if isinstance(env, str) else env
        if isinstance(specification, gymnasium.envs.registration.EnvSpec):
            env = specification.entry_point
        if isinstance(env, str):
            env = gymnasium.envs.registration.load_env_creator(env)
    except Exception:
        return None
    env = getattr(env, "func", env)  # functools.partial
    return env if isinstance(env, type) else None


def _parameters(make: Callable[..., Any]) -> list[inspect.Parameter] | None:
    """Returns the parameters of a call; None if they cannot be told.

    A class whose `__init__` hands everything on (`*args, **kwargs`) has those of the class before.
    """
    try:
        parameters = list(inspect.signature(make).parameters.values())
    except (TypeError, ValueError):
        return None
    if not isinstance(make, type) or not _hands_everything_on(parameters):
        return parameters

    for base in make.__mro__[1:]:
        if "__init__" in vars(base) and base not in (object, gymnasium.Env):
            own = list(inspect.signature(vars(base)["__init__"]).parameters.values())[1:]
            if not _hands_everything_on(own):
                return own
    return parameters


def _hands_everything_on(parameters: list[inspect.Parameter]) -> bool:
    kinds = [parameter.kind for parameter in parameters]
    return kinds == [inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD]


def _takes_mapping(parameters: list[inspect.Parameter], config: Mapping[str, Any]) -> bool:
    """Whether the first argument is the mapping of all settings."""
    kinds = {parameter.kind for parameter in parameters}
    positional = [parameter for parameter in parameters if parameter.kind in _POSITIONAL]
    if not positional:
        # Nothing but `*args` can only be given in order.
        return kinds == {inspect.Parameter.VAR_POSITIONAL}

    first = positional[0]
    names = {p.name for p in parameters if p.kind not in (first.VAR_KEYWORD, first.VAR_POSITIONAL)}
    if first.name in config and names.issuperset(config):
        return False
    if first.name in _CONFIG_NAMES or _is_mapping(first.annotation):
        return True

    # RLlib's convention names no name: a lone argument that must be there is the mapping, unless
    # it says that it is something else.
    required = [p for p in positional if p.default is p.empty]
    is_alone = required == [first] and not names.intersection(config)
    return is_alone and first.annotation in (first.empty, Any, "Any")


def _is_mapping(annotation: Any) -> bool:
    """Whether an annotation is a mapping; it is a text where annotations are postponed."""
    told = annotation if isinstance(annotation, str) else getattr(annotation, "__name__", None)
    words = (
        str(annotation if told is None else told).replace("typing.", "").removeprefix("Optional[")
    )
    return words.partition("[")[0].partition("|")[0].strip().split(".")[-1] in _CONFIG_TYPES


def _refuse_misfits(
    name: str, parameters: list[inspect.Parameter], config: Mapping[str, Any]
) -> None:
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    known = {p.name: p for p in parameters if p.kind in named}

    if not any(p.kind is p.VAR_KEYWORD for p in parameters):
        for key, value in config.items():
            if key not in known:
                close = difflib.get_close_matches(str(key), list(known), n=1)
                guess = f"; did you mean {close[0]!r}? It" if close else "; it"
                takes = f"takes {', '.join(known)}" if known else "takes no settings"
                raise ValueError(
                    f"{name}: unknown setting {key!r} (value {shown(value)}) in env_config{guess} "
                    f"{takes}"
                )

    lacking = [key for key, p in known.items() if p.default is p.empty and key not in config]
    if lacking:
        raise ValueError(f"{name}: env_config lacks {', '.join(lacking)}, which has no default")


def _name(make: Any) -> str:
    return str(getattr(getattr(make, "func", make), "__name__", type(make).__name__))
