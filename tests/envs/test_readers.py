import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet

from rllib_dapo.envs import readers
from rllib_dapo.envs.answer_cells import final_answer
from rllib_dapo.envs.datasets import load_dataset
from rllib_dapo.envs.messages import as_conversation

WriteFile = Callable[..., Path]
Pairs = Callable[[Any], list[tuple[str, str]]]


def chat(text: str) -> list[dict[str, str]]:
    return [{"content": text, "role": "user"}]


def dapo_row(text: str, answer: str, index: Any) -> dict:
    return {
        "prompt": chat(text),
        "reward_model": {"ground_truth": answer},
        "extra_info": {"index": index},
    }


@pytest.mark.parametrize(
    ("row", "answer", "problem_id"),
    [
        ({"question": "Q", "answer": "So 1+1 = <<1+1=2>>2.\n#### 2"}, "2", "data/0"),
        ({"question": "Q", "answer": "2"}, "2", "data/0"),
        ({"input": "Q", "target": 43.0, "idx": 7}, "43", "data/7"),
        ({"input": "Q", "target": 0.5}, "0.5", "data/0"),
        ({"input": "Q", "target": 1e-7}, "0.0000001", "data/0"),
        ({"input": "Q", "target": 7}, "7", "data/0"),
        ({"prompt": "Q", "ground_truth": "x^2"}, "x^2", "data/0"),
        ({"problem": "Q", "solution": r"Hence $\boxed{\frac{1}{2}}$."}, r"\frac{1}{2}", "data/0"),
        ({"problem": "Q", "solution": "Long story", "answer": "2", "id": "m-1"}, "2", "data/m-1"),
        ({"prompt": chat("Q"), "answer": "2"}, "2", "data/0"),
        (dapo_row("Q", "2", "uuid"), "2", "data/uuid"),
        (dapo_row(" Q ", " 2 ", 5), "2", "data/5"),
    ],
)
@pytest.mark.parametrize("ending", [".jsonl", ".json", ".parquet"])
def test_known_columns_are_read_from_any_kind_of_file(
    tmp_path: Path,
    row: dict[str, Any],
    answer: str,
    problem_id: str,
    ending: str,
    write_file: WriteFile,
) -> None:
    path = write_file(tmp_path / f"data{ending}", row)
    (problem,) = load_dataset(path).problems
    assert (problem.prompt, problem.answer, problem.problem_id) == ("Q", answer, problem_id)


@pytest.mark.parametrize("ending", [".jsonl", ".parquet"])
def test_a_chat_of_one_user_message_is_its_text_and_any_other_a_conversation(
    tmp_path: Path, ending: str, write_file: WriteFile, pairs_of: Pairs
) -> None:
    def message(role: str, content: str | None) -> dict[str, str | None]:
        return {"role": role, "content": content}

    with_system = [message("system", "s"), message("user", "Q1")]
    with_turns = [message("user", "x"), message("assistant", "y"), message("user", "Q2")]
    rows = [
        {"prompt": with_system, "answer": "1"},
        {"prompt": with_turns, "answer": "2"},
        {"prompt": [message("system", "only")], "answer": "3"},
        {"prompt": [], "answer": "4"},
        {"prompt": None, "answer": "5"},
        {"prompt": [message("user", None)], "answer": "6"},
        {"prompt": [message("user", "Q3")], "answer": "7"},
    ]
    path = write_file(tmp_path / f"chat{ending}", *rows)
    assert pairs_of(path) == [
        (as_conversation(with_system), "1"),
        (as_conversation(with_turns), "2"),
        ("Q3", "7"),
    ]
    assert load_dataset(path).incomplete == 4


def test_a_parquet_file_read_in_many_batches_keeps_its_columns_in_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readers, "_BATCH_ROWS", 100)
    table = pa.Table.from_pylist([dapo_row(f"Q{i}", str(i), i) for i in range(1_000)])
    parquet.write_table(table, tmp_path / "long.parquet", row_group_size=77)
    problems = load_dataset(tmp_path / "long.parquet").problems
    assert [p.answer for p in problems] == [str(i) for i in range(1_000)]
    assert all(p.prompt == f"Q{p.answer}" and p.problem_id == f"long/{p.answer}" for p in problems)


def test_blank_lines_unicode_and_a_byte_order_mark_do_no_harm(
    tmp_path: Path, pairs_of: Pairs
) -> None:
    path = tmp_path / "d.jsonl"
    line = '{"question": "π\u2028 😀", "answer": "\\ud83d\\ude00"}'
    path.write_bytes(b"\xef\xbb\xbf\r\n\n" + line.encode() + b"\r\n   \n")
    assert pairs_of(path) == [("π\u2028 😀", "😀")]


