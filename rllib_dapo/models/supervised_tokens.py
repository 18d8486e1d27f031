"""A conversation that is to be learnt as it stands, as token ids: the policy's turns have loss."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from rllib_dapo.envs.messages import Conversation, Message
from rllib_dapo.envs.tools import Tool
from rllib_dapo.models.chat_template import observation_token_ids, prompt_token_ids
from rllib_dapo.models.control_tokens import control_token_ids, template_source
from rllib_dapo.models.inert_text import InertEncoder
from rllib_dapo.models.prompt_encoder import prompt_encoder, well_formed
from rllib_dapo.models.rendered_template import Slot
from rllib_dapo.models.response_text import framing_ids

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True, kw_only=True, slots=True)
class SupervisedTokens:
    """A prompt and what follows it, in the form that a rollout gives.

    Attributes:
        prompt_ids: `[P]` token ids of everything before the policy's first turn.
        token_ids: `[T]` token ids of the policy's turns and of what was said in between.
        loss_mask: `[T]` True on the policy's own tokens, the ends of its turns included.
    """

    prompt_ids: list[int]
    token_ids: list[int]
    loss_mask: list[bool]


def supervised_tokens(
    tokenizer: PreTrainedTokenizerBase,
    prompt: str | Conversation,
    turns: Sequence[str | Conversation],
    *,
    end_id: int,
    system_prompt: str = "",
    tools: Sequence[Tool] = (),
) -> SupervisedTokens:
    """Returns the tokens of a conversation, put together turn by turn as in a rollout.

    So what is learnt is what is sampled later: the prompt's ids are those of training, each turn
    follows as the policy would write it, and between two turns stands what the chat template puts
    there. The conversation is never rendered as a whole.

    Args:
        tokenizer: The model's tokenizer.
        prompt: What stands before the policy's first turn.
        turns: What follows, in turn: the policy's words, a text, and what is said back, a text of
            the user or messages. The policy has the first word and the last.
        end_id: Token that ends each turn of the policy, see `end_of_turn_id`.
        system_prompt: System message for a prompt that has none of its own.
        tools: Tools that the template declares to the model.

    Raises:
        ValueError: As `prompt_token_ids` and `observation_token_ids`.
    """
    prompt_ids = prompt_token_ids(tokenizer, prompt, system_prompt=system_prompt, tools=tools)

    token_ids: list[int] = []
    loss_mask: list[bool] = []
    for number, said in enumerate(turns):
        is_policy = number % 2 == 0
        if is_policy:
            assert isinstance(said, str), "the policy's own turns are texts"
            ids = [*response_token_ids(tokenizer, said), end_id]
        else:
            ids = observation_token_ids(tokenizer, said, after=end_id, tools=tools)
        token_ids += ids
        loss_mask += [is_policy] * len(ids)
    return SupervisedTokens(prompt_ids=prompt_ids, token_ids=token_ids, loss_mask=loss_mask)


def response_token_ids(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """Returns the ids of a turn of the policy, without its end.

    Unlike a prompt it may hold control tokens that a model writes itself, such as `<think>`. Those
    that frame messages stay text: no record can end a turn or speak in another role.

    Args:
        tokenizer: The model's tokenizer.
        text: What the policy is to say.
    """
    sound = well_formed(text)
    ids = list(tokenizer(sound, add_special_tokens=False)["input_ids"])
    refused, encoder = _framing(tokenizer, template_source(tokenizer), len(tokenizer))
    return ids if refused.isdisjoint(ids) else encoder.encode(sound, at_start=False)


def end_of_turn_id(tokenizer: PreTrainedTokenizerBase, stop_ids: Collection[int]) -> int:
    """Returns the token that ends a turn of the policy.

    It is the one that the chat template writes behind the assistant's words, where engines stop at
    it. Otherwise a model that has learnt it would go on and on in a rollout, so it is the
    tokenizer's end of sequence; what else the template puts there is then part of what follows.

    Args:
        tokenizer: The model's tokenizer.
        stop_ids: Tokens at which engines end a response.

    Raises:
        ValueError: If there is no such token; one line.
    """
    own = next((i for i in _ids_after_turn(tokenizer) if i in stop_ids), None)
    if own is not None:
        return own

    end = tokenizer.eos_token_id
    if end is None or (stop_ids and end not in stop_ids):
        raise ValueError(
            "no token ends a response: neither the chat template nor the tokenizer writes one of "
            f"eos_token_id={sorted(stop_ids)}: set eos_token_id in generation_config.json"
        )
    return int(end)


def _ids_after_turn(tokenizer: PreTrainedTokenizerBase) -> Iterator[int]:
    """Ids that the chat template writes between the assistant's words and the user's next ones."""
    if not tokenizer.chat_template:
        return
    try:
        turns = [Message(role=role, content="-") for role in ("user", "assistant", "user")]
        pieces = prompt_encoder(tokenizer).template(turns)
    except ValueError:  # a template for single questions
        return

    places: Sequence[int] = [
        place
        for place, piece in enumerate(pieces)
        if isinstance(piece, Slot) and piece.index in (1, 2)
    ]
    for piece in pieces[places[0] + 1 : places[-1]]:
        yield from tokenizer(piece, add_special_tokens=False)["input_ids"]


@lru_cache(maxsize=4)
def _framing(
    tokenizer: PreTrainedTokenizerBase, template: str, size: int
) -> tuple[frozenset[int], InertEncoder]:
    """Ids that no response may hold, and an encoder that never gives them."""
    added = frozenset(tokenizer.added_tokens_decoder)
    # The unknown token frames nothing that anybody could fake, and the encoder leaves it alone.
    refused = framing_ids(tokenizer) | (control_token_ids(tokenizer) - added)
    refused -= {tokenizer.unk_token_id}
    return refused, InertEncoder(tokenizer, refused)
