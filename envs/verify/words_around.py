r"""The mathematics in a text that has words around it: the `48/2` of `48/2 marbles in all`."""

from __future__ import annotations

import re

_SIGNS = str.maketrans(
    {
        "−": "-",
        "–": "-",
        "°": r"^\circ ",
        "×": r"\times ",
        "÷": r"\div ",
        "·": r"\cdot ",
        "²": "^2",
        "³": "^3",
        "π": r"\pi ",
        "≈": " ",
        "\xa0": " ",
        "\u2009": " ",
        "\u202f": " ",
    }
)
_TAG = re.compile(r"</?[A-Za-z|][^\n]*")
# Two stars between operands are a power, and anywhere else bold type.
_MARKS = re.compile(r"\\[$()\[\]]|[$€£¥₹`\"]|\*\*(?![\w(\\]|\.[0-9])|(?<![\w)\]}])\*\*")
_BEFORE = re.compile(r"(?:[\s:=~'_,;]|[-+*](?=\s))+")  # such as the mark of a list
_WORD = re.compile(
    r"""
    (?<![\\A-Za-z]) [A-Za-z]{2,}
    | \\(?:text[a-z]*|mathrm|[mh]box)\s*\{                             # words of LaTeX
    | (?<![^\s]) [AaI] (?=\s[A-Za-z])
    | (?<=[0-9}%]) [ ]? [mshgLl] (?![A-Za-z0-9]) (?!\s*[-+*/=])           # a unit, no variable
    """,
    re.VERBOSE,
)
_NUMBER_AS_TEXT = re.compile(
    r"\\(?:text[a-z]*|math[a-z]+|[mh]box)\s*\{([^{}A-Za-z\\]*[0-9][^{}A-Za-z\\]*)\}"
)
_FORMULA = re.compile(
    r"""
    (?<!\\) \$\$ (?P<dollars>(?:[^$]|\\\$){1,400}) (?<!\\) \$\$
    | \\\[ (?P<brackets>.{1,400}?) \\\]
    | (?<![\\0-9$]) \$ (?P<dollar>(?:\\\$|[^\n$]){1,400}) (?<!\\) \$
    | \\\( (?P<parentheses>.{1,400}?) \\\)
    | (?P<fraction> -? \\[dt]?frac \{[0-9.]{1,40}\} \{[0-9.]{1,40}\} )
    """,
    re.VERBOSE | re.DOTALL,
)
_PLAIN = r"(?:[0-9]{1,3}(?:,[0-9]{3})+(?![0-9])(?:\.[0-9]+)?|[0-9]+(?:\.[0-9]+)?|\.[0-9]+)"
# The minus of "10-3" is not a sign.
_NUMBER = re.compile(rf"(?<![\w.,^\\])(?:(?<![)\]}}])[-+])?[$€£¥₹]?{_PLAIN}")
_SUM = re.compile(rf"{_NUMBER.pattern}(?:\s?(?:[-+*/^]|\\times|\\div|\\cdot)\s?{_PLAIN})*[ ]?%?")
_MIXED = re.compile(r"(?<![0-9.])([0-9]{1,9})[ ]+([0-9]{1,9})/([0-9]{1,9})(?![0-9.])")
_GROUPED = re.compile(r"(?<![0-9,.])[0-9]{1,3}(?:,[0-9]{3})+(?![0-9,])")
_DIGIT = re.compile("[0-9]")
_NOT_A_NAME = re.compile(
    r"\\(?:text[a-z]*|mathrm|[mh]box)\s*\{[^{}]*\}|\\(?:[dt]?frac|sqrt|pi|circ|times|cdot|div)(?![A-Za-z])"
)
_NAME_OR_LIST = re.compile(r"[A-Za-z,;:()\[\]<>]|\\[{}]")
_PRICE = re.compile(rf"{_PLAIN}\s+[A-Za-z]{{2,}}")
_LIST = re.compile(r"[(\[]|\\\{|[,;]\s")
_OR = re.compile(rf"or\s+[$€£]?({_PLAIN})")
_LEFT_OVER = " \t\n.,;:!?([{-+*/=^~'_&|\\"  # at the end, before a word


