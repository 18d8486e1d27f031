import csv
import json
import math
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet

from rllib_dapo.envs import readers
from rllib_dapo.envs.base import Problem
from rllib_dapo.envs.datasets import load_dataset, refuse_overlap, visiting_order
from rllib_dapo.envs.readers import final_answer


def write_lines(path: Path, *rows: Any) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def write_file(path: Path, *rows: dict[str, Any]) -> Path:
    """Writes rows in the form that the path's ending asks for."""
    if path.suffix == ".parquet":
        parquet.write_table(pa.Table.from_pylist(list(rows)), path)
    elif path.suffix == ".csv":
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, fieldnames=list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    else:
        write_lines(path, *rows)
    return path


def chat(text: str) -> list[dict[str, str]]:
    return [{"content": text, "role": "user"}]


def dapo_row(text: str, answer: str, index: Any) -> dict:
    return {
        "prompt": chat(text),
        "reward_model": {"ground_truth": answer},
        "extra_info": {"index": index},
    }


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
    path = write_file(tmp_path / f"data{ending}", row)
    (problem,) = load_dataset(path).problems
    assert (problem.prompt, problem.answer, problem.problem_id) == ("Q", answer, problem_id)


@pytest.mark.parametrize("ending", [".jsonl", ".parquet"])
def test_of_a_chat_the_last_user_message_is_the_prompt(tmp_path: Path, ending: str) -> None:
    def message(role: str, content: str | None) -> dict[str, str | None]:
        return {"role": role, "content": content}

    rows = [
        {"prompt": [message("system", "s"), message("user", "Q1")], "answer": "1"},
        {
            "prompt": [message("user", "x"), message("assistant", "y"), message("user", "Q2")],
            "answer": "2",
        },
        {"prompt": [message("system", "only")], "answer": "3"},
        {"prompt": [], "answer": "4"},
        {"prompt": None, "answer": "5"},
        {"prompt": [message("user", None)], "answer": "6"},
        {"prompt": [message("user", "Q3")], "answer": "7"},
    ]
    path = write_file(tmp_path / f"chat{ending}", *rows)
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


def test_repeated_prompts_are_kept_once_and_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rows = [("A", "1"), ("B", "2"), ("A", "1"), (" A", "1"), ("A", "9"), ("B", "2")]
    path = write_lines(tmp_path / "d.jsonl", *({"question": q, "answer": a} for q, a in rows))
    with caplog.at_level("INFO"):
        data = load_dataset(path)
    assert [(p.prompt, p.answer) for p in data.problems] == [("A", "1"), ("B", "2")]
    assert (data.duplicates, data.conflicts, data.incomplete) == (4, 1, 0)
    told = "2 problems; left out 4 duplicates (1 of them with another answer), 0 incomplete rows and 0 prompts of more"
    assert told in caplog.text


def test_rows_without_a_prompt_or_an_answer_are_dropped_and_counted(tmp_path: Path) -> None:
    rows = [
        {"question": "A", "answer": "1"},
        {"question": " ", "answer": "1"},
        {"question": "B", "answer": ""},
    ]
    rows += [
        {"question": "C"},
        {"answer": "1"},
        {"question": "D", "answer": None},
        {"question": 5, "answer": "1"},
    ]
    rows += [{"question": "E", "answer": float("nan")}, {"question": "F", "answer": "#### "}]
    data = load_dataset(write_lines(tmp_path / "d.jsonl", *rows))
    assert len(data.problems) == 1
    assert data.incomplete == 8


def test_several_files_are_read_as_one(tmp_path: Path) -> None:
    one = write_lines(
        tmp_path / "one.jsonl", {"question": "A", "answer": "1"}, {"question": "B", "answer": "2"}
    )
    two = write_lines(
        tmp_path / "two.jsonl", {"input": "B", "target": 2.0}, {"input": "C", "target": 3.0}
    )
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


def test_a_missing_file_is_told_by_its_full_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError) as caught:
        load_dataset("nowhere.parquet")
    assert str(caught.value) == (
        f"path='nowhere.parquet': no such file (looked at {tmp_path / 'nowhere.parquet'}); "
        "give an absolute path that exists on every machine of the cluster"
    )


@pytest.mark.parametrize("path", [None, [], 5, [None], [["a.jsonl"]]])
def test_a_path_that_is_none_is_refused(path: Any) -> None:
    with pytest.raises(
        ValueError, match=r"^path=.*: must be a \.parquet, \.jsonl, \.json or \.csv file, "
    ):
        load_dataset(path)


