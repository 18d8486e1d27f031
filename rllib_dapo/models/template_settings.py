"""A chat template of the user's own, and the values of the names that a template reads."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_TEMPLATE: Final = "language_model.chat_template"
_KWARGS: Final = "language_model.chat_template_kwargs"
_MOST_BYTES: Final = 1 << 20

# What transformers itself gives to a template, beside the tokenizer's special tokens.
_GIVEN: Final = frozenset(
    {"messages", "tools", "documents", "add_generation_prompt", "raise_exception", "strftime_now"}
)
# Control characters and halves of characters, which Jinja reads otherwise than JSON writes them.
_UNWRITABLE: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f\ud800-\udfff]")
# Transformers' own block, which Jinja does not know: it marks what the assistant says.
_GENERATION_BLOCK: Final = re.compile(r"\{%-?\s*(?:end)?generation\s*-?%\}")


def read_template(given: str) -> str:
    """Returns a chat template, given as the path of its file or as it is written.

    Args:
        given: Path of a Jinja file, or the template itself, which is told by its `{{` or `{%`.

    Raises:
        ValueError: If the file cannot be read, or is not a Jinja template; one line.
    """
    if "{{" in given or "{%" in given:
        template = given
    else:
        path = Path(given).expanduser()
        try:
            if path.stat().st_size > _MOST_BYTES:
                raise ValueError(f"{_TEMPLATE}={given!r}: the file has more than 1 MiB")
            template = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "it is not a text in UTF-8"
            raise ValueError(f"{_TEMPLATE}={given!r} cannot be read: {reason}") from error

    if "{{" not in template and "{%" not in template:
        raise ValueError(f"{_TEMPLATE}={given!r}: the file writes no message, for it has no {{{{")
    _names_read(template)
    return template


def use_template_settings(
    tokenizer: PreTrainedTokenizerBase,
    *,
    chat_template: str = "",
    chat_template_kwargs: Mapping[str, Any] | None = None,
) -> None:
    """Gives a tokenizer another chat template, or a template's names other values.

    Values become a part of the template: a line in front of it that sets each name, unless whoever
    renders it gives the name a value of his own. So whatever takes the tokenizer renders alike, and
    so does a model that was exported with it.

    Args:
        tokenizer: The model's tokenizer, whose template is replaced.
        chat_template: As `read_template`; `""` keeps the tokenizer's own.
        chat_template_kwargs: Values by name, made of what JSON knows.

    Raises:
        ValueError: If the template cannot be read, never reads a name, or is given the name by
            transformers itself; one line.
    """
    if chat_template:
        tokenizer.chat_template = read_template(chat_template)
    if not chat_template_kwargs:
        return

    own = tokenizer.chat_template
    if not own:
        raise ValueError(
            f"{_KWARGS}: the tokenizer has no chat template to read them: set {_TEMPLATE}"
        )
    several = own if isinstance(own, dict) else {"default": own}
    read = frozenset().union(*map(_names_read, several.values()))
    for name in chat_template_kwargs:
        _refuse_name(name, read, given=_GIVEN.union(tokenizer.special_tokens_map))

    front = defaults(chat_template_kwargs)
    written = {
        name: template if template.startswith(front) else front + template
        for name, template in several.items()
    }
    tokenizer.chat_template = written if isinstance(own, dict) else written["default"]


def defaults(values: Mapping[str, Any]) -> str:
    """Returns Jinja that gives names these values, where they have none yet.

    Args:
        values: Values by name.

    Raises:
        ValueError: If a name is not one of Jinja's, or a value is not made of what JSON knows.
    """
    return "".join(
        f"{{%- if {_name(name)} is not defined %}}{{%- set {name} = {_literal(name, value)} %}}"
        "{%- endif %}"
        for name, value in values.items()
    )


def _names_read(template: str) -> frozenset[str]:
    """The names that a template reads and does not set itself."""
    from jinja2 import TemplateSyntaxError, meta
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    environment = ImmutableSandboxedEnvironment(extensions=["jinja2.ext.loopcontrols"])
    try:
        parsed = environment.parse(_GENERATION_BLOCK.sub("", template))
    except TemplateSyntaxError as error:
        raise ValueError(
            f"{_TEMPLATE}: line {error.lineno} is not Jinja: {error.message}"
        ) from error
    return frozenset(meta.find_undeclared_variables(parsed))


def _refuse_name(name: str, read: frozenset[str], *, given: frozenset[str]) -> None:
    if name in given:
        raise ValueError(f"{_KWARGS}: the template is always given {name!r}: leave it out")
    if name not in read:
        names = ", ".join(sorted(read - given - {"namespace", "range"})) or "none that can be set"
        raise ValueError(f"{_KWARGS}: the chat template never reads {name!r}; it reads: {names}")


def _name(name: Any) -> str:
    if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
        raise ValueError(f"{_KWARGS}: {name!r} is not a name that a template can read")
    return name


def _literal(name: str, value: Any) -> str:
    """A value as Jinja writes it; its texts are those of JSON, less JSON's way with surrogates."""
    match value:
        case None:
            return "none"
        case bool():
            return "true" if value else "false"
        case int():
            return str(value)
        case float() if math.isfinite(value):
            return repr(value)
        case str() if not _UNWRITABLE.search(value):
            return json.dumps(value, ensure_ascii=False)
        case list() | tuple():
            return f"[{', '.join(_literal(name, inner) for inner in value)}]"
        case Mapping():
            pairs = (f"{_literal(name, str(k))}: {_literal(name, v)}" for k, v in value.items())
            return f"{{{', '.join(pairs)}}}"
    raise ValueError(
        f"{_KWARGS}: {name}={value!r} must be true, false, null, a number, a text, or a list or "
        "mapping of these"
    )
