"""From texts to the token ids a model reads: prompts, and observations between two turns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rllib_dapo.envs.messages import Conversation, Message, as_conversation
from rllib_dapo.envs.tools import Tool, tool_name
from rllib_dapo.models.prompt_encoder import PromptEncoder, prompt_encoder, well_formed
from rllib_dapo.models.rendered_template import Piece, Slot

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def prompt_token_ids(
    tokenizer: PreTrainedTokenizerBase,
    prompt: str | Conversation,
    *,
    system_prompt: str = "",
    tools: Sequence[Tool] = (),
) -> list[int]:
    """Returns the token ids of a prompt in the model's chat template.

    All messages are untrusted: no text of theirs becomes a control token, and none steers what the
    template writes. The template writes the beginning-of-sequence token where the model wants one,
    so the tokenizer adds none.

    Without a template, a prompt of one user message is encoded as it stands, with the special
    tokens that the tokenizer puts in front of a text by itself. One that it puts behind, to say
    that the text has ended, is left out: the policy is to go on from there.

    Args:
        tokenizer: The model's tokenizer.
        prompt: A text, which is one message of the user, or a conversation.
        system_prompt: System message put in front of a conversation that has none of its own;
            `""` puts none there.
        tools: Tools that the template declares to the model.

    Raises:
        ValueError: If the template refuses such a conversation, leaves a message or a tool out or
            changes what a message says, or if there is no template for it; one line.
    """
    conversation = with_system_prompt(as_conversation(prompt), system_prompt)
    encoder = prompt_encoder(tokenizer)
    contents = [message.content for message in conversation]

    if not tokenizer.chat_template:
        _refuse_without_template(tokenizer, conversation, tools)
        return _ids_without_template(tokenizer, encoder, well_formed(contents[0]))

    pieces = encoder.template(conversation, tools=tools)
    _refuse_undeclared(pieces, tools)
    return encoder.encode(pieces, contents, at_start=True)


def with_system_prompt(conversation: Conversation, system_prompt: str) -> Conversation:
    """Returns a conversation that begins with a system message, unless it has one of its own."""
    if not system_prompt or any(m.role in ("system", "developer") for m in conversation):
        return conversation
    return (Message(role="system", content=system_prompt), *conversation)


def appends_end(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether a tokenizer puts the end-of-sequence token behind every text.

    Args:
        tokenizer: The model's tokenizer.
    """
    end = tokenizer.eos_token_id
    bare, wrapped = _bare_and_wrapped(tokenizer)
    return end is not None and wrapped[-1:] == [end] and bare[-1:] != [end]


def observation_token_ids(
    tokenizer: PreTrainedTokenizerBase,
    observation: str | Conversation,
    *,
    after: int,
    tools: Sequence[Tool] = (),
) -> list[int]:
    """Returns the token ids between two turns of the policy: what an environment observes.

    They are what the chat template puts between one message of the assistant and the next. They do
    not depend on the tokens before them, so they can follow whatever was sampled and leave it as it
    is. So it is where a template would rewrite earlier messages, for instance to leave out what a
    model thought: what was sampled stays.

    An observation is as untrusted as a prompt: a tool may repeat what a model wrote, and neither
    can write a message of another role.

    Args:
        tokenizer: The model's tokenizer.
        observation: What the environment returned: a text, which is one message of the user, or
            messages.
        after: Last token that was sampled. Where it ends the assistant's message already, the
            template's own end of the message is left out.
        tools: Tools that the template has declared in the prompt.

    Raises:
        ValueError: If the template does not keep the observation, or there is no template for it;
            one line.
    """
    conversation = as_conversation(observation)
    encoder = prompt_encoder(tokenizer)
    if not tokenizer.chat_template:
        _refuse_without_template(tokenizer, conversation, tools)
        return encoder.encode([Slot(index=0)], [conversation[0].content], at_start=False)

    turns = (
        Message(role="user", content="-"),
        Message(role="assistant", content="-"),
        *conversation,
    )
    contents = [turn.content for turn in turns]
    pieces = encoder.template(turns, tools=tools)

    places = {piece.index: place for place, piece in enumerate(pieces) if isinstance(piece, Slot)}
    if any(place < places[1] for index, place in places.items() if index > 1):
        raise ValueError(
            "the chat template does not put what an environment answers behind what the model said:"
            " set rollout.max_turns to 1, or mend the template"
        )
    return _after_turn(tokenizer, encoder, pieces[places[1] + 1 :], contents, after)


def _after_turn(
    tokenizer: PreTrainedTokenizerBase,
    encoder: PromptEncoder,
    pieces: Sequence[Piece],
    contents: Sequence[str],
    after: int,
) -> list[int]:
    """Encodes what follows the assistant's message, less the end that was sampled already."""
    end = str(tokenizer.convert_ids_to_tokens(after))
    # Some templates put a space in front of the end, which a model that has ended its turn did not.
    first = pieces[0].lstrip() if pieces and isinstance(pieces[0], str) else ""
    if not first.startswith(end):
        return encoder.encode(pieces, contents, at_start=False)

    # Encoded with the end in front, as the template has it: what follows may depend on it.
    ids = encoder.encode([first, *pieces[1:]], contents, at_start=False)
    if ids[:1] == [after]:
        return ids[1:]
    # A response that a stop string ended may end with the first letter of a control token alone.
    if ids[:1] and ids[0] in encoder.control:
        return ids
    return encoder.encode([first.removeprefix(end), *pieces[1:]], contents, at_start=False)


def _refuse_without_template(
    tokenizer: PreTrainedTokenizerBase, conversation: Conversation, tools: Sequence[Tool]
) -> None:
    roles = [message.role for message in conversation]
    if roles == ["user"] and not tools:
        return
    name = tokenizer.name_or_path or type(tokenizer).__name__
    asked = "tools" if tools else f"messages of the roles {', '.join(roles)}"
    raise ValueError(
        f"the tokenizer {name!r} has no chat template, and so no way to write {asked}: give one "
        "text as prompt, or set language_model.chat_template"
    )


def _refuse_undeclared(pieces: Sequence[Piece], tools: Sequence[Tool]) -> None:
    """Refuses a template that says nothing of a tool: the model could not know of it."""
    written = "".join(piece for piece in pieces if isinstance(piece, str))
    for tool in tools:
        if tool_name(tool) not in written:
            raise ValueError(
                f"the chat template does not declare the tool {tool_name(tool)!r}: set "
                "language_model.chat_template to one that writes `tools`, or have the environment "
                "explain its tools in the prompt"
            )


def _ids_without_template(
    tokenizer: PreTrainedTokenizerBase, encoder: PromptEncoder, text: str
) -> list[int]:
    if encoder.is_inert(text):
        ids = list(tokenizer(text)["input_ids"])
        return ids[:-1] if appends_end(tokenizer) else ids

    bare, wrapped = _bare_and_wrapped(tokenizer)
    starts = range(len(wrapped) - len(bare) + 1)
    start = next(at for at in starts if wrapped[at : at + len(bare)] == bare)
    behind = wrapped[start + len(bare) :]
    if appends_end(tokenizer):
        behind = behind[:-1]
    return wrapped[:start] + encoder.inert(text, at_start=True) + behind


def _bare_and_wrapped(tokenizer: PreTrainedTokenizerBase) -> tuple[list[int], list[int]]:
    """The ids of a text alone, and with what the tokenizer puts around every text."""
    bare, wrapped = (
        list(tokenizer("1", add_special_tokens=flag)["input_ids"]) for flag in (False, True)
    )
    return bare, wrapped
