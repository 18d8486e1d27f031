"""Prompts as conversations: what is taken, and what is refused in one line."""

import pytest

from rllib_dapo.envs.messages import Message, as_conversation, as_messages, plain_text

SYSTEM = {"role": "system", "content": "Be brief."}
USER = {"role": "user", "content": "1+1="}


def test_a_text_is_one_message_of_the_user() -> None:
    assert as_conversation("1+1=") == (Message(role="user", content="1+1="),)


def test_messages_keep_their_order_roles_and_texts() -> None:
    earlier = [USER, {"role": "assistant", "content": "2"}]
    conversation = as_conversation([SYSTEM, *earlier, {"role": "user", "content": "Sure?"}])

    assert [message.role for message in conversation] == ["system", "user", "assistant", "user"]
    assert as_messages(conversation)[:3] == [SYSTEM, *earlier]
    assert as_conversation(conversation) == conversation


def test_parts_of_a_content_are_put_together() -> None:
    parts = [{"type": "text", "text": "1+1"}, {"type": "text", "text": "=?"}, "Go."]
    assert as_conversation([{"role": "user", "content": parts}])[0].content == "1+1\n=?\nGo."


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (None, "not NoneType"),
        (5, "not int: 5"),
        (b"1+1=", "not bytes"),
        (USER, "not dict"),
        ([], "is empty"),
        (["1+1="], "must be a mapping"),
        ([{"content": "1+1="}], "has the role None; known: system, developer"),
        ([{"role": "human", "content": "1"}], "has the role 'human'"),
        ([{"role": "user"}], "has the content None"),
        ([{"role": "user", "content": []}], r"has the content \[\]"),
        ([{"role": "user", "content": [{"type": "image", "url": "x"}]}], "not a text"),
        ([{"role": "user", "content": "1", "tool_calls": [{"id": 1}]}], "has tool_calls beside"),
        ([USER, {"role": "assistant", "content": "2"}], "must not be the assistant's"),
    ],
)
def test_other_kinds_are_refused_in_one_line(value: object, said: str) -> None:
    with pytest.raises(ValueError, match=said) as refusal:
        as_conversation(value)
    assert "\n" not in str(refusal.value)


def test_as_a_text_a_conversation_names_who_speaks() -> None:
    assert plain_text("1+1=") == plain_text(as_conversation("1+1=")) == "1+1="
    assert plain_text(as_conversation([SYSTEM, USER])) == "system: Be brief.\n\nuser: 1+1="
