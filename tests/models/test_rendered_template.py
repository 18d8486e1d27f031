"""What a chat template does with what it is given: kept, stripped, escaped, or refused."""

from __future__ import annotations

import json

import pytest

from rllib_dapo.envs.messages import Message
from rllib_dapo.models import prompt_token_ids
from rllib_dapo.models.tiny import make_tokenizer

SAID = '  say "\\x"\n\n  <b> & go '


def prompt(template: str, *messages: tuple[str, str], system_prompt: str = "") -> str:
    tokenizer = make_tokenizer()
    tokenizer.chat_template = template
    conversation = tuple(Message(role=role, content=content) for role, content in messages)
    return tokenizer.decode(prompt_token_ids(tokenizer, conversation, system_prompt=system_prompt))


def each(written: str) -> str:
    return "{% for m in messages %}[" + written + "]{% endfor %}"


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("{{ m.content }}", f"[{SAID}]"),
        ("{{ m.content | trim }}", f"[{SAID.strip()}]"),
        ("{{ m.content.rstrip() }}", f"[{SAID.rstrip()}]"),
        ("{{ m.content.lstrip() }}", f"[{SAID.lstrip()}]"),
        ("{{ m.content | tojson }}", f"[{json.dumps(SAID)}]"),
        ("{{ m.content }}{{ m.content }}", f"[{SAID}{SAID}]"),
        ("{{ m.content ~ '' }}", f"[{SAID}]"),
    ],
)
def test_what_a_template_writes_is_what_it_would_write_itself(written: str, expected: str) -> None:
    assert prompt(each(written), ("user", SAID)) == expected
    tokenizer = make_tokenizer()
    tokenizer.chat_template = each(written)
    rendered = tokenizer.apply_chat_template([{"role": "user", "content": SAID}], tokenize=False)
    assert rendered == expected


def test_newlines_alone_may_be_stripped() -> None:
    template = each("{{ m.content.strip('\\n') }}")
    assert prompt(template, ("user", "\n\n a \n")) == "[ a ]"


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("{{ m.content | upper }}", "does not keep"),
        ("{{ m.content[:5] }}", "does not keep"),
        ("{{ m.content | escape }}", "does not keep"),
        ("{{ m.content | replace('<', '') }}", "does not keep"),
        ("{{ m.content }}{{ m.content | replace('<', '') }}", "changes"),
        ("{% for part in m.content %}{{ part.text }}{% endfor %}", "does not keep"),
        ("{{ m.content | urlencode }}", "does not keep"),
        ("", "does not keep"),
        ("{{ raise_exception('not\nhere') }}", "not here"),
        ("{{ m.nothing.at.all }}", "UndefinedError"),
    ],
)
def test_a_template_that_changes_what_it_is_given_is_refused(written: str, said: str) -> None:
    with pytest.raises(ValueError, match=said) as raised:
        prompt(each(written), ("user", SAID))
    assert "chat template" in str(raised.value)
    assert "user" in str(raised.value)
    assert "\n" not in str(raised.value)


def test_no_content_steers_what_a_template_writes() -> None:
    template = each("{{ m.content }}{% if 'magic' in m.content %}<eos>{% endif %}")
    assert prompt(template, ("user", "magic")) == "[magic]"
    # Whether there is any content may matter.
    template = each("{% if m.content %}{{ m.role }}={{ m.content }}{% endif %}")
    assert prompt(template, ("system", ""), ("user", "x")) == "[][user=x]"


def test_a_system_message_may_stand_anywhere() -> None:
    # As in templates that put it in front of the last message of the user.
    template = "{{ messages[1].content }}{{ messages[2].content }}\n{{ messages[0].content }}"
    with pytest.raises(ValueError, match="role user"):
        prompt(template, ("system", "S"), ("user", "a"), ("assistant", "b"), ("user", "c"))
    template += "{{ messages[3].content }}"
    messages = (("system", "S"), ("user", "a"), ("assistant", "b"), ("user", "c"))
    assert prompt(template, *messages) == "ab\nSc"


ROLES = each("{{ m.role }}: {{ m.content }}")
NO_SYSTEM = (
    "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no system role') }}"
    "{% endif %}{{ m.content }}{% endfor %}"
)
DROPS_SYSTEM = "{% for m in messages if m.role != 'system' %}{{ m.content }}{% endfor %}"


def test_system_prompts_and_earlier_turns_reach_the_template_as_they_are() -> None:
    messages = [("system", "S"), ("user", "a"), ("assistant", "b"), ("tool", "t"), ("user", "c")]
    expected = "".join(f"[{role}: {content}]" for role, content in messages)
    assert prompt(ROLES, *messages) == expected


@pytest.mark.parametrize("role", ["system", "developer"])
def test_a_conversation_keeps_its_own_system_message(role: str) -> None:
    assert prompt(ROLES, ("user", "a"), system_prompt="S") == "[system: S][user: a]"
    own = prompt(ROLES, (role, "own"), ("user", "a"), system_prompt="S")
    assert own == f"[{role}: own][user: a]"


@pytest.mark.parametrize(
    ("template", "said"), [(NO_SYSTEM, "no system role"), (DROPS_SYSTEM, "role system")]
)
def test_a_template_without_a_system_role_is_named(template: str, said: str) -> None:
    assert prompt(template, ("user", "a")) == "a"
    with pytest.raises(ValueError, match=said) as raised:
        prompt(template, ("user", "a"), system_prompt="S")
    assert "system" in str(raised.value)
    assert "chat template of" in str(raised.value)


@pytest.mark.parametrize("roles", [["system", "user"], ["tool"], ["user", "assistant", "user"]])
def test_without_a_template_there_are_no_roles(roles: list[str]) -> None:
    tokenizer = make_tokenizer()
    tokenizer.chat_template = None
    conversation = tuple(Message(role=role, content="x") for role in roles)
    with pytest.raises(ValueError, match=r"has no chat template.*chat_template"):
        prompt_token_ids(tokenizer, conversation)
