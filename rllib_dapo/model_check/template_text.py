"""Whether what a template and a tokenizer give back still holds a text that went in."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def known_part(text: str, tokenizer: PreTrainedTokenizerBase) -> str:
    """Returns the characters that a tokenizer can give back: some know digits and signs alone."""

    def is_known(character: str) -> bool:
        ids = tokenizer(character, add_special_tokens=False)["input_ids"]
        return character in str(tokenizer.decode(ids))

    return "".join(filter(is_known, text))


def holds(rendered: str, text: str) -> bool:
    """Whether a text is in another one, but for white space, which some tokenizers change."""
    return "".join(text.split()) in "".join(rendered.split())
