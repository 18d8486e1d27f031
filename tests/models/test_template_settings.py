"""A chat template of the user's own, and values for the names that a template reads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from rllib_dapo import DAPOConfig
from rllib_dapo.models import load_tokenizer, prompt_token_ids
from rllib_dapo.models.template_settings import read_template, use_template_settings
from rllib_dapo.models.tiny import make_tokenizer

TEMPLATE = (
    "{% macro opening(role) %}<{{ role }}{% if style is defined %}:{{ style }}{% endif %}>"
    "{% endmacro %}{% for m in messages %}{{ opening(m.role) }}{{ m.content }}{% endfor %}"
    "{% if quick %}!{% endif %}{% generation %}{% endgeneration %}{{ bos_token }}"
)


def rendered(tokenizer: Any, **values: Any) -> str:
    return str(
        tokenizer.apply_chat_template([{"role": "user", "content": "1"}], tokenize=False, **values)
    )


@pytest.mark.parametrize(
    "value",
    [
        "a%}b{{c}}",
        'quo"te \\ and \n line',
        "\u00e9\u4f60\U0001f600",
        3,
        -1.5e-7,
        ["x", None, True],
        {"k": [1, {"j": "v"}]},
    ],
    ids=range(7),
)
def test_a_value_reads_in_the_template_as_if_it_had_been_given(value: Any) -> None:
    plain, tokenizer = make_tokenizer(), make_tokenizer()
    plain.chat_template = tokenizer.chat_template = TEMPLATE
    use_template_settings(tokenizer, chat_template_kwargs={"style": value, "quick": True})
    assert rendered(tokenizer) == rendered(plain, style=value, quick=True)
    assert rendered(tokenizer, style="other") == rendered(plain, style="other", quick=True)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"enable_thinkng": False}, "never reads 'enable_thinkng'; it reads: quick, style"),
        ({"role": "x"}, "never reads 'role'"),
        ({"messages": []}, "is always given 'messages'"),
        ({"bos_token": ""}, "is always given 'bos_token'"),
        ({"style": float("nan")}, "must be true, false, null, a number, a text"),
        ({"style": {1, 2}}, "must be true, false, null, a number, a text"),
        ({"style": "\x00"}, "must be true, false, null, a number, a text"),
        ({"style": "\ud800"}, "must be true, false, null, a number, a text"),
    ],
    ids=range(8),
)
def test_values_that_would_do_nothing_or_harm_are_refused(
    values: dict[str, Any], said: str
) -> None:
    tokenizer = make_tokenizer()
    tokenizer.chat_template = TEMPLATE
    with pytest.raises(ValueError, match=said) as raised:
        use_template_settings(tokenizer, chat_template_kwargs=values)
    assert str(raised.value).startswith("language_model.chat_template_kwargs")
    assert "\n" not in str(raised.value)
    assert tokenizer.chat_template == TEMPLATE


def test_values_need_a_template() -> None:
    tokenizer = make_tokenizer()
    tokenizer.chat_template = None
    with pytest.raises(ValueError, match="has no chat template to read them"):
        use_template_settings(tokenizer, chat_template_kwargs={"style": 1})


def test_a_file_is_read_once_and_goes_with_the_configuration(tmp_path: Path) -> None:
    file = tmp_path / "own.jinja"
    file.write_text(TEMPLATE)
    config = DAPOConfig().language_model(
        "tiny", chat_template=str(file), chat_template_kwargs={"style": "s"}
    )
    file.unlink()

    make_tokenizer().save_pretrained(tmp_path)
    tokenizer = load_tokenizer(tmp_path, **config.tokenizer_settings)
    assert rendered(tokenizer) == "<user:s>1<bos>"
    assert tokenizer.decode(prompt_token_ids(tokenizer, "1")) == "<user:s>1<bos>"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "cannot be read: No such file"),
        (b"\xff\xfe{{", "not a text in UTF-8"),
        (b"{% for m in messages %}\n{{ m.content", "line 2 is not Jinja"),
        (b"x" * (2 << 20), "more than 1 MiB"),
        (b"You are helpful.", "the file writes no message"),
    ],
    ids=["lacking", "binary", "broken", "huge", "constant"],
)
def test_a_file_that_is_not_a_template_is_refused_in_one_line(
    content: bytes | None, said: str, tmp_path: Path
) -> None:
    file = tmp_path / "own.jinja"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ValueError, match=said) as raised:
        DAPOConfig().language_model("tiny", chat_template=str(file))
    assert str(raised.value).startswith("language_model.chat_template")
    assert "\n" not in str(raised.value)


def test_a_configuration_says_what_is_wrong_with_values_before_a_model_is_there() -> None:
    config = DAPOConfig().environment("rllib_dapo/Arithmetic-v0")
    config.language_model("tiny", chat_template_kwargs={"a b": 1})
    with pytest.raises(ValueError, match="'a b' is not a name that a template can read"):
        config.validate()


def test_a_template_runs_no_code_while_it_is_read() -> None:
    with pytest.raises(ValueError, match="is not Jinja"):
        read_template("{% import_module 'os' %}")
