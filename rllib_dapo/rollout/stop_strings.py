"""Where a response stops: stop strings are found in the text, and cut in the ids.

Token ids are carried and never made again from text, so a response is cut between two tokens or not
at all. A stop string may begin or end inside a token. Then the whole token is kept, with the text
in front of the stop string, and how much of its text the environment is not to read is noted.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from rllib_dapo.rollout.engine import Completion
from rllib_dapo.rollout.sampling_options import SamplingOptions

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# From ids to the text in which stop strings are looked for.
Decode = Callable[[Sequence[int]], str]

# What half a character is decoded to, until the tokens with the rest of it have come.
_HALF = "\ufffd"


def plain_decode(tokenizer: PreTrainedTokenizerBase) -> Decode:
    """The text with all special tokens, so that `</think>` stops a response where it is one.

    Args:
        tokenizer: The model's tokenizer.
    """

    def decode(token_ids: Sequence[int]) -> str:
        return str(
            tokenizer.decode(
                list(token_ids), skip_special_tokens=False, clean_up_tokenization_spaces=False
            )
        )

    return decode


def first_stop(
    token_ids: Sequence[int], stop: Sequence[str], decode: Decode
) -> tuple[int, str] | None:
    """The stop string that is complete first, as an engine finds it that looks token by token.

    Args:
        token_ids: `[T]` sampled tokens.
        stop: Stop strings.
        decode: From ids to text.

    Returns:
        Number of tokens up to its end, and the stop string; None if there is none.
    """

    def has_stopped(length: int) -> bool:
        text = decode(token_ids[:length])
        return any(one in text for one in stop)

    if not has_stopped(len(token_ids)):
        return None
    length = bisect_left(range(len(token_ids) + 1), True, lo=1, key=has_stopped)
    text = decode(token_ids[:length])
    return length, min((one for one in stop if one in text), key=lambda one: _end(text, one))


def cut_at_stop(
    completion: Completion, stopped_by: str | int | None, options: SamplingOptions, decode: Decode
) -> Completion:
    """A response without what has ended it, where `include_stop` is false.

    Args:
        completion: All that was sampled, up to the token with which the response has ended.
        stopped_by: The stop string or token id that has ended it; None if something else has.
        options: How the response was drawn.
        decode: From ids to the text in which the stop string was found.

    Returns:
        The response with as many of its first tokens as hold the text in front of the stop, and at
        least one: without a token there is nothing to train on.
    """
    ids = completion.token_ids.tolist()
    if options.include_stop or not ids:
        return completion

    if isinstance(stopped_by, str):
        text = decode(ids)
        begin = _begin(text, stopped_by, before=decode(ids[:-1]))
        kept = len(ids)
        while kept > 1 and decode(ids[: kept - 1]).startswith(text[:begin]):
            kept -= 1
        return _shortened(completion, kept, unread=len(decode(ids[:kept])) - begin)

    if stopped_by in options.stop_token_ids:
        kept = max(1, len(ids) - 1)
        return _shortened(completion, kept, unread=0 if kept < len(ids) else len(decode(ids)))
    return completion


def read_text(completion: Completion, read: Decode) -> str:
    """The text of a response for its environment, less what belongs to a stop string.

    Args:
        completion: The response.
        read: From ids to what an environment reads, which may leave out special tokens.
    """
    ids = completion.token_ids.tolist()
    text = read(ids)
    if not completion.unread:
        return text

    of_last = len(text) - len(read(ids[:-1]).rstrip(_HALF))
    return text[: len(text) - min(completion.unread, of_last)]


def _begin(text: str, stop: str, *, before: str) -> int:
    """Where the first occurrence of a stop string begins that the last token has completed."""
    known = len(before.rstrip(_HALF))
    found = text.find(stop, max(0, known - len(stop) + 1))
    return len(text) if found < 0 else found


def _end(text: str, stop: str) -> int:
    return text.find(stop) + len(stop)


def _shortened(completion: Completion, length: int, *, unread: int) -> Completion:
    return replace(
        completion,
        token_ids=completion.token_ids[:length],
        logprobs=completion.logprobs[:length],
        version_starts=tuple(
            (start, version) for start, version in completion.version_starts if start < length
        ),
        unread=unread,
    )
