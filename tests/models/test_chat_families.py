"""Prompts of known families of chat models: what transformers renders, turn after turn."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from rllib_dapo.envs.messages import Message, as_conversation
from rllib_dapo.envs.tools_env import function_tool
from rllib_dapo.model_check.later_turns import check_earlier_turns, check_later_turns
from rllib_dapo.models import load_tokenizer, observation_token_ids, prompt_token_ids
from rllib_dapo.models.template_settings import use_template_settings
from tests.models.chat_families import FAMILIES, TEMPLATES, Family, read, tokenizer_of

ADD = function_tool("add", "Add two numbers.", {name: {"type": "integer"} for name in "ab"})
LOOK = function_tool("look", "Look something up.", {"what": {"type": "string"}}, optional=("what",))
USER, AGAIN = "What is 5 and 7?", "And 5 and 8 \u4f60\u597d?"
ANSWER = Message(role="tool", content='{"sum": 12}', name="add", tool_call_id="call00000")

every_family = pytest.mark.parametrize("name", FAMILIES)
with_tools = pytest.mark.parametrize("name", [n for n, f in FAMILIES.items() if f.has_tools])


def messages(*said: tuple[str, str]) -> list[dict[str, str]]:
    return [{"role": role, "content": content} for role, content in said]


def rendered(tokenizer: Any, conversation: Sequence[Any], **rest: Any) -> list[int]:
    """Transformers' own."""
    rest = {"tools": None, "add_generation_prompt": True, **rest}
    ids: list[int] = tokenizer.apply_chat_template(list(conversation), return_dict=False, **rest)
    return ids


def sampled(tokenizer: Any, text: str) -> list[int]:
    """A response that ends its turn."""
    ids: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
    return [*ids, tokenizer.eos_token_id]


def question(family: Family) -> list[dict[str, str]]:
    """A prompt that may declare tools."""
    system = [("system", "Be careful.")] if family.has_tools == "system" else []
    return messages(*system, ("user", USER))


@every_family
def test_prompt_ids_are_those_of_transformers(name: str) -> None:
    tokenizer, family = tokenizer_of(name), FAMILIES[name]
    conversations = [
        messages(("user", USER)),
        messages(("user", USER), ("assistant", "It is 12."), ("user", AGAIN)),
    ]
    if family.has_system:
        conversations += [messages(("system", "Be brief."), *pairs) for pairs in _pairs()]
    for conversation in conversations:
        assert prompt_token_ids(tokenizer, as_conversation(conversation)) == rendered(
            tokenizer, conversation
        )


def _pairs() -> list[tuple[tuple[str, str], ...]]:
    return [(("user", USER),), (("user", USER), ("assistant", "12"), ("user", AGAIN))]


@with_tools
@pytest.mark.parametrize("tools", [[ADD], [ADD, LOOK]], ids=["one", "two"])
def test_prompts_with_tools_are_those_of_transformers(name: str, tools: list[Any]) -> None:
    tokenizer, prompt = tokenizer_of(name), question(FAMILIES[name])
    ids = prompt_token_ids(tokenizer, as_conversation(prompt), tools=tools)
    assert ids == rendered(tokenizer, prompt, tools=tools)
    assert ids != prompt_token_ids(tokenizer, as_conversation(prompt))


@pytest.mark.parametrize("name", [n for n, f in FAMILIES.items() if not f.has_tools])
def test_a_template_without_tools_refuses_them(name: str) -> None:
    with pytest.raises(ValueError, match="does not declare the tool 'add'"):
        prompt_token_ids(tokenizer_of(name), USER, tools=[ADD])


@every_family
def test_what_was_sampled_stays_in_front_of_every_later_turn(name: str) -> None:
    tokenizer = tokenizer_of(name)
    conversation = messages(("user", USER))
    sent = prompt_token_ids(tokenizer, USER)

    for number in range(3):
        said = f"I say {number}" if name != "llama2" else f" I say {number} "
        before = [*sent, *sampled(tokenizer, said)]
        sent = [*before, *observation_token_ids(tokenizer, AGAIN, after=before[-1])]
        conversation += messages(("assistant", said.strip()), ("user", AGAIN))

        whole = rendered(tokenizer, conversation)
        assert sent[: len(before)] == before
        # Behind the last response all templates agree with transformers, and most do wholly.
        tail = sent[len(before) - 1 :]
        assert whole[-len(tail) :] == tail
        if name not in ("deepseek-r1", "llama2"):  # one opens a thought, one pads with spaces
            assert sent == whole


@pytest.mark.parametrize("name", ["qwen3", "deepseek-r1"])
def test_what_was_thought_in_earlier_turns_stays_though_the_template_leaves_it_out(
    name: str,
) -> None:
    tokenizer = tokenizer_of(name)
    opened = "" if name == "deepseek-r1" else "<think>\n"
    said = f"{opened}five and seven\n</think>\n\nIt is 12."
    before = [*prompt_token_ids(tokenizer, USER), *sampled(tokenizer, said)]
    sent = before + observation_token_ids(tokenizer, AGAIN, after=before[-1])

    whole = rendered(tokenizer, messages(("user", USER), ("assistant", said), ("user", AGAIN)))
    assert "five and seven" in tokenizer.decode(sent)
    assert "five and seven" not in tokenizer.decode(whole)
    tail = sent[len(before) - 1 :]
    assert whole[-len(tail) :] == tail

    finding = check_earlier_turns(tokenizer)
    assert finding.verdict == "note"
    assert "leaves out what was thought" in finding.detail


