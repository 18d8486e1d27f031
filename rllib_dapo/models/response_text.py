"""What a model wrote, as the text that rewards, environments and people read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import lru_cache
from typing import TYPE_CHECKING, Literal

from rllib_dapo.envs.messages import Message
from rllib_dapo.models.control_tokens import template_source
from rllib_dapo.models.rendered_template import Piece, Slot, render_template

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# Special tokens with a name that says what they are for; none of them is an answer's.
_NAMED = ("bos", "eos", "unk", "sep", "pad", "cls", "mask")
# Some templates are for single questions, some demand a system message.
_CONVERSATIONS = (("user", "assistant", "user"), ("user",), ("system", "user"))


def response_text(
    tokenizer: PreTrainedTokenizerBase,
    token_ids: Sequence[int],
    *,
    skip_special_tokens: bool | Literal["template"] = "template",
) -> str:
    """Returns the text of a response.

    Args:
        tokenizer: The model's tokenizer.
        token_ids: What was sampled, the end of the turn included.
        skip_special_tokens: Which special tokens are left out: True all, False none, `"template"`
            those that `framing_ids` names, so that a reward sees `<think>` and `<answer>` even
            where these are special tokens.
    """
    return response_reader(tokenizer, skip_special_tokens=skip_special_tokens)(token_ids)


def response_reader(
    tokenizer: PreTrainedTokenizerBase,
    *,
    skip_special_tokens: bool | Literal["template"] = "template",
) -> Callable[[Sequence[int]], str]:
    """Returns `response_text` for a tokenizer, for many responses.

    Args:
        tokenizer: The model's tokenizer.
        skip_special_tokens: As for `response_text`.
    """
    framing = framing_ids(tokenizer) if skip_special_tokens == "template" else frozenset()
    skips_all = skip_special_tokens is True

    def read(token_ids: Sequence[int]) -> str:
        kept = [index for index in token_ids if index not in framing]
        return str(tokenizer.decode(kept, skip_special_tokens=skips_all))

    return read


def framing_ids(tokenizer: PreTrainedTokenizerBase) -> frozenset[int]:
    """Returns the special tokens that frame messages rather than belong to what they say.

    They are those that the tokenizer names, such as the end-of-sequence and padding tokens, and
    those that the chat template writes around messages. A pair of tokens that opens the model's
    message, as `<think>` and `</think>` do in the templates of reasoning models, is part of what
    the model says.

    Args:
        tokenizer: The model's tokenizer.
    """
    return _made_once(tokenizer, template_source(tokenizer), len(tokenizer))


@lru_cache(maxsize=4)
def _made_once(tokenizer: PreTrainedTokenizerBase, template: str, size: int) -> frozenset[int]:
    ids = (getattr(tokenizer, f"{name}_token_id", None) for name in _NAMED)
    named = {int(index) for index in ids if index is not None}
    special = {i for i, token in tokenizer.added_tokens_decoder.items() if token.special}
    special |= set(tokenizer.all_special_ids) - named

    names = {i: str(tokenizer.convert_ids_to_tokens(i)) for i in special}
    by_name = {name: i for i, name in names.items()}
    closed_by = {i: by_name.get(f"{name[:1]}/{name[1:]}") for i, name in names.items()}

    framing = set(named)
    for text, may_open in _own_texts(tokenizer, template) if template else ():
        own = special.intersection(tokenizer(text, add_special_tokens=False)["input_ids"])
        if may_open:
            opening = {i for i in own if closed_by[i] is not None}
            own -= opening | {closed_by[i] for i in opening}
        framing |= own
    return frozenset(framing)


def _own_texts(tokenizer: PreTrainedTokenizerBase, template: str) -> list[tuple[str, bool]]:
    """What the template writes itself, and whether the model's own message may follow directly."""
    for roles in _CONVERSATIONS:
        with suppress(ValueError):
            pieces = render_template(tokenizer, [Message(role=role, content="-") for role in roles])
            return [
                (piece, _follows(pieces, place, roles))
                for place, piece in enumerate(pieces)
                if isinstance(piece, str)
            ]
    # Whatever it takes, it can only write what its source names.
    return [(template, True)]


def _follows(pieces: Sequence[Piece], place: int, roles: Sequence[str]) -> bool:
    after = next((piece for piece in pieces[place:] if isinstance(piece, Slot)), None)
    return after is None or roles[after.index] == "assistant"