def has_words(text: str) -> bool:
    """Whether there are words in a text, beside commands of LaTeX."""
    return bool(_WORD.search(_as_latex(text)))


def without_marks(text: str) -> str:
    r"""Returns a text in LaTeX's spelling, without what surrounds mathematics in running text.

    Such as `$`, `\(`, the stars of bold type, signs of currencies, and a full stop.
    """
    text = _NUMBER_AS_TEXT.sub(r"\1", _MARKS.sub("", _as_latex(text)))
    before = _BEFORE.match(text)
    text = text[before.end() :] if before else text
    return _MIXED.sub(r"(\1+\2/\3)", text.rstrip(".;:? \n\t").removesuffix("\\\\").rstrip("_ '"))


def quantity(text: str) -> str:
    """Returns the mathematics among the words of a text; empty if there is none.

    What the text begins with counts, or else its first formula, or else what comes after its last
    `=`, or else its first number.
    """
    text = _as_latex(text)
    formula = _FORMULA.search(text)
    inside = "" if formula is None else _inside(formula)
    if formula is not None and inside and _is_whole_beginning(formula):
        return inside
    if lead := _up_to_a_word(text):
        return lead
    if inside:
        return inside

    numbers = list(_NUMBER.finditer(text))
    behind = [n for n in numbers if text[: n.start()].rstrip().endswith("=")]
    number = next(iter(behind[-1:] or numbers[:1]), None)
    return "" if number is None else _up_to_a_word(text[number.start() :])


def last_quantity(text: str) -> str | None:
    """Returns the formula or number that ends last in a text; None if there is none."""
    text = _as_latex(text[-2_000:])
    ends = [(n.end(), n.start(), n[0]) for n in _SUM.finditer(text)]
    ends += [
        (formula.end(), formula.start(), inside)
        for formula in _FORMULA.finditer(text)
        if (inside := _inside(formula))
    ]
    return max(ends, key=lambda end: (end[0], -end[1]))[2] if ends else None


def is_quantity(text: str) -> bool:
    """Whether a text is a number, perhaps with a unit or as `x = 5`; not a list or a formula."""
    value = _NOT_A_NAME.sub("", text.rpartition("=")[2])
    return bool(_DIGIT.search(value)) and not _NAME_OR_LIST.search(value)


def without_commas(text: str) -> str:
    """Returns numbers without the commas between their thousands; lists stay as they are."""
    head, equals, number = text.rpartition("=")
    if _LIST.search(number):
        return text
    return head + equals + _GROUPED.sub(lambda n: n[0].replace(",", ""), number)


def _as_latex(text: str) -> str:
    return _TAG.sub("", text.translate(_SIGNS))


def _up_to_a_word(text: str) -> str:
    """Returns the mathematics that a text begins with; empty if it begins with words."""
    text = without_marks(text)
    word = _WORD.search(text)
    lead = text[: word.start()] if word else text

    # A bracket that closes behind the word belongs to the words.
    while lead.count("(") > lead.count(")"):
        lead = lead[: lead.rindex("(")]
    lead = lead.rpartition("=")[2].strip().rstrip(_LEFT_OVER)
    if not any(c.isdigit() for c in lead):
        return ""
    other = _OR.match(text, word.start()) if word else None  # "18 or 19" is not 18
    return f"{lead}, {other[1]}" if other else lead


def _is_whole_beginning(formula: re.Match[str]) -> bool:
    """Whether a text begins with a formula in its marks, which does not go on behind them."""
    before, behind = formula.string[: formula.start()], formula.string[formula.end() :].lstrip()
    return not (before.strip() or formula["fraction"] or behind[:1] in tuple("-+*/=^\\"))


def _inside(formula: re.Match[str]) -> str:
    """Returns what is in a formula; empty if it is rather the text between two prices."""
    inside = next((part for part in formula.groups() if part), "")
    if formula["dollar"] and _PRICE.match(inside):
        return ""
    return without_marks(inside)
