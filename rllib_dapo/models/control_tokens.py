"""Which tokens of a model are control tokens: those that a text must never turn into."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# White space as SentencePiece writes it.
_SENTENCEPIECE_SPACE = "\u2581"
_BYTE_TOKEN = re.compile(r"<0x[0-9A-Fa-f]{2}>")
_CONTROL_FORM = re.compile(r"<\|.+\|>", re.DOTALL)
_BRACKETED = re.compile(r"<.+>|\[.+\]|\{.+\}", re.DOTALL)


def control_token_ids(tokenizer: PreTrainedTokenizerBase) -> frozenset[int]:
    """Returns the ids that only a chat template, the engine or the model itself may write.

    They are

    - all special tokens, whether the tokenizer names them (`eos_token`) or not;
    - all tokens that were added to the vocabulary, such as `<think>`. Those of white space alone or
        of one character, and single bytes, are text: some tokenizers have added runs of spaces;
    - entries of the plain vocabulary in the form `<|...|>`, and other bracketed ones that the chat
        template writes, for not every tokenizer lists its control tokens as added ones.

    The unknown token is among them, though any character that a tokenizer does not know becomes it.

    Args:
        tokenizer: The model's tokenizer.
    """
    control = set(tokenizer.all_special_ids)
    for index, token in tokenizer.added_tokens_decoder.items():
        if token.special or not _is_text(token.content):
            control.add(index)

    source = template_source(tokenizer)
    for token, index in tokenizer.get_vocab().items():
        is_bracketed = _BRACKETED.fullmatch(token) and not _BYTE_TOKEN.fullmatch(token)
        if _CONTROL_FORM.fullmatch(token) or (is_bracketed and token in source):
            control.add(index)
    return frozenset(control)


def template_source(tokenizer: PreTrainedTokenizerBase) -> str:
    """Returns the chat template as it is written, `""` if there is none.

    A tokenizer may have several by name; they are joined.
    """
    template = tokenizer.chat_template
    if isinstance(template, dict):
        return "\n".join(map(str, template.values()))
    return template or ""


def _is_text(content: str) -> bool:
    bare = content.replace(_SENTENCEPIECE_SPACE, " ")
    return len(content) == 1 or bare.isspace() or _BYTE_TOKEN.fullmatch(content) is not None
