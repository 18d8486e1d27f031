"""From records to token ids: what is learnt, what is held out, and what was too long."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np

from rllib_dapo.core.rows import TrainResponse
from rllib_dapo.core.types import GroupTokens, ResponseTokens
from rllib_dapo.envs.messages import plain_text
from rllib_dapo.envs.splits import split_of, text_key
from rllib_dapo.findings import SettingsError, one_line
from rllib_dapo.models.supervised_tokens import SupervisedTokens, supervised_tokens
from rllib_dapo.warm_start.records import SFTRecord, refuse_records

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Overlong = Literal["refuse", "cut", "skip"]
OVERLONG: tuple[str, ...] = get_args(Overlong)


@dataclass(frozen=True, kw_only=True, slots=True)
class SFTData:
    """The records as tokens.

    Attributes:
        train: Records that are learnt.
        heldout: Records whose loss is measured, and which are never learnt.
        cut: Number of records that were cut at their end.
        skipped: Number of records that were left out because they are too long.
    """

    train: tuple[SupervisedTokens, ...]
    heldout: tuple[SupervisedTokens, ...]
    cut: int
    skipped: int

    @property
    def longest_prompt(self) -> int:
        """Length of the longest prompt, in tokens."""
        return max(len(one.prompt_ids) for one in (*self.train, *self.heldout))

    @property
    def longest(self) -> int:
        """Length of the longest record, prompt included, in tokens."""
        both = (*self.train, *self.heldout)
        return max(len(one.prompt_ids) + len(one.token_ids) for one in both)

    @property
    def loss_tokens(self) -> int:
        """Number of tokens with loss in one epoch."""
        return sum(sum(one.loss_mask) for one in self.train)


def encode_records(
    records: Sequence[SFTRecord],
    tokenizer: PreTrainedTokenizerBase,
    *,
    path: Path,
    end_id: int,
    system_prompt: str,
    max_tokens: int | None,
    overlong: Overlong,
    heldout_fraction: float,
) -> SFTData:
    """Encodes records, and decides by a hash of the prompt which are held out.

    So no prompt is on both sides, however many responses it has, and a file that grows keeps its
    held-out records.

    Args:
        records: What was read.
        tokenizer: The model's tokenizer.
        path: Their file, for messages.
        end_id: See `supervised_tokens`.
        system_prompt: See `supervised_tokens`.
        max_tokens: Longest record, prompt included, in tokens; None for any length.
        overlong: What is done with longer ones.
        heldout_fraction: Share of the prompts that is held out.

    Raises:
        SettingsError: If a record cannot be encoded or is too long, or none is left to learn; one
            line.
    """
    parts: dict[str, list[SupervisedTokens]] = {"train": [], "heldout": []}
    bad: list[tuple[str, str]] = []
    too_long: list[tuple[str, str]] = []
    cut = skipped = 0

    for record in records:
        try:
            tokens = supervised_tokens(
                tokenizer, record.prompt, record.turns, end_id=end_id, system_prompt=system_prompt
            )
        except ValueError as error:
            bad.append((record.place, one_line(error)))
            continue

        length = len(tokens.prompt_ids) + len(tokens.token_ids)
        if max_tokens is not None and length > max_tokens:
            shorter = _cut(tokens, max_tokens) if overlong == "cut" else None
            if overlong == "skip":
                skipped += 1
                continue
            if shorter is None:
                too_long.append((record.place, _too_long(tokens, max_tokens)))
                continue
            tokens, cut = shorter, cut + 1
        parts[split_of(text_key(plain_text(record.prompt)), heldout_fraction)].append(tokens)

    refuse_records(path, bad)
    ways = "--overlong skip" if overlong == "cut" else "--overlong cut or --overlong skip"
    refuse_records(path, too_long, cure=f"raise --max-tokens, add {ways}, or shorten them")
    if not parts["train"]:
        raise SettingsError(
            f"FILE {path}: no record is left to learn: {len(parts['heldout'])} are held out "
            f"(--heldout {heldout_fraction}), and {skipped} are longer than --max-tokens "
            f"{max_tokens}"
        )
    return SFTData(
        train=tuple(parts["train"]), heldout=tuple(parts["heldout"]), cut=cut, skipped=skipped
    )


def as_training_data(
    records: Sequence[SupervisedTokens],
) -> tuple[dict[int, GroupTokens], list[TrainResponse]]:
    """Records in the form in which Learners are given responses; those to one prompt are a group.

    Args:
        records: Records of one mini-batch.

    Returns:
        The tokens by group, and the records, those of a group next to each other.
    """
    by_prompt: defaultdict[tuple[int, ...], list[SupervisedTokens]] = defaultdict(list)
    for record in records:
        by_prompt[tuple(record.prompt_ids)].append(record)

    groups: dict[int, GroupTokens] = {}
    responses: list[TrainResponse] = []
    for number, (prompt_ids, members) in enumerate(by_prompt.items()):
        groups[number] = GroupTokens(
            prompt_ids=np.asarray(prompt_ids, np.int32),
            responses={i: _as_response(member) for i, member in enumerate(members)},
        )
        responses += [
            TrainResponse(
                group=number,
                index=i,
                prompt_tokens=len(prompt_ids),
                response_tokens=len(member.token_ids),
                loss_tokens=sum(member.loss_mask),
                advantage=1.0,
                reward=0.0,
            )
            for i, member in enumerate(members)
        ]
    return groups, responses


def _as_response(record: SupervisedTokens) -> ResponseTokens:
    return ResponseTokens(
        token_ids=np.asarray(record.token_ids, np.int32),
        loss_mask=np.asarray(record.loss_mask, np.bool_),
        # No engine has sampled these, and nothing of supervised training looks at them.
        logprobs=np.zeros(len(record.token_ids), np.float32),
    )


def _cut(tokens: SupervisedTokens, max_tokens: int) -> SupervisedTokens | None:
    """The record without its end; None if nothing to learn is left."""
    kept = max_tokens - len(tokens.prompt_ids)
    if kept <= 0 or not any(tokens.loss_mask[:kept]):
        return None
    return replace(tokens, token_ids=tokens.token_ids[:kept], loss_mask=tokens.loss_mask[:kept])


def _too_long(tokens: SupervisedTokens, max_tokens: int) -> str:
    prompt, response = len(tokens.prompt_ids), len(tokens.token_ids)
    return (
        f"it has {prompt + response} tokens ({prompt} of the prompt), and --max-tokens is "
        f"{max_tokens}"
    )