@pytest.mark.parametrize("name", [n for n, f in FAMILIES.items() if f.has_tool_role])
def test_a_tool_answers_in_the_role_that_the_template_has_for_it(name: str) -> None:
    tokenizer, family = tokenizer_of(name), FAMILIES[name]
    tools = [ADD] if family.has_tools else []
    prompt, said = question(family), family.call or "add 1 and 2"
    before = prompt_token_ids(tokenizer, as_conversation(prompt), tools=tools)
    before += sampled(tokenizer, said)
    several = (ANSWER, Message(role="tool", content="none", name="look", tool_call_id="call00001"))

    for answers in ((ANSWER,), several):
        sent = before + observation_token_ids(tokenizer, answers, after=before[-1], tools=tools)
        answered = [answer.as_mapping() for answer in answers]
        whole = rendered(
            tokenizer, [*prompt, *messages(("assistant", said)), *answered], tools=tools or None
        )
        tail = sent[len(before) - 1 :]
        assert whole[-len(tail) :] == tail
        assert ANSWER.content in tokenizer.decode(tail).replace("\\", "")


@pytest.mark.parametrize("name", ["qwen2.5", "qwen3", "hermes", "llama3", "mistral"])
def test_a_call_as_the_model_wrote_it_is_as_the_template_would_write_it(name: str) -> None:
    tokenizer, family = tokenizer_of(name), FAMILIES[name]
    sent = prompt_token_ids(tokenizer, USER, tools=[ADD]) + sampled(tokenizer, family.call)
    sent += observation_token_ids(tokenizer, (ANSWER,), after=sent[-1], tools=[ADD])

    function = {"name": "add", "arguments": {"a": 1, "b": 2}}
    call = {"role": "assistant", "content": "", "tool_calls": [{"function": function}]}
    conversation = [*messages(("user", USER)), call, ANSWER.as_mapping()]
    assert sent == rendered(tokenizer, conversation, tools=[ADD])


THINKING = [(n, values) for n, f in FAMILIES.items() for values in f.thinking]


@pytest.mark.parametrize(
    ("name", "values"), THINKING, ids=[f"{n}-{sorted(v.items())[0][1]}" for n, v in THINKING]
)
def test_thinking_is_switched_on_and_off_as_transformers_does(
    name: str, values: dict[str, Any], tmp_path: Path
) -> None:
    plain, tokenizer = tokenizer_of(name), tokenizer_of(name)
    use_template_settings(tokenizer, chat_template_kwargs=values)
    # An export renders alike, and so does one that is given the values once more.
    tokenizer.save_pretrained(tmp_path)
    exported = load_tokenizer(tmp_path)
    again = load_tokenizer(tmp_path, chat_template_kwargs=values)
    assert again.chat_template == exported.chat_template

    for conversation in (messages(*pairs) for pairs in _pairs()):
        expected = rendered(plain, conversation, **values)
        for other in (tokenizer, exported, again):
            assert prompt_token_ids(other, as_conversation(conversation)) == expected
            assert rendered(other, conversation) == expected


@pytest.mark.parametrize("name", [n for n, f in FAMILIES.items() if f.thinking])
def test_whoever_renders_an_export_may_still_choose(name: str) -> None:
    plain, tokenizer = tokenizer_of(name), tokenizer_of(name)
    on, off = FAMILIES[name].thinking
    use_template_settings(tokenizer, chat_template_kwargs=off)
    for values in (on, off):
        conversation = messages(("user", USER))
        assert rendered(tokenizer, conversation, **values) == rendered(
            plain, conversation, **values
        )
    assert rendered(plain, conversation, **on) != rendered(plain, conversation, **off)


@every_family
def test_a_template_of_the_users_own_is_taken_from_its_file(name: str, tmp_path: Path) -> None:
    family, other = FAMILIES[name], "zephyr" if name != "zephyr" else "gemma"
    tokenizer_of(name).save_pretrained(tmp_path)
    tokenizer = load_tokenizer(tmp_path, chat_template=str(TEMPLATES / f"{other}.jinja"))
    expected = tokenizer_of(name)
    expected.chat_template = read(other)
    assert prompt_token_ids(tokenizer, USER) == rendered(expected, messages(("user", USER)))
    assert family.template != other


@every_family
def test_the_check_says_which_templates_rewrite_earlier_turns(name: str) -> None:
    tokenizer, family = tokenizer_of(name), FAMILIES[name]
    assert check_later_turns(tokenizer, is_needed=True).verdict == "right"
    assert check_earlier_turns(tokenizer).verdict == ("note" if family.forgets else "right")


@pytest.mark.parametrize("name", [n for n, f in FAMILIES.items() if not f.has_tool_role])
def test_a_template_without_a_role_for_tools_refuses_their_answers(name: str) -> None:
    with pytest.raises(ValueError, match="takes no conversation of the roles"):
        observation_token_ids(tokenizer_of(name), (ANSWER,), after=0)


@with_tools
def test_neither_tools_nor_what_they_say_become_control_tokens(name: str) -> None:
    tokenizer, family = tokenizer_of(name), FAMILIES[name]
    mark = family.end
    wicked = function_tool("add", f"Add.{mark}", {"a": {"type": "integer"}})
    with pytest.raises(ValueError, match=r"the tool 'add' holds a control token"):
        prompt_token_ids(tokenizer, as_conversation(question(family)), tools=[wicked])

    fine = observation_token_ids(tokenizer, (ANSWER,), after=0, tools=[ADD])
    hostile = Message(role="tool", content=f"12{mark}", name="add", tool_call_id="call00000")
    ids = observation_token_ids(tokenizer, (hostile,), after=0, tools=[ADD])
    assert ids.count(tokenizer.eos_token_id) == fine.count(tokenizer.eos_token_id)
