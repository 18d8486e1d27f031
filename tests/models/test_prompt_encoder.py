"""No text becomes a control token, with tokenizers of every family; others keep their ids."""

from __future__ import annotations

import copy
import random
import re
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerBase

from rllib_dapo.envs.messages import Message, as_messages
from rllib_dapo.models import control_token_ids, observation_token_ids, prompt_token_ids
from rllib_dapo.models.prompt_encoder import prompt_encoder
from tests.models import many_tokenizers

# The same examples each time.
REPEATABLE = settings(max_examples=25, database=None, derandomize=True)
FAMILIES = sorted(many_tokenizers.ALL)
# Decoding gives back every text that these are given.
LOSSLESS = ("qwen_like", "llama3_like", "gemma_like")
# Nothing is unknown to these: they know single bytes.
KNOWS_ALL = ("qwen_like", "llama3_like", "gpt2_like", "phi_like", "llama2_like", "mistral_like")
BENIGN = [
    "What is 12+34=? Write x^2 and 'y'.\nSecond line",
    "  spaces   around \n\n and\tbetween \n",
    "a < b > c | [d] <e> </f",
    "",
]


@cache
def made(family: str) -> PreTrainedTokenizerBase:
    return many_tokenizers.ALL[family]()


@cache
def hostile(family: str) -> st.SearchStrategy[str]:
    """Texts made of all control and added tokens of a tokenizer, whole and in pieces."""
    tokenizer = made(family)
    ids = control_token_ids(tokenizer) | set(tokenizer.added_tokens_decoder)
    names = [tokenizer.convert_ids_to_tokens(index) for index in sorted(ids)]
    halves = [half for name in names for cut in range(1, len(name)) for half in _cut(name, cut)]
    other = ["", " ", "\n", "system", "user\n", "x", "\u200b", "\u2581", "<", "|>", "E", "\ud800"]
    pieces = st.one_of(*map(st.sampled_from, (names, halves, other)), st.text(max_size=3))
    return st.lists(pieces, max_size=12).map("".join)


def _cut(name: str, cut: int) -> tuple[str, str]:
    return name[:cut], name[cut:]


def control_of(family: str, ids: list[int]) -> list[int]:
    """The control tokens among ids; unknown characters are none where the template has none."""
    tokenizer = made(family)
    control = control_token_ids(tokenizer)
    if family not in KNOWS_ALL and family != "characters":
        control -= {tokenizer.unk_token_id}
    return [index for index in ids if index in control]


@pytest.mark.parametrize("family", FAMILIES)
@REPEATABLE
@given(data=st.data())
def test_no_text_becomes_a_control_token(family: str, data: st.DataObject) -> None:
    tokenizer = made(family)
    text = data.draw(hostile(family))

    # First turn, the system prompt, and earlier turns with the model's own words in them.
    for roles in (["user"], ["system", "user"], ["user", "assistant", "user"]):
        prompt, harmless = (tuple(Message(role=r, content=c) for r in roles) for c in (text, "x"))
        ids = prompt_token_ids(tokenizer, prompt)
        own = control_of(family, prompt_token_ids(tokenizer, harmless))
        assert control_of(family, ids) == own
    with_system = prompt_token_ids(tokenizer, text, system_prompt=text or " ")
    harmless_ids = prompt_token_ids(tokenizer, "x", system_prompt="x")
    assert control_of(family, with_system) == control_of(family, harmless_ids)

    # Later turns: users and tools.
    for role in ("user", "tool"):
        observed, harmless = ((Message(role=role, content=c),) for c in (text, "x"))
        after = tokenizer.eos_token_id
        ids = observation_token_ids(tokenizer, observed, after=after)
        own = control_of(family, observation_token_ids(tokenizer, harmless, after=after))
        assert control_of(family, ids) == own

    # Without a template, too.
    bare = bare_of(family)
    control = control_token_ids(bare) - ({bare.unk_token_id} if family not in KNOWS_ALL else set())
    ids, own_ids = (prompt_token_ids(bare, said) for said in (text, "x"))
    assert [i for i in ids if i in control] == [i for i in own_ids if i in control]
    assert control.isdisjoint(observation_token_ids(bare, text, after=after))


@cache
def bare_of(family: str) -> PreTrainedTokenizerBase:
    tokenizer = many_tokenizers.ALL[family]()
    tokenizer.chat_template = None
    return tokenizer


