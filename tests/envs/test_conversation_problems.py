"""Problems that are conversations: templates, splits, duplicates and overlap."""

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from rllib_dapo.envs.adapters.reward_function import RewardFunctionEnv
from rllib_dapo.envs.datasets import load_dataset, refuse_overlap
from rllib_dapo.envs.integer_answers import prepare
from rllib_dapo.envs.math import DAPO_TEMPLATE, MathEnv, fill_template, unwrap
from rllib_dapo.envs.messages import Conversation, as_conversation
from rllib_dapo.envs.row_counts import data_reports_from_json

WriteFile = Callable[..., Path]

SYSTEM = {"role": "system", "content": "Be brief."}
TURNS = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]


def chat(text: str, *before: dict[str, str]) -> list[dict[str, str]]:
    return [*before, {"role": "user", "content": text}]


def conversation(text: str, *before: dict[str, str]) -> Conversation:
    return as_conversation(chat(text, *before))


def test_the_template_goes_around_the_users_last_message() -> None:
    wrapped = DAPO_TEMPLATE.format(problem="1+1?")
    for before in ([SYSTEM], TURNS, [SYSTEM, *TURNS]):
        bare, full = conversation("1+1?", *before), conversation(wrapped, *before)
        assert fill_template(DAPO_TEMPLATE, bare) == full
        assert fill_template(DAPO_TEMPLATE, full) == full
        assert fill_template("<{problem}>", full) == conversation("<1+1?>", *before)
        assert unwrap(full) == bare


def test_a_system_message_that_asks_for_an_answer_line_is_enough() -> None:
    asks = {"role": "system", "content": "End with a line of the form Answer: X."}
    prompt = conversation("1+1?", asks)
    assert fill_template(DAPO_TEMPLATE, prompt) == prompt


@pytest.mark.parametrize("ending", [".jsonl", ".parquet"])
def test_problems_that_differ_in_the_system_message_alone_are_two(
    tmp_path: Path, ending: str, write_file: WriteFile
) -> None:
    other = {"role": "system", "content": "Answer in French."}
    prompts = [chat("Q", SYSTEM), chat("Q", other), chat("Q"), chat("Q", SYSTEM)]
    rows = [{"prompt": prompt, "answer": "1"} for prompt in prompts]
    data = load_dataset(write_file(tmp_path / f"d{ending}", *rows))
    assert [p.prompt for p in data.problems] == [
        *(conversation("Q", SYSTEM), conversation("Q", other), "Q")
    ]
    assert data.duplicates == 1


@pytest.mark.parametrize("ending", [".jsonl", ".parquet"])
def test_contents_that_are_lists_of_parts_are_read(
    tmp_path: Path, ending: str, write_file: WriteFile
) -> None:
    def parts(role: str, *texts: str) -> dict[str, Any]:
        return {"role": role, "content": [{"type": "text", "text": text} for text in texts]}

    rows = [
        {"prompt": [parts("user", "1+1", "?")], "answer": "2"},
        {"prompt": [parts("system", "Be brief."), parts("user", "Q")], "answer": "2"},
    ]
    data = load_dataset(write_file(tmp_path / f"d{ending}", *rows))
    assert [p.prompt for p in data.problems] == ["1+1\n?", conversation("Q", SYSTEM)]


def test_conversations_have_splits_limits_and_overlap(
    tmp_path: Path, write_file: WriteFile
) -> None:
    rows = [{"prompt": chat(f"Q{i}", SYSTEM), "answer": "1"} for i in range(100)]
    path = write_file(tmp_path / "d.jsonl", *rows)
    train, heldout = (
        MathEnv(path=path, split=split, heldout_fraction=0.3) for split in ("train", "heldout")
    )
    assert len(train.problems) + len(heldout.problems) == 100
    refuse_overlap(train.problems, heldout.problems, bare=unwrap, settings="path")
    with pytest.raises(ValueError, match=r"such as d/\d+ \('system: Be brief\. user: Q"):
        MathEnv(path=path, disjoint_from=path)

    system, user = as_conversation(train.reset(seed=0)[0])
    assert system == conversation("Q", SYSTEM)[0]
    assert user.content.startswith("Solve the following")

    one = write_file(tmp_path / "one.jsonl", {"prompt": chat("Q" * 50, SYSTEM), "answer": "1"})
    with pytest.raises(ValueError, match="1 with a longer prompt"):
        load_dataset(one, max_prompt_characters=60)


def roles(prompt: str, response: str) -> float:
    return float(prompt == "system: Be brief.\n\nuser: <Q>")


@pytest.mark.parametrize("verify_in", ["here", "process"])
def test_a_function_gets_a_conversation_as_one_text(
    tmp_path: Path, write_file: WriteFile, verify_in: str
) -> None:
    path = write_file(tmp_path / "d.jsonl", {"prompt": chat("Q", SYSTEM)})
    env = RewardFunctionEnv(path=path, reward=roles, template="<{problem}>", verify_in=verify_in)
    prompt, _ = env.reset(seed=0)
    assert as_conversation(prompt) == conversation("<Q>", SYSTEM)
    assert env.step("anything")[1] == 1.0
    env.close()


@pytest.mark.parametrize("ending", [".jsonl", ".parquet"])
def test_prepared_conversations_ask_for_an_integer_and_are_read_again(
    tmp_path: Path, ending: str, write_file: WriteFile
) -> None:
    rows = [
        {"prompt": chat("Half of 11?", SYSTEM), "answer": r"\frac{11}{2}"},
        {"prompt": chat("1+1?"), "answer": "2"},
    ]
    done = prepare(write_file(tmp_path / "in.jsonl", *rows), tmp_path / f"out{ending}")
    assert (done.kept, done.transformed) == (1, 1)
    first, second = load_dataset(tmp_path / f"out{ending}").problems
    assert first.prompt[0] == conversation("Q", SYSTEM)[0]
    assert first.text.endswith("Give $k + d$ as the final answer.")
    assert first.answer == "13"
    assert (second.prompt, second.answer) == ("1+1?", "2")


def test_an_environment_tells_what_was_taken_left_out_and_changed(
    tmp_path: Path, write_file: WriteFile
) -> None:
    rows: list[dict[str, Any]] = [
        {"question": f"Q{i}", "answer": str(i), "source": "x"} for i in range(10)
    ]
    rows += [{"question": "Q0", "answer": "1"}, {"question": "", "answer": "1"}]
    rows += [{"question": "Which day?", "answer": "Tuesday"}]
    path = write_file(tmp_path / "d.jsonl", *rows)
    report = MathEnv(path=path, answer_rule="last_number", limit=7).data_report

    (source,) = report.sources
    assert (source.rows, source.problems, report.problems) == (13, 11, 7)
    assert source.columns == {"prompt": ("question",), "answer": ("answer",)}
    assert source.unused == ("source",)
    assert report.lines() == [
        f"{path}: 11 problems of 13 rows (prompt from question, answer from answer); left out: "
        "1 with the prompt of an earlier row with another answer (first: row 11), "
        "1 with no prompt (first: row 12)",
        "7 problems are used; left out: 1 with an answer that answer_rule cannot accept "
        "(last_number), 3 with a place beyond limit",
    ]
    kept = json.dumps({"training": asdict(report)})
    assert data_reports_from_json(kept) == {"training": report}
    with pytest.raises(ValueError, match="not reports on data"):
        data_reports_from_json('{"training": {}}')