def test_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^path=.*: is a folder; name the file in it"):
        load_dataset(tmp_path)


def test_an_unknown_kind_of_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "d.xlsx").write_text("question,answer\n")
    with pytest.raises(ValueError, match=r"known endings: \.parquet \.jsonl \.json \.csv$"):
        load_dataset(tmp_path / "d.xlsx")


@pytest.mark.parametrize("ending", [".jsonl", ".parquet", ".csv"])
def test_unknown_columns_are_listed_beside_the_known_ones(tmp_path: Path, ending: str) -> None:
    path = write_file(tmp_path / f"d{ending}", {"text": "A", "label": "1"})
    message = (
        r"^path=.*: no known schema in the columns text, label; rename them, or say which is which with the setting "
        r"columns; known: prompt \+"
    )
    with pytest.raises(ValueError, match=message):
        load_dataset(path)


@pytest.mark.parametrize("content", ["", "\n\n", '{"question": "", "answer": "1"}\n'])
def test_a_file_without_problems_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "d.jsonl").write_text(content)
    with pytest.raises(
        ValueError, match=r"^path=.*: no problem in it \([01] rows without prompt or answer, 0 "
    ):
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
        ValueError,
        match=r"^path=.*: line 3 is not valid JSON .*; each line must be one JSON object",
    ) as caught:
        load_dataset(tmp_path / "d.jsonl")
    assert "\n" not in str(caught.value)


def test_a_line_that_is_no_object_is_told_by_its_number(tmp_path: Path) -> None:
    (tmp_path / "d.json").write_text('[{"question": "A", "answer": "1"}]\n')
    with pytest.raises(
        ValueError,
        match="line 1 holds a JSON list, not an object; each line must be one JSON object",
    ):
        load_dataset(tmp_path / "d.json")


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
    rows = (
        {"question": f"{i} " + "word " * 60, "answer": "think " * 50 + f"#### {i}"}
        for i in range(7_500)
    )
    path = write_lines(tmp_path / "d.jsonl", *rows)
    began = time.thread_time()
    assert len(load_dataset(path).problems) == 7_500
    assert time.thread_time() - began < 1.0


def test_nothing_is_written_beside_the_file(tmp_path: Path) -> None:
    load_dataset(write_lines(tmp_path / "d.jsonl", {"question": "A", "answer": "1"}))
    assert os.listdir(tmp_path) == ["d.jsonl"]


NAMED = {
    "stem": "Two and",
    "rest": "two?",
    "value": 4,
    "unit": "apples",
    "question": "Not this",
    "answer": "nor this",
}


@pytest.mark.parametrize("ending", [".jsonl", ".parquet", ".csv"])
def test_columns_can_be_named_and_several_are_joined_by_a_space(
    tmp_path: Path, ending: str
) -> None:
    path = write_file(tmp_path / f"d{ending}", NAMED)
    columns = {"question": ["stem", "rest"], "answer": ["value", "unit"]}
    (problem,) = load_dataset(path, columns=columns).problems
    assert (problem.prompt, problem.answer) == ("Two and two?", "4 apples")
    (problem,) = load_dataset(path, columns={"question": "stem"}).problems
    assert (problem.prompt, problem.answer) == ("Two and", "nor this")


@pytest.mark.parametrize("ending", [".jsonl", ".parquet"])
def test_a_named_column_may_be_nested_or_a_chat(tmp_path: Path, ending: str) -> None:
    rows = [{"talk": chat(f"Q{i}"), "truth": {"value": str(i)}} for i in range(3)]
    path = write_file(tmp_path / f"d{ending}", *rows)
    data = load_dataset(path, columns={"question": "talk", "answer": "truth.value"})
    assert [(p.prompt, p.answer) for p in data.problems] == [("Q0", "0"), ("Q1", "1"), ("Q2", "2")]


@pytest.mark.parametrize("ending", [".jsonl", ".parquet", ".csv"])
def test_a_named_column_that_is_not_there_is_refused_with_those_that_are(
    tmp_path: Path, ending: str
) -> None:
    path = write_file(tmp_path / f"d{ending}", NAMED)
    message = r"^path=.*: columns names 'stm', but there are stem, rest, .*; did you mean 'stem'\?$"
    with pytest.raises(ValueError, match=message):
        load_dataset(path, columns={"question": "stm"})


