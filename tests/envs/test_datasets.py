import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet

from rllib_dapo.envs import readers
from rllib_dapo.envs.datasets import load_dataset
from rllib_dapo.envs.readers import detect_schema, final_answer


def write_lines(path: Path, *rows: Any) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def chat(text: str) -> list[dict[str, str]]:
    return [{"content": text, "role": "user"}]


def dapo_row(text: str, answer: str, index: Any) -> dict:
    return {"prompt": chat(text), "reward_model": {"ground_truth": answer}, "extra_info": {"index": index}}


def pairs(path: Any) -> list[tuple[str, str]]:
    return [(p.prompt, p.answer) for p in load_dataset(path).problems]


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
    tmp_path: Path, row: dict[str, Any], answer: str, problem_id: str, ending: str
) -> None:
    path = tmp_path / f"data{ending}"
    if ending != ".parquet":
        write_lines(path, row)
    else:
        parquet.write_table(pa.Table.from_pylist([row]), path)
    (problem,) = load_dataset(path).problems
    assert (problem.prompt, problem.answer, problem.problem_id) == ("Q", answer, problem_id)


@pytest.mark.parametrize("ending", [".jsonl", ".parquet"])
def test_of_a_chat_the_last_user_message_is_the_prompt(tmp_path: Path, ending: str) -> None:
    def message(role: str, content: str | None) -> dict[str, str | None]:
        return {"role": role, "content": content}

    rows = [
        {"prompt": [message("system", "s"), message("user", "Q1")], "answer": "1"},
        {"prompt": [message("user", "x"), message("assistant", "y"), message("user", "Q2")], "answer": "2"},
        {"prompt": [message("system", "only")], "answer": "3"},
        {"prompt": [], "answer": "4"},
        {"prompt": None, "answer": "5"},
        {"prompt": [message("user", None)], "answer": "6"},
        {"prompt": [message("user", "Q3")], "answer": "7"},
    ]
    path = tmp_path / f"chat{ending}"
    parquet.write_table(pa.Table.from_pylist(rows), path) if ending == ".parquet" else write_lines(path, *rows)
    assert pairs(path) == [("Q1", "1"), ("Q2", "2"), ("Q3", "7")]
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


def test_repeated_prompts_are_kept_once_and_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rows = [("A", "1"), ("B", "2"), ("A", "1"), (" A", "1"), ("A", "9"), ("B", "2")]
    path = write_lines(tmp_path / "d.jsonl", *({"question": q, "answer": a} for q, a in rows))
    with caplog.at_level("INFO"):
        data = load_dataset(path)
    assert [(p.prompt, p.answer) for p in data.problems] == [("A", "1"), ("B", "2")]
    assert (data.duplicates, data.conflicts, data.incomplete) == (4, 1, 0)
    assert "2 problems; left out 4 duplicates (1 of them with another answer) and 0 incomplete rows" in caplog.text


def test_rows_without_a_prompt_or_an_answer_are_dropped_and_counted(tmp_path: Path) -> None:
    rows = [{"question": "A", "answer": "1"}, {"question": " ", "answer": "1"}, {"question": "B", "answer": ""}]
    rows += [{"question": "C"}, {"answer": "1"}, {"question": "D", "answer": None}, {"question": 5, "answer": "1"}]
    rows += [{"question": "E", "answer": float("nan")}, {"question": "F", "answer": "#### "}]
    data = load_dataset(write_lines(tmp_path / "d.jsonl", *rows))
    assert len(data.problems) == 1
    assert data.incomplete == 8


def test_several_files_are_read_as_one(tmp_path: Path) -> None:
    one = write_lines(tmp_path / "one.jsonl", {"question": "A", "answer": "1"}, {"question": "B", "answer": "2"})
    two = write_lines(tmp_path / "two.jsonl", {"input": "B", "target": 2.0}, {"input": "C", "target": 3.0})
    data = load_dataset([str(one), two])
    assert [p.problem_id for p in data.problems] == ["one/0", "one/1", "two/1"]
    assert data.duplicates == 1


def test_a_file_is_read_again_only_when_it_changed(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "d.jsonl", {"question": "A", "answer": "1"})
    first = load_dataset(path)
    assert load_dataset(str(path)) is first
    write_lines(path, {"question": "A", "answer": "1"}, {"question": "B", "answer": "2"})
    assert len(load_dataset(path).problems) == 2


def test_blank_lines_unicode_and_a_byte_order_mark_do_no_harm(tmp_path: Path) -> None:
    path = tmp_path / "d.jsonl"
    line = '{"question": "π\u2028 😀", "answer": "\\ud83d\\ude00"}'
    path.write_bytes(b"\xef\xbb\xbf\r\n\n" + line.encode() + b"\r\n   \n")
    assert pairs(path) == [("π\u2028 😀", "😀")]


def test_a_home_folder_is_understood(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    write_lines(tmp_path / "d.jsonl", {"question": "A", "answer": "1"})
    assert pairs("~/d.jsonl") == [("A", "1")]


def test_a_missing_file_is_told_by_its_full_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError) as caught:
        load_dataset("nowhere.parquet")
    assert str(caught.value) == (
        f"path='nowhere.parquet': no such file (looked at {tmp_path / 'nowhere.parquet'}); "
        "give an absolute path that exists on every machine of the cluster"
    )


