r"""One spelling for the many of a final answer, in the manner of Minerva (arXiv 2206.14858).

String surgery only: `\boxed{1,000\text{ dollars}}` and `$1000$` become `1000`; `1/2` and `0.5`
stay apart.
"""

from __future__ import annotations

import re

_UNITS = """
    cents? degrees? dollars? euros? pounds? percent points? units? edges? multiples integers?
    digits? ways?
    km kilometers? cm centimeters? mm millimeters? meters? metres? miles? mph feet foot ft inch
    inches yards?
    kg kilograms? gm grams? liters? litres? seconds? minutes? hours? days? weeks? months? years?
    meals? students? people persons? tickets? square cubic
""".split()  # noqa: SIM905 (the table reads better than forty quoted words)

_PLAIN_NUMBER = re.compile(r"\s*(-?[0-9]+)\s*")
_MATH_SPAN = re.compile(r"\$([^$]+)\$")
_ARTICLE = re.compile(r"\b(?:an?|[Tt]he)\s+")
_POWER = r"(?:\^\{?[23]\}?)?"
_UNIT = re.compile(rf"(?<![A-Za-z\\])(?:{'|'.join(_UNITS)})(?![A-Za-z]){_POWER}", re.IGNORECASE)
_SHORT_UNIT = re.compile(rf"\\(?:text|textrm|mathrm|mbox)\{{\s*(?:m|s|g|h|l|L|th)\s*\}}{_POWER}")
_AND = re.compile(r",?\s*\\(?:text|mbox)\{\s*and\s*\}")
_WRAPPER = re.compile(r"\\(?:text|textbf|textit|textrm|mathrm|mathbf|mbox|overline)\s*\{([^{}]*)\}")
_NOISE = re.compile(
    r'\\[$%!;:, ()\[\]]|\\(?:left|right|quad|l?dots)(?![A-Za-z])|\^\{?\\circ\}?|[$%"°~]'
)
_GROUPED = re.compile(r"[-+]?[0-9]{1,3}(?:,[0-9]{3})+(?:\.[0-9]+)?")


def normalize_answer(text: str) -> str:
    r"""Returns the one spelling that stands for `text`.

    The inside of the last `\boxed{}` counts, of that the part after the last `=`, and of that the
    part between dollar signs. Markup, articles, units and spaces go; `\frac12` and `\sqrt2` get
    their braces; `1,000` loses its comma (`1,2` is a list and keeps it), and a full stop at the end
    is dropped.

    Args:
        text: Text of a few hundred characters at most: the work may grow with the square of its
            length.
    """
    plain = _PLAIN_NUMBER.fullmatch(text)
    if plain:
        return plain[1]

    # From the outside to the inside: the box, the equation, the dollar signs.
    text = unbox(text).rpartition("=")[2].replace("−", "-").replace(r"\$", "")
    span = _MATH_SPAN.search(text)
    text = _drop_words(span[1] if span else text)

    text = text.replace(r"\dfrac", r"\frac").replace(r"\tfrac", r"\frac")
    text = "".join(_NOISE.sub("", text.replace("{,}", "").replace(r",\!", "")).split())
    text = _brace_shorthand(text).rstrip(".")
    return text.replace(",", "") if _GROUPED.fullmatch(text) else text


def unbox(text: str) -> str:
    r"""Returns the inside of the last `\boxed{...}`, up to its own closing brace if it has one."""
    _, box, inside = text.rpartition(r"\boxed{")
    if not box:
        return text

    depth = 1
    for position, character in enumerate(inside):
        depth += (character == "{") - (character == "}")
        if depth == 0:
            return inside[:position]
    return inside


def _drop_words(text: str) -> str:
    r"""Removes articles and units, and replaces `\text{...}` and the like by what is in it."""
    text = _SHORT_UNIT.sub("", _AND.sub(",", _ARTICLE.sub("", text)))
    text = _WRAPPER.sub(r"\1", text)
    # An answer that is itself a unit ("Answer: hours") has to survive.
    without_units = _UNIT.sub("", text)
    return without_units if without_units.strip(" .$") else text


def _brace_shorthand(text: str) -> str:
    r"""Writes `\frac12` as `\frac{1}{2}` and `\sqrt2` as `\sqrt{2}`; `text` has no spaces."""
    text = re.sub(r"\\frac([0-9A-Za-z])", r"\\frac{\1}", text)
    text = re.sub(r"(\\frac\{[^{}]*\})([0-9A-Za-z])", r"\1{\2}", text)
    return re.sub(r"\\sqrt([0-9A-Za-z])", r"\\sqrt{\1}", text)