@pytest.mark.parametrize(
    "columns", ["question", {"prompt": "a"}, {"question": 1}, {"question": []}, {"answer": [""]}]
)
def test_columns_that_say_nothing_are_refused(tmp_path: Path, columns: Any) -> None:
    path = write_file(tmp_path / "d.jsonl", NAMED)
    with pytest.raises(ValueError, match=r"^columns="):
        load_dataset(path, columns=columns)


def test_of_a_row_that_lacks_one_of_several_columns_nothing_is_used(tmp_path: Path) -> None:
    rows = [NAMED, NAMED | {"stem": "Three and", "unit": None}, NAMED | {"stem": None}]
    path = write_file(tmp_path / "d.jsonl", *rows)
    data = load_dataset(path, columns={"question": ["stem", "rest"], "answer": ["value", "unit"]})
    assert (len(data.problems), data.incomplete) == (1, 2)


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
    [b"question,answer\nA,1,2\n", b"question,answer\nA\n", b"question,answer\n\xff,1\n", b""],
)
def test_a_broken_csv_file_is_refused_in_one_line(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "d.csv").write_bytes(content)
    with pytest.raises(ValueError, match=r"^path=.*: not a readable CSV file ") as caught:
        load_dataset(tmp_path / "d.csv")
    assert "\n" not in str(caught.value)


def test_prompts_over_the_limit_are_left_out_whole_and_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = write_lines(
        tmp_path / "d.jsonl", *({"question": "x" * n, "answer": "1"} for n in (4, 5, 6))
    )
    with caplog.at_level("INFO"):
        data = load_dataset(path, max_prompt_characters=5)
    assert [p.prompt for p in data.problems] == ["xxxx", "xxxxx"]
    assert data.too_long == 1
    assert "and 1 prompts of more than 5 characters" in caplog.text


def test_answers_may_be_missing_where_none_is_needed(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "d.jsonl", {"prompt": "Tell a joke."}, {"prompt": "Sing."})
    assert [(p.prompt, p.answer) for p in load_dataset(path, need_answers=False).problems] == [
        ("Tell a joke.", ""),
        ("Sing.", ""),
    ]
    with pytest.raises(ValueError, match="no known schema in the columns prompt;"):
        load_dataset(path)


def test_files_of_one_name_in_two_folders_give_their_problems_different_ids(tmp_path: Path) -> None:
    paths = []
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        paths.append(
            write_lines(tmp_path / folder / "d.jsonl", {"question": folder, "answer": "1"})
        )
    assert [p.problem_id for p in load_dataset(paths).problems] == ["d.0/0", "d.1/0"]


def test_without_weights_all_problems_are_visited_once_an_epoch(tmp_path: Path) -> None:
    data = load_dataset(two_files(tmp_path))
    order = visiting_order(data, data.problems, seed=3)
    assert sorted(order(seed) for seed in range(40)) == list(range(40))


def test_weights_share_out_the_seeds_whatever_the_files_sizes(tmp_path: Path) -> None:
    data = load_dataset(two_files(tmp_path))
    order = visiting_order(data, data.problems, weights=[3, 1], seed=3)
    visits = [data.problems[order(seed)].problem_id.partition("/")[0] for seed in range(400)]
    assert visits.count("small") == 300
    assert all(visits[i : i + 8].count("small") == 6 for i in range(0, 400, 8))


def test_weights_hold_for_what_is_left_of_each_file(tmp_path: Path) -> None:
    data = load_dataset(two_files(tmp_path))
    some = [p for p in data.problems if p.answer in ("0", "1", "2")]
    order = visiting_order(data, some, weights=[1, 1], seed=0)
    assert {some[order(seed)].problem_id for seed in range(6)} == {
        f"{n}/{i}" for n in ("small", "large") for i in range(3)
    }


@pytest.mark.parametrize(
    "weights", [[1], [1, 1, 1], [1, 0], [1, -1], [1, math.nan], ["a", 1], 1, {"small": 1}]
)
def test_weights_that_do_not_fit_the_files_are_refused(tmp_path: Path, weights: Any) -> None:
    data = load_dataset(two_files(tmp_path))
    with pytest.raises(
        ValueError, match=r"^weights=.*: must be a list of positive numbers, one for each of the 2 "
    ):
        visiting_order(data, data.problems, weights=weights, seed=0)


