"""Untrusted text as token ids among which no control token can be."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerBase


class InertEncoder:
    """Encodes text as a tokenizer does, but never as one of its control tokens.

    Transformers' `split_special_tokens` does not suffice: it lets added tokens through that are not
    marked as special, and entries of the plain vocabulary that look like control tokens. Therefore
    this encoder works on a copy of the tokenizer in which every control token has a random name:
    all ids stay what they are, and no text holds one of these names. A tokenizer that is written in
    Python has no such copy; what `split_special_tokens` gives is checked then.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, control: frozenset[int]) -> None:
        """Makes the copy, which takes up to a few seconds for a large vocabulary.

        Args:
            tokenizer: The model's tokenizer.
            control: Ids of its control tokens.
        """
        self._tokenizer = tokenizer
        # An unknown character becomes the unknown token. That is not a role that anybody can fake.
        self._refused = control - {tokenizer.unk_token_id}
        self._first: Tokenizer | None = None
        self._later: Tokenizer | None = None

        backend = getattr(tokenizer, "backend_tokenizer", None)
        if backend is not None:
            spec = json.loads(backend.to_str())
            _rename(spec, control)
            self._first = _from_spec(spec)
            self._later = _from_spec(spec) if _never_prepend(spec["pre_tokenizer"]) else self._first

    def encode(self, text: str, *, at_start: bool) -> list[int]:
        """Returns the ids of a text, without what a tokenizer puts before or behind it.

        Args:
            text: Untrusted text.
            at_start: Whether this is the beginning of all text, where some tokenizers put a space.

        Raises:
            ValueError: If a control token is left, or the text cannot be encoded; one line.
        """
        backend = self._first if at_start else self._later
        try:
            if backend is not None:
                ids = list(backend.encode(text, add_special_tokens=False).ids)
            else:
                ids = list(
                    self._tokenizer(text, add_special_tokens=False, split_special_tokens=True)[
                        "input_ids"
                    ]
                )
        except Exception as error:  # a vocabulary may lack a character and have no unknown token
            reason = " ".join(str(error).split())[:160]
            raise ValueError(f"the tokenizer cannot encode {text[:40]!r}: {reason}") from error

        if found := self._refused.intersection(ids):
            names = ", ".join(map(repr, self._tokenizer.convert_ids_to_tokens(sorted(found))))
            raise ValueError(
                f"the text {text[:40]!r} becomes the control token {names}, and this tokenizer, "
                "which is written in Python, cannot take it as text: leave it out of the prompt"
            )
        return ids


def _rename(spec: dict[str, Any], control: frozenset[int]) -> None:
    """Gives the control tokens of a tokenizer's description names that no text can hold."""
    model = spec["model"]
    vocab = model["vocab"]
    of_vocab = vocab.items() if isinstance(vocab, Mapping) else _numbered(vocab)
    added = ((token["content"], token["id"]) for token in spec["added_tokens"])
    secret = secrets.token_hex(8)
    names = {
        name: f"\ufdd0{secret}:{index}\ufdd1"
        for name, index in (*of_vocab, *added)
        if index in control
    }

    for token in spec["added_tokens"]:
        if token["id"] in control:
            token["content"] = names[token["content"]]
            token["normalized"] = token["lstrip"] = token["rstrip"] = token["single_word"] = False

    if isinstance(vocab, Mapping):
        model["vocab"] = {names.get(name, name): index for name, index in vocab.items()}
    else:
        model["vocab"] = [[names.get(name, name), score] for name, score in vocab]
    if model.get("unk_token") in names:
        model["unk_token"] = names[model["unk_token"]]
    if "merges" in model:
        prefix = model.get("continuing_subword_prefix") or ""
        model["merges"] = [
            merge for merge in model["merges"] if not _makes_any(merge, names, prefix)
        ]

    # What these do is not wanted here, and they know tokens by their old names.
    spec["post_processor"] = spec["truncation"] = spec["padding"] = None


def _numbered(pieces: Sequence[tuple[str, float]]) -> Iterator[tuple[str, int]]:
    return ((name, index) for index, (name, _) in enumerate(pieces))


def _makes_any(merge: str | Sequence[str], names: Mapping[str, str], prefix: str) -> bool:
    left, right = merge.split(" ", 1) if isinstance(merge, str) else merge
    made = left + right.removeprefix(prefix)
    return left in names or right in names or made in names


def _never_prepend(pre_tokenizer: dict[str, Any] | None) -> bool:
    """Takes out of a description that the very first text gets a space; says whether it did."""
    if pre_tokenizer is None:
        return False
    if pre_tokenizer["type"] == "Sequence":
        found = [_never_prepend(part) for part in pre_tokenizer["pretokenizers"]]
        return any(found)
    if pre_tokenizer.get("prepend_scheme") == "first":
        pre_tokenizer["prepend_scheme"] = "never"
        return True
    return False


def _from_spec(spec: dict[str, Any]) -> Tokenizer:
    from tokenizers import Tokenizer

    return Tokenizer.from_str(json.dumps(spec))
