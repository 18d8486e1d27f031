"""Records as tokens: lengths, what is held out, and settings that are refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rllib_dapo.findings import SettingsError
from rllib_dapo.warm_start.prepare_sft import PreparedSFT, prepare_sft
from rllib_dapo.warm_start.sft_settings import read_sft

WriteLines = Callable[..., Path]


@pytest.fixture
def prepare(raw_model: Path, tmp_path: Path, write_lines: WriteLines) -> Callable[..., PreparedSFT]:
    def prepared(records: list[dict[str, str]], *overrides: str, **options: Any) -> PreparedSFT:
        options = {"heldout_fraction": 0.0} | options
        file, folder = write_lines(records), tmp_path / "model"
        return prepare_sft(
            read_sft(file=file, folder=folder, model=str(raw_model), overrides=overrides, **options)
        )

    return prepared


LONG = [{"prompt": "1+1=", "response": "2"}, {"prompt": "1+1=", "response": "it is two"}]


def test_long_records_are_refused_unless_it_is_said_what_to_do(
    prepare: Callable[..., PreparedSFT],
) -> None:
    # <bos>, four characters, nine of the response, <eos>.
    with pytest.raises(SettingsError, match=r"line 2 .* 15 tokens \(5 of the prompt\), .* is 10"):
        prepare(LONG, max_tokens=10)

    cut = prepare(LONG, max_tokens=10, overlong="cut")
    assert cut.data.cut == 1
    assert [len(one.token_ids) for one in cut.data.train] == [2, 5]
    assert any("1 records are cut" in note for note in cut.notes)

    skipped = prepare(LONG, max_tokens=10, overlong="skip")
    assert (len(skipped.data.train), skipped.data.skipped) == (1, 1)
    assert any("1 records are left out" in note for note in skipped.notes)


def test_a_cut_that_leaves_nothing_to_learn_is_refused(
    prepare: Callable[..., PreparedSFT],
) -> None:
    with pytest.raises(SettingsError, match="line 1 is refused: it has 7 tokens"):
        prepare(LONG, max_tokens=5, overlong="cut")


def test_the_models_own_context_is_a_limit(prepare: Callable[..., PreparedSFT]) -> None:
    with pytest.raises(SettingsError, match="--max-tokens is 512"):
        prepare([{"prompt": "1+1=", "response": "2" * 600}])


def test_a_long_prompt_and_a_long_response_of_two_records_fit(
    prepare: Callable[..., PreparedSFT],
) -> None:
    long = [
        {"prompt": "1" * 400, "response": "2"},
        {"prompt": "1+1=", "response": "2" * 400},
    ]
    config = prepare(long).config
    assert config.max_prompt_tokens + config.max_response_tokens == 406


def test_no_prompt_is_on_both_sides(
    prepare: Callable[..., PreparedSFT], sums: list[dict[str, str]]
) -> None:
    twice = [*sums, *({**one, "response": f"= {one['response']}"} for one in sums)]
    data = prepare(twice, heldout_fraction=0.3).data

    learnt, held = ({tuple(r.prompt_ids) for r in part} for part in (data.train, data.heldout))
    assert learnt.isdisjoint(held)
    assert len(learnt) + len(held) == len(sums)
    assert len(data.heldout) == 2 * len(held) > 0


@pytest.mark.parametrize(
    ("overrides", "options", "reason"),
    [
        (["rollout.temperature=0.5"], {}, "rollout has no part in supervised training"),
        (["training.epsilon_high=0.3"], {}, "training.epsilon_high has no part"),
        (["language_model.name=tiny"], {}, "name the model with --model"),
        (["training.lr=-1"], {}, "training.lr"),
        (["training.lrr=1"], {}, "training.lrr has no part|unknown setting"),
        (["training.lr_schedule=constant", "training.lr_decay_updates=5"], {}, "does nothing"),
        ([], {"epochs": 0}, "--epochs 0"),
        ([], {"heldout_fraction": 1.0}, "--heldout 1.0"),
        ([], {"max_tokens": 1}, "--max-tokens 1"),
        ([], {"overlong": "drop"}, "--overlong drop must be one of refuse, cut, skip"),
        ([], {"merge": True}, "--merge: a whole model is trained"),
    ],
)
def test_a_setting_that_cannot_be_is_refused_in_one_line(
    overrides: list[str],
    options: dict[str, Any],
    reason: str,
    prepare: Callable[..., PreparedSFT],
    sums: list[dict[str, str]],
) -> None:
    with pytest.raises(SettingsError, match=reason) as refused:
        prepare(sums, *overrides, **options)
    assert "\n" not in str(refused.value)


def test_a_folder_that_has_something_in_it_is_refused(
    prepare: Callable[..., PreparedSFT], sums: list[dict[str, str]], tmp_path: Path
) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}")

    with pytest.raises(SettingsError, match="has files already"):
        prepare(sums)