@pytest.mark.parametrize("path", [None, [], 5, [None], {"a": 1}])
def test_a_path_that_is_none_is_refused(path: Any) -> None:
    with pytest.raises(ValueError, match=r"^path=.*: must be a \.parquet, \.jsonl or \.json file, or a list"):
        load_dataset(path)


def test_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^path=.*: is a folder; name the file in it"):
        load_dataset(tmp_path)


def test_an_unknown_kind_of_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "d.csv").write_text("question,answer\n")
    with pytest.raises(ValueError, match=r"known endings: \.parquet \.jsonl \.json$"):
        load_dataset(tmp_path / "d.csv")


@pytest.mark.parametrize("ending", [".jsonl", ".parquet"])
def test_unknown_columns_are_listed_beside_the_known_ones(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"d{ending}"
    row = {"text": "A", "label": "1"}
    parquet.write_table(pa.Table.from_pylist([row]), path) if ending == ".parquet" else write_lines(path, row)
    with pytest.raises(
        ValueError, match=r"^path=.*: no known schema in the columns text, label; rename them; known: prompt \+"
    ):
        load_dataset(path)


@pytest.mark.parametrize("content", ["", "\n\n", '{"question": "", "answer": "1"}\n'])
def test_a_file_without_problems_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "d.jsonl").write_text(content)
    with pytest.raises(ValueError, match=r"^path=.*: no problem in it \([01] rows without prompt or answer\)"):
        load_dataset(tmp_path / "d.jsonl")


def test_a_parquet_file_without_rows_is_refused(tmp_path: Path) -> None:
    table = pa.Table.from_pylist([{"question": "A", "answer": "1"}]).slice(0, 0)
    parquet.write_table(table, tmp_path / "d.parquet")
    with pytest.raises(ValueError, match="no problem in it"):
        load_dataset(tmp_path / "d.parquet")


@pytest.mark.parametrize("line", [b"{oops}", b'{"question": "A"', b"\xff\xfe", b"[" * 100_000])
def test_a_malformed_line_is_told_by_its_number(tmp_path: Path, line: bytes) -> None:
    (tmp_path / "d.jsonl").write_bytes(b'{"question": "A", "answer": "1"}\n\n' + line + b"\n")
    with pytest.raises(
        ValueError, match=r"^path=.*: line 3 is not valid JSON .*; each line must be one JSON object"
    ) as caught:
        load_dataset(tmp_path / "d.jsonl")
    assert "\n" not in str(caught.value)


def test_a_line_that_is_no_object_is_told_by_its_number(tmp_path: Path) -> None:
    (tmp_path / "d.json").write_text('[{"question": "A", "answer": "1"}]\n')
    with pytest.raises(ValueError, match="line 1 holds a JSON list, not an object; each line must be one JSON object"):
        load_dataset(tmp_path / "d.json")


def test_a_broken_parquet_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "d.parquet").write_bytes(b"PAR1 but not really")
    with pytest.raises(ValueError, match=r"^path=.*: not a readable Parquet file") as caught:
        load_dataset(tmp_path / "d.parquet")
    assert "\n" not in str(caught.value)


def test_columns_are_chosen_in_a_fixed_order() -> None:
    schema = detect_schema(["solution", "answer", "prompt", "question", "idx"])
    assert schema is not None
    assert (schema.prompt, schema.answer, schema.identity) == ("question", "answer", "idx")
    assert detect_schema(["instruction", "input", "output"]) is None


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


@pytest.mark.parametrize(
    ("name", "problems", "duplicates", "first"),
    [
        ("gsm8k-train.jsonl", 7_473, 0, "72"),
        ("mawps.jsonl", 1_981, 84, "43"),
        ("mawps-addsub.jsonl", 395, 0, "43"),
        ("aime-2024.parquet", 30, 930, "540"),
    ],
)
def test_real_files_give_the_known_numbers_of_problems(
    shared_data: Callable[[str], Path], name: str, problems: int, duplicates: int, first: str
) -> None:
    data = load_dataset(shared_data(name))
    assert (len(data.problems), data.duplicates, data.incomplete) == (problems, duplicates, 0)
    assert data.problems[0].answer == first
    assert len({p.problem_id for p in data.problems}) == problems


def test_reading_thousands_of_lines_takes_a_fraction_of_a_second(tmp_path: Path) -> None:
    rows = ({"question": f"{i} " + "word " * 60, "answer": "think " * 50 + f"#### {i}"} for i in range(7_500))
    path = write_lines(tmp_path / "d.jsonl", *rows)
    began = time.thread_time()
    assert len(load_dataset(path).problems) == 7_500
    assert time.thread_time() - began < 1.0


def test_nothing_is_written_beside_the_file(tmp_path: Path) -> None:
    load_dataset(write_lines(tmp_path / "d.jsonl", {"question": "A", "answer": "1"}))
    assert os.listdir(tmp_path) == ["d.jsonl"]