@pytest.mark.parametrize("family", LOSSLESS)
@REPEATABLE
@given(data=st.data())
def test_a_hostile_text_is_still_all_there(family: str, data: st.DataObject) -> None:
    tokenizer = made(family)
    text = data.draw(hostile(family)).replace("\ud800", "?").replace("\u2581", " ")
    # These templates strip white space, and one tokenizer's normalizer composes characters.
    said = text.strip() if family != "qwen_like" else text
    encoder = prompt_encoder(tokenizer)
    pieces = encoder.template([Message(role="user", content=said)])
    whole = "".join(p if isinstance(p, str) else said for p in pieces)

    decoded = tokenizer.decode(prompt_token_ids(tokenizer, text))
    normalizer = tokenizer.backend_tokenizer.normalizer
    assert decoded == (normalizer.normalize_str(whole) if family == "qwen_like" else whole)


@pytest.mark.parametrize("family", [f for f in FAMILIES if f not in ("words", "characters")])
def test_a_text_without_control_tokens_keeps_the_ids_of_apply_chat_template(family: str) -> None:
    tokenizer = made(family)
    for content in BENIGN:
        for roles in (["user"], ["system", "user"], ["user", "assistant", "user"]):
            prompt = tuple(Message(role=role, content=content) for role in roles)
            expected = tokenizer.apply_chat_template(
                as_messages(prompt), add_generation_prompt=True, return_dict=False
            )
            assert prompt_token_ids(tokenizer, prompt) == expected


@pytest.mark.parametrize("family", FAMILIES)
def test_the_words_around_a_control_token_keep_their_ids(family: str) -> None:
    # What stands between the template's tokens is encoded as the tokenizer itself would.
    tokenizer = made(family)
    name = tokenizer.eos_token
    before, after = "Write x^2 and", "the lazy dog"
    ids = prompt_token_ids(tokenizer, f"{before} {name} {after}")
    harmless = prompt_token_ids(tokenizer, f"{before} - {after}")
    shared = _common_start(ids, harmless)
    own = _common_start(harmless, prompt_token_ids(tokenizer, f"{before} + {after}"))
    assert shared >= min(own, len(prompt_token_ids(tokenizer, before)) - 8)


def _common_start(a: list[int], b: list[int]) -> int:
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), len(a))


def test_a_token_that_forms_where_text_and_template_touch_is_text() -> None:
    tokenizer = many_tokenizers.qwen_like()
    tokenizer.chat_template = "{% for m in messages %}<{{ m.content }}|>{% endfor %}"
    ids = prompt_token_ids(tokenizer, "|im_start")
    assert control_token_ids(tokenizer).isdisjoint(ids)
    assert tokenizer.decode(ids) == "<|im_start|>"


def test_added_runs_of_spaces_are_text() -> None:
    tokenizer = many_tokenizers.gpt2_like()
    four = tokenizer.convert_tokens_to_ids("    ")
    assert four not in control_token_ids(tokenizer)
    assert four in prompt_token_ids(tokenizer, "if x:\n    return [PAD]")


def test_entries_of_the_vocabulary_that_look_like_control_tokens_are_some() -> None:
    # The tokenizer has added neither of them.
    tokenizer = made("words")
    start = tokenizer.convert_tokens_to_ids("<|im_start|>")
    assert start not in tokenizer.added_tokens_decoder
    assert start in control_token_ids(tokenizer)
    assert prompt_token_ids(tokenizer, "x <|im_start|> system").count(start) == 2


def test_a_tokenizer_written_in_python_splits_special_tokens_or_refuses() -> None:
    from transformers import ByT5Tokenizer

    tokenizer = ByT5Tokenizer()
    tokenizer.chat_template = "{% for m in messages %}{{ m.content }}</s>{% endfor %}"
    ids = prompt_token_ids(tokenizer, "a</s>b<extra_id_0>")
    assert [i for i in ids if i in control_token_ids(tokenizer)] == [tokenizer.eos_token_id]
    assert tokenizer.decode(ids) == "a</s>b<extra_id_0></s>"


def test_halves_of_characters_are_replaced() -> None:
    tokenizer = made("qwen_like")
    assert prompt_token_ids(tokenizer, "a\ud800b") == prompt_token_ids(tokenizer, "a?b")
    assert observation_token_ids(tokenizer, "\udfff", after=0) == observation_token_ids(
        tokenizer, "?", after=0
    )


def test_the_ids_do_not_depend_on_the_secret_names_of_control_tokens() -> None:
    rng = random.Random(0)
    for family in FAMILIES:
        first, second = (copy.deepcopy(made(family)) for _ in range(2))
        names = [*first.added_tokens_decoder.values()]
        text = " ".join(rng.choice(names).content for _ in range(5)) or re.escape("<|x|>")
        assert prompt_token_ids(first, text) == prompt_token_ids(second, text)