def test_a_weight_for_a_file_of_which_nothing_is_used_is_refused(tmp_path: Path) -> None:
    data = load_dataset(two_files(tmp_path))
    with pytest.raises(
        ValueError, match=r"^weights=.*: no problem of entry 1 of path is used; leave it out"
    ):
        visiting_order(data, data.problems[:10], weights=[1, 1], seed=0)


def two_files(folder: Path) -> list[Path]:
    sizes = {"small": 10, "large": 30}
    return [
        write_lines(
            folder / f"{name}.jsonl",
            *({"question": f"{name} {i}", "answer": str(i)} for i in range(size)),
        )
        for name, size in sizes.items()
    ]


def test_a_held_out_problem_that_is_trained_on_is_refused_in_one_line() -> None:
    def problems(*prompts: str) -> list[Problem]:
        return [Problem(prompt=p, answer="1", problem_id=f"d/{i}") for i, p in enumerate(prompts)]

    refuse_overlap(problems("A", "B"), problems("C"), settings="path")
    message = r"^1 of 2 held-out problems are also trained on, such as d/1 \('B b'\): change path$"
    with pytest.raises(ValueError, match=message):
        refuse_overlap(problems("a", "b\n B "), problems("C", "B b"), settings="path")
    with pytest.raises(ValueError, match="2 of 2"):
        refuse_overlap(
            problems("<A>", "B"),
            problems("A", "<b>"),
            bare=lambda text: text.strip("<>"),
            settings="path",
        )


@pytest.fixture
def hub() -> Any:
    return pytest.importorskip("datasets", reason="needs the library datasets")


def test_a_data_set_saved_by_the_library_datasets_is_read(tmp_path: Path, hub: Any) -> None:
    parts = {
        "train": [dapo_row("A", "1", 7), dapo_row("B", "2", 8)],
        "test": [dapo_row("C", "3", 9)],
    }
    made = hub.DatasetDict({name: hub.Dataset.from_list(rows) for name, rows in parts.items()})
    made.save_to_disk(tmp_path / "saved")
    made["test"].save_to_disk(tmp_path / "one")
    source = {"dataset": str(tmp_path / "saved")}
    assert [(p.prompt, p.answer, p.problem_id) for p in load_dataset(source).problems] == [
        ("A", "1", "saved/7"),
        ("B", "2", "saved/8"),
    ]
    assert pairs(source | {"split": "test"}) == [("C", "3")]
    assert pairs({"dataset": str(tmp_path / "one")}) == [("C", "3")]


def test_a_folder_of_data_files_is_read_as_a_data_set_and_mixes_with_files(
    tmp_path: Path, hub: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    (tmp_path / "folder").mkdir()
    write_lines(
        tmp_path / "folder" / "train.jsonl",
        {"question": "A", "answer": "1"},
        {"question": "B", "answer": "2"},
    )
    other = write_lines(
        tmp_path / "other.jsonl", {"question": "B", "answer": "2"}, {"question": "C", "answer": "3"}
    )
    data = load_dataset([{"dataset": str(tmp_path / "folder")}, other])
    assert [p.problem_id for p in data.problems] == ["folder/0", "folder/1", "other/1"]
    assert data.duplicates == 1


def test_a_data_set_that_cannot_be_had_is_refused_in_one_line(tmp_path: Path, hub: Any) -> None:
    hub.Dataset.from_list([{"question": "A", "answer": "1"}]).save_to_disk(tmp_path / "one")
    hub.DatasetDict({"train": hub.Dataset.from_list([{"q": "A"}])}).save_to_disk(tmp_path / "parts")
    for source, told in (
        ({"dataset": "nobody/nothing"}, "split 'train' cannot be loaded: "),
        (
            {"dataset": str(tmp_path / "parts"), "split": "test"},
            "split 'test' cannot be loaded: KeyError",
        ),
        ({"dataset": str(tmp_path / "parts")}, "no known schema in the columns q;"),
    ):
        with pytest.raises(ValueError, match=told) as caught:
            load_dataset(source)
        assert str(caught.value).startswith("path={'dataset': ")
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "source", [{}, {"dataset": ""}, {"data": "x"}, {"dataset": "x", "split": 1}]
)
def test_a_data_set_that_is_not_named_properly_is_refused(source: Any) -> None:
    with pytest.raises(
        ValueError,
        match=r"^path=.*: a Hugging Face data set is written \{'dataset': NAME\}, with texts",
    ):
        load_dataset(source)