def test_an_unknown_kind_of_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "d.xlsx").write_text("question,answer\n")
    with pytest.raises(
        ValueError,
        match=r"known endings: \.parquet \.jsonl \.ndjson \.json \.csv \.tsv; of all but \.parquet",
    ):
        load_dataset(tmp_path / "d.xlsx")


@pytest.mark.parametrize("ending", [".jsonl", ".parquet", ".csv"])
def test_unknown_columns_are_listed_beside_the_known_ones(
    tmp_path: Path, ending: str, write_file: WriteFile
) -> None:
    path = write_file(tmp_path / f"d{ending}", {"text": "A", "label": "1"})
    message = (
        r"^path=.*: no known schema in the columns text, label; rename them, "
        r"or say which is which with the setting columns; known: prompt \+"
    )
    with pytest.raises(ValueError, match=message):
        load_dataset(path)


def test_a_parquet_file_without_rows_is_refused(tmp_path: Path) -> None:
    table = pa.Table.from_pylist([{"question": "A", "answer": "1"}]).slice(0, 0)
    parquet.write_table(table, tmp_path / "d.parquet")
    with pytest.raises(ValueError, match="no problem in it"):
        load_dataset(tmp_path / "d.parquet")


@pytest.mark.parametrize("line", [b"{oops}", b'{"question": "A"', b"\xff\xfe", b"[" * 100_000])
def test_a_malformed_line_is_told_by_its_number(tmp_path: Path, line: bytes) -> None:
    (tmp_path / "d.jsonl").write_bytes(b'{"question": "A", "answer": "1"}\n\n' + line + b"\n")
    with pytest.raises(
        ValueError,
        match=r"^path=.*: line 3 is not valid JSON .*; each line must be one JSON object",
    ) as caught:
        load_dataset(tmp_path / "d.jsonl")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("line", ["5", '"text"', "[1, 2]", "null"])
def test_a_line_that_is_no_object_is_told_by_its_number(tmp_path: Path, line: str) -> None:
    (tmp_path / "d.jsonl").write_text(f'{{"question": "A", "answer": "1"}}\n{line}\n')
    with pytest.raises(ValueError, match=r"line 2 holds a JSON \w+, not an object; each line"):
        load_dataset(tmp_path / "d.jsonl")


def test_a_broken_parquet_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "d.parquet").write_bytes(b"PAR1 but not really")
    with pytest.raises(ValueError, match=r"^path=.*: not a readable Parquet file") as caught:
        load_dataset(tmp_path / "d.parquet")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("value", "answer"),
    [
        (43.0, "43"),
        (-0.25, "-0.25"),
        (7, "7"),
        (None, ""),
        (float("inf"), ""),
        ("#### 1,000", "1,000"),
        ("a\n####  5 ", "5"),
        (r"\boxed{1} then \boxed{\sqrt{2}}", r"\sqrt{2}"),
        (" x ", "x"),
        (1e22, "1" + "0" * 22),
    ],
)
def test_answers_become_text(value: Any, answer: str) -> None:
    assert final_answer(value) == answer


def test_nothing_is_written_beside_the_file(tmp_path: Path, write_file: WriteFile) -> None:
    load_dataset(write_file(tmp_path / "d.jsonl", {"question": "A", "answer": "1"}))
    assert os.listdir(tmp_path) == ["d.jsonl"]


@pytest.mark.parametrize("ending", [".jsonl", ".parquet"])
def test_a_named_column_may_be_nested_or_a_chat(
    tmp_path: Path, ending: str, write_file: WriteFile
) -> None:
    rows = [{"talk": chat(f"Q{i}"), "truth": {"value": str(i)}} for i in range(3)]
    path = write_file(tmp_path / f"d{ending}", *rows)
    data = load_dataset(path, columns={"question": "talk", "answer": "truth.value"})
    assert [(p.prompt, p.answer) for p in data.problems] == [("Q0", "0"), ("Q1", "1"), ("Q2", "2")]


def test_csv_files_keep_texts_as_they_are(tmp_path: Path) -> None:
    path = tmp_path / "d.csv"
    path.write_text(
        '\ufeffquestion,answer,id\n"One, or\ntwo ""lines""?",007,a\nC?,1.50,b\n,3,c\n',
        encoding="utf-8",
    )
    data = load_dataset(path)
    found = [(p.prompt, p.answer, p.problem_id) for p in data.problems]
    assert found == [('One, or\ntwo "lines"?', "007", "d/a"), ("C?", "1.50", "d/b")]
    assert data.incomplete == 1


@pytest.mark.parametrize(
    "content",
    [b"question,answer\nA,1,2\n", b"question,answer\nA\n", b""],
)
def test_a_broken_csv_file_is_refused_in_one_line(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "d.csv").write_bytes(content)
    with pytest.raises(ValueError, match=r"^path=.*: not a readable CSV file ") as caught:
        load_dataset(tmp_path / "d.csv")
    assert "\n" not in str(caught.value)
