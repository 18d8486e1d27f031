"""A group in Ray's object store, cut so that a Learner fetches the responses that it trains on.

The plan of an update balances tokens, so the responses to one prompt go to several Learners. Were a
group one object, each of these would fetch all of it. The cut is by response because the plan is
made after the EnvRunner has let go of the group. Texts and verdicts, which no Learner reads, are
apart from tokens.

To put an object into the store takes up to a millisecond, whatever its size, and so do its arrays
together. That is nothing beside sampling a response of thousands of tokens, but much beside one of
ten. So a group that only one process will fetch is not cut, and a small one is not put there at
all: it goes with its summary, as bytes that only those read who need the group.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import ray

from rllib_dapo.core.types import GroupTokens, PromptGroup, Response


@dataclass(frozen=True, kw_only=True, slots=True)
class WholeGroup:
    """Reference to a group that is one object.

    Attributes:
        reference: Reference to the `PromptGroup`.
    """

    reference: ray.ObjectRef

    @property
    def tokens(self) -> WholeGroup:
        """What Learners are given."""
        return self

    def tokens_of(self, indices: Iterable[int]) -> WholeGroup:
        """Returns the same, since no part of it can be fetched alone."""
        return self

    def references(self) -> list[ray.ObjectRef]:
        """All references."""
        return [self.reference]

    def assemble(self, parts: Sequence[Any]) -> PromptGroup:
        """Returns the group, given what `references` refer to."""
        (group,) = parts
        return group

    def fetch(self) -> PromptGroup:
        """Fetches the group."""
        return ray.get(self.reference)


@dataclass(frozen=True, kw_only=True, slots=True)
class PackedGroup:
    """A small group as bytes; no process but those of the run ever writes or reads them.

    Attributes:
        packed: The `PromptGroup`, pickled.
    """

    packed: bytes

    @property
    def tokens(self) -> PackedGroup:
        """What Learners are given."""
        return self

    def tokens_of(self, indices: Iterable[int]) -> PackedGroup:
        """Returns the same: a part of it would hardly be smaller."""
        return self

    def references(self) -> list[ray.ObjectRef]:
        """None: it is all here."""
        return []

    def assemble(self, parts: Sequence[Any]) -> PromptGroup:
        """Returns the group."""
        group: PromptGroup = pickle.loads(self.packed)
        return group

    def fetch(self) -> PromptGroup:
        """Returns the group."""
        return self.assemble([])


@dataclass(frozen=True, kw_only=True, slots=True)
class CutTokens:
    """References to the tokens of some responses of a group, and of their prompt.

    Attributes:
        prompt_ids: Reference to `GroupTokens.prompt_ids`.
        responses: Reference to the `ResponseTokens` of each response, by its place in the group.
    """

    prompt_ids: ray.ObjectRef
    responses: Mapping[int, ray.ObjectRef]

    def tokens_of(self, indices: Iterable[int]) -> CutTokens:
        """Returns the references to the responses at these places in the group alone."""
        return CutTokens(
            prompt_ids=self.prompt_ids, responses={i: self.responses[i] for i in indices}
        )

    def references(self) -> list[ray.ObjectRef]:
        """All references: the prompt's first, then those of the responses in their order."""
        return [self.prompt_ids, *self.responses.values()]

    def assemble(self, parts: Sequence[Any]) -> GroupTokens:
        """Returns the tokens, given what `references` refer to."""
        prompt_ids, *responses = parts
        return GroupTokens(
            prompt_ids=prompt_ids, responses=dict(zip(self.responses, responses, strict=True))
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class CutGroup:
    """References to all parts of a group.

    Attributes:
        tokens: The tokens of all responses, which Learners are given.
        rest: Reference to the group as it is without its tokens.
    """

    tokens: CutTokens
    rest: ray.ObjectRef

    def fetch(self) -> PromptGroup:
        """Fetches all parts and returns the group as it was."""
        rest, *parts = ray.get([self.rest, *self.tokens.references()])
        tokens = self.tokens.assemble(parts)

        responses = [
            replace(
                response,
                token_ids=tokens.responses[i].token_ids,
                loss_mask=tokens.responses[i].loss_mask,
                logprobs=tokens.responses[i].logprobs,
            )
            for i, response in enumerate(rest.responses)
        ]
        return replace(rest, prompt_ids=tokens.prompt_ids, responses=tuple(responses))


# Tokens of a group that is not worth an object. With what belongs to them they take some 50 KB.
SMALL = 4096

StoredGroup = PackedGroup | WholeGroup | CutGroup
StoredTokens = PackedGroup | WholeGroup | CutTokens


def store_group(group: PromptGroup, *, cut: bool, small: int = SMALL) -> StoredGroup:
    """Puts a group into the object store, unless it is small.

    Args:
        group: The group. In the store it lives as long as this process and the references to it.
        cut: Whether each response is an object of its own; for groups that several Learners train
            on.
        small: Number of tokens up to which a group is small.
    """
    if sum(len(response.token_ids) for response in group.responses) <= small:
        return PackedGroup(packed=pickle.dumps(group, protocol=5))
    if not cut:
        return WholeGroup(reference=ray.put(group))

    return CutGroup(
        tokens=CutTokens(
            prompt_ids=ray.put(group.prompt_ids),
            responses={i: ray.put(response.tokens) for i, response in enumerate(group.responses)},
        ),
        rest=ray.put(_without_tokens(group)),
    )


def fetch_tokens(stored: Sequence[StoredTokens]) -> list[PromptGroup | GroupTokens]:
    """Fetches tokens of several groups, all at once.

    Args:
        stored: References of each group.

    Returns:
        What they refer to, in the same order.
    """
    references = [one.references() for one in stored]
    found = iter(ray.get([reference for of_one in references for reference in of_one]))
    return [
        one.assemble([next(found) for _ in of_one])
        for one, of_one in zip(stored, references, strict=True)
    ]


def _without_tokens(group: PromptGroup) -> PromptGroup:
    def emptied(response: Response) -> Response:
        return replace(
            response,
            token_ids=np.empty_like(response.token_ids, shape=0),
            loss_mask=np.empty_like(response.loss_mask, shape=0),
            logprobs=np.empty_like(response.logprobs, shape=0),
        )

    return replace(
        group,
        prompt_ids=np.empty_like(group.prompt_ids, shape=0),
        responses=tuple(map(emptied, group.responses)),
    )
