"""What a setting is: an argument of one of `DAPOConfig`'s methods, and all that follows from it.

A setting is written once. Its default is a line of `DAPOConfig.__init__`; its name, kind and
choices are the argument's name and annotation; its meaning is the argument's docstring. Run files,
`--set`, the checks of values and the tables of `docs/configuration.md` are derived from these.
"""

from __future__ import annotations

import builtins
import inspect
import typing
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache, wraps
from types import MappingProxyType
from typing import Any, TypeVar

from ray.rllib.algorithms.algorithm_config import AlgorithmConfig, NotProvided

from rllib_dapo.findings import suggest
from rllib_dapo.ray_internals import DEPRECATED_VALUE

Method = TypeVar("Method", bound=Callable[..., Any])

# RLlib's own methods that are sections too, beside those that this package writes or extends.
RLLIB_SECTIONS = ("environment", "env_runners", "learners", "resources", "fault_tolerance")
_MARK = "__settings__"


@dataclass(frozen=True, kw_only=True, slots=True)
class Setting:
    """One setting.

    Attributes:
        section: Name of the method, and of the section of a run file.
        name: Name of the argument, and of the key in the section.
        attribute: Attribute of the configuration that holds the value. RLlib has one namespace for
            all attributes, so it is not always called like the setting.
        annotation: Type of the values that are allowed.
    """

    section: str
    name: str
    attribute: str
    annotation: Any

    @property
    def dotted(self) -> str:
        """`section.name`, as in run files and messages."""
        return f"{self.section}.{self.name}"


def settings_section(**attributes: str) -> Callable[[Method], Method]:
    """Makes a method of `DAPOConfig`, or of a subclass, a section of settings.

    Every argument that a caller provides is assigned to the attribute of that name before the
    method's own code runs. No value is checked then: it may be one of Tune's search spaces.
    Arguments behind `**kwargs` are not touched; the method passes them on to its base class.

    Args:
        **attributes: For arguments whose attribute has another name: that name.
    """

    def decorate(method: Method) -> Method:
        signature = inspect.signature(method)

        @wraps(method)
        def assign_and_call(self: Any, *args: Any, **kwargs: Any) -> Any:
            refuse_unknown_arguments(type(self), method.__name__, kwargs)
            given = signature.bind(self, *args, **kwargs).arguments
            for name in _own_arguments(signature):
                if given.get(name, NotProvided) is not NotProvided:
                    setattr(self, attributes.get(name, name), given[name])
            return method(self, *args, **kwargs)

        setattr(assign_and_call, _MARK, MappingProxyType(attributes))
        return typing.cast(Method, assign_and_call)

    return decorate


def own_settings(config_class: type[AlgorithmConfig]) -> Mapping[str, Setting]:
    """The settings that a configuration adds to RLlib's, by dotted name, in the order of the code.

    Args:
        config_class: `DAPOConfig`, or a subclass with settings of its own.
    """
    # mypy takes the `__hash__` of a class's instances for that of the class.
    return _own_settings(config_class)  # type: ignore[arg-type]


@cache
def _own_settings(config_class: type[AlgorithmConfig]) -> Mapping[str, Setting]:
    found: dict[str, Setting] = {}
    for base in reversed(config_class.__mro__):
        for section, method in vars(base).items():
            if not hasattr(method, _MARK):
                continue
            hints = _type_hints(method)
            for name in _own_arguments(inspect.signature(method)):
                setting = Setting(
                    section=section,
                    name=name,
                    attribute=getattr(method, _MARK).get(name, name),
                    annotation=hints[name],
                )
                found[setting.dotted] = setting

    return MappingProxyType(found)


def attribute_of(dotted: str, config_class: type[AlgorithmConfig]) -> str:
    """The attribute that holds a setting `section.name`, one of RLlib's too."""
    own = own_settings(config_class).get(dotted)
    return dotted.partition(".")[2] if own is None else own.attribute


def own_sections(config_class: type[AlgorithmConfig]) -> tuple[str, ...]:
    """The sections with settings that RLlib does not have."""
    return tuple(dict.fromkeys(s.section for s in own_settings(config_class).values()))


def sections(config_class: type[AlgorithmConfig]) -> tuple[str, ...]:
    """The methods whose names and arguments make up a run file's sections and keys."""
    return (*own_sections(config_class), *RLLIB_SECTIONS)


def known_settings(config_class: type[AlgorithmConfig]) -> tuple[str, ...]:
    """Every `section.name` that a run file may hold, RLlib's too."""
    return tuple(
        f"{section}.{name}"
        for section in sections(config_class)
        for name in section_kinds(config_class, section)
    )


def refuse_unknown_arguments(
    config_class: type[AlgorithmConfig], section: str, names: Iterable[str]
) -> None:
    """Refuses arguments of a section's method that nothing takes, and says what was meant.

    Args:
        config_class: `DAPOConfig`, or a subclass with settings of its own.
        section: Name of the method.
        names: Names of the arguments.

    Raises:
        TypeError: For the first unknown name; one line.
    """
    known = section_kinds(config_class, section)
    # An argument that is deprecated is no setting, but its method says what has become of it.
    methods = (vars(base).get(section) for base in config_class.__mro__)
    taken = {name for method in methods if method for name in inspect.signature(method).parameters}

    for name in names:
        if name in known or name in taken:
            continue
        elsewhere = [one for one in known_settings(config_class) if one.endswith(f".{name}")]
        hint = f"; {name} is a setting of {elsewhere[0].partition('.')[0]}()" if elsewhere else ""
        raise TypeError(f"{section}() has no setting {name!r}{hint or suggest(name, known)}")


def section_kinds(config_class: type[AlgorithmConfig], section: str) -> Mapping[str, Any]:
    """Every key that a section of a run file may hold, RLlib's too, and the type of its values.

    RLlib's annotations are not exact (a number of CPUs is called a whole number and may be a
    fraction), so all that is taken from them is whether a text is allowed.
    """
    own = {
        s.name: s.annotation for s in own_settings(config_class).values() if s.section == section
    }
    return {**_rllib_kinds(section), **own}


@cache
def _rllib_kinds(section: str) -> Mapping[str, Any]:
    """The arguments of RLlib's method of this name, if it has one, and the type of their values."""
    method = getattr(AlgorithmConfig, section, None)
    if method is None:
        return {}
    hints = _type_hints(method)
    names = _own_arguments(inspect.signature(method))
    return {name: _loosely(hints.get(name, Any)) for name in names}


def _own_arguments(signature: inspect.Signature) -> list[str]:
    """The arguments that are settings: without `self`, `**kwargs` and those that are deprecated."""
    return [
        name
        for name, parameter in signature.parameters.items()
        if name != "self"
        and parameter.kind not in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL)
        and parameter.default != DEPRECATED_VALUE
    ]


class _Lenient(dict[str, Any]):
    """Names of annotations; one that only a type checker imports stands for anything."""

    def __missing__(self, name: str) -> Any:
        if hasattr(builtins, name):
            raise KeyError(name)
        return Any


def _type_hints(method: Callable[..., Any]) -> dict[str, Any]:
    function = inspect.unwrap(method)
    return typing.get_type_hints(function, localns=_Lenient(function.__globals__))


def _loosely(annotation: Any) -> Any:
    """Any value, or any but a text where the annotation allows none."""
    parts = typing.get_args(annotation) or (annotation,)
    takes_text = any(part in (Any, str) or isinstance(part, str) for part in parts)
    return Any if takes_text else NotText


class NotText:
    """The type of a setting of RLlib's that may be anything but a text."""
