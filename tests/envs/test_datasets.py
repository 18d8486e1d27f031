import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rllib_dapo.envs.base import Problem
from rllib_dapo.envs.datasets import load_dataset, refuse_overlap, visiting_order

WriteFile = Callable[..., Path]


NAMED = {
    "stem": "Two and",
    "rest": "two?",
    "value": 4,
    "unit": "apples",
    "question": "Not this",
    "answer": "nor this",
}


@pytest.fixture
def two_files(tmp_path: Path, write_file: WriteFile) -> list[Path]:
    sizes = {"small": 10, "large": 30}
    return [
        write_file(
            tmp_path / f"{name}.jsonl",
            *({"question": f"{name} {i}", "answer": str(i)} for i in range(size)),
        )
        for name, size in sizes.items()
    ]


def test_repeated_prompts_are_kept_once_and_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, write_file: WriteFile
) -> None:
    rows = [("A", "1"), ("B", "2"), ("A", "1"), (" A", "1"), ("A", "9"), ("B", "2")]
    path = write_file(tmp_path / "d.jsonl", *({"question": q, "answer": a} for q, a in rows))
    with caplog.at_level("INFO"):
        data = load_dataset(path)
    assert [(p.prompt, p.answer) for p in data.problems] == [("A", "1"), ("B", "2")]
    assert (data.duplicates, data.conflicts, data.incomplete) == (4, 1, 0)
    told = (
        "2 problems; left out 4 duplicates (1 of them with another answer), "
        "0 incomplete rows and 0 prompts of more"
    )
    assert told in caplog.text


def test_rows_without_a_prompt_or_an_answer_are_dropped_and_counted(
    tmp_path: Path, write_file: WriteFile
) -> None:
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

    data = load_dataset(write_file(tmp_path / "d.jsonl", *rows))
    assert len(data.problems) == 1
    assert data.incomplete == 8


def test_several_files_are_read_as_one(tmp_path: Path, write_file: WriteFile) -> None:
    one = write_file(
        tmp_path / "one.jsonl", {"question": "A", "answer": "1"}, {"question": "B", "answer": "2"}
    )
    two = write_file(
        tmp_path / "two.jsonl", {"input": "B", "target": 2.0}, {"input": "C", "target": 3.0}
    )
    data = load_dataset([str(one), two])
    assert [p.problem_id for p in data.problems] == ["one/0", "one/1", "two/1"]
    assert data.duplicates == 1


def test_a_file_is_read_again_only_when_it_changed(tmp_path: Path, write_file: WriteFile) -> None:
    path = write_file(tmp_path / "d.jsonl", {"question": "A", "answer": "1"})
    first = load_dataset(path)
    assert load_dataset(str(path)) is first
    write_file(path, {"question": "A", "answer": "1"}, {"question": "B", "answer": "2"})
    assert len(load_dataset(path).problems) == 2


@pytest.mark.parametrize("content", ["", "\n\n", '{"question": "", "answer": "1"}\n'])
def test_a_file_without_problems_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "d.jsonl").write_text(content)
    with pytest.raises(
        ValueError, match=r"^path=.*: no problem in it \([01] rows without prompt or answer, 0 "
    ):
        load_dataset(tmp_path / "d.jsonl")


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


def test_reading_thousands_of_lines_takes_a_fraction_of_a_second(
    tmp_path: Path, write_file: WriteFile
) -> None:
    rows = (
        {"question": f"{i} " + "word " * 60, "answer": "think " * 50 + f"#### {i}"}
        for i in range(7_500)
    )
    path = write_file(tmp_path / "d.jsonl", *rows)
    began = time.thread_time()
    assert len(load_dataset(path).problems) == 7_500
    assert time.thread_time() - began < 1.0


@pytest.mark.parametrize("ending", [".jsonl", ".parquet", ".csv"])
def test_columns_can_be_named_and_several_are_joined_by_a_space(
    tmp_path: Path, ending: str, write_file: WriteFile
) -> None:
    path = write_file(tmp_path / f"d{ending}", NAMED)
    columns = {"question": ["stem", "rest"], "answer": ["value", "unit"]}
    (problem,) = load_dataset(path, columns=columns).problems
    assert (problem.prompt, problem.answer) == ("Two and two?", "4 apples")
    (problem,) = load_dataset(path, columns={"question": "stem"}).problems
    assert (problem.prompt, problem.answer) == ("Two and", "nor this")


@pytest.mark.parametrize("ending", [".jsonl", ".parquet", ".csv"])
def test_a_named_column_that_is_not_there_is_refused_with_those_that_are(
    tmp_path: Path, ending: str, write_file: WriteFile
) -> None:
    path = write_file(tmp_path / f"d{ending}", NAMED)
    message = r"^path=.*: columns names 'stm', but there are stem, rest, .*; did you mean 'stem'\?$"
    with pytest.raises(ValueError, match=message):
        load_dataset(path, columns={"question": "stm"})


@pytest.mark.parametrize(
    "columns", ["question", {"prompt": "a"}, {"question": 1}, {"question": []}, {"answer": [""]}]
)
def test_columns_that_say_nothing_are_refused(
    tmp_path: Path, columns: Any, write_file: WriteFile
) -> None:
    path = write_file(tmp_path / "d.jsonl", NAMED)
    with pytest.raises(ValueError, match=r"^columns="):
        load_dataset(path, columns=columns)


def test_of_a_row_that_lacks_one_of_several_columns_nothing_is_used(
    tmp_path: Path, write_file: WriteFile
) -> None:
    rows = [NAMED, NAMED | {"stem": "Three and", "unit": None}, NAMED | {"stem": None}]
    path = write_file(tmp_path / "d.jsonl", *rows)
    data = load_dataset(path, columns={"question": ["stem", "rest"], "answer": ["value", "unit"]})
    assert (len(data.problems), data.incomplete) == (1, 2)


def test_prompts_over_the_limit_are_left_out_whole_and_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, write_file: WriteFile
) -> None:
    path = write_file(
        tmp_path / "d.jsonl", *({"question": "x" * n, "answer": "1"} for n in (4, 5, 6))
    )
    with caplog.at_level("INFO"):
        data = load_dataset(path, max_prompt_characters=5)
    assert [p.prompt for p in data.problems] == ["xxxx", "xxxxx"]
    assert data.too_long == 1
    assert "and 1 prompts of more than 5 characters" in caplog.text


def test_answers_may_be_missing_where_none_is_needed(tmp_path: Path, write_file: WriteFile) -> None:
    path = write_file(tmp_path / "d.jsonl", {"prompt": "Tell a joke."}, {"prompt": "Sing."})
    assert [(p.prompt, p.answer) for p in load_dataset(path, need_answers=False).problems] == [
        ("Tell a joke.", ""),
        ("Sing.", ""),
    ]
    with pytest.raises(ValueError, match="no known schema in the columns prompt;"):
        load_dataset(path)


def test_files_of_one_name_in_two_folders_give_their_problems_different_ids(
    tmp_path: Path, write_file: WriteFile
) -> None:
    paths = []
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        paths.append(write_file(tmp_path / folder / "d.jsonl", {"question": folder, "answer": "1"}))
    assert [p.problem_id for p in load_dataset(paths).problems] == ["d.0/0", "d.1/0"]


def test_without_weights_all_problems_are_visited_once_an_epoch(two_files: list[Path]) -> None:
    data = load_dataset(two_files)
    order = visiting_order(data, data.problems, seed=3)
    assert sorted(order(seed) for seed in range(40)) == list(range(40))


def test_weights_share_out_the_seeds_whatever_the_files_sizes(two_files: list[Path]) -> None:
    data = load_dataset(two_files)
    order = visiting_order(data, data.problems, weights=[3, 1], seed=3)
    visits = [data.problems[order(seed)].problem_id.partition("/")[0] for seed in range(400)]
    assert visits.count("small") == 300
    assert all(visits[i : i + 8].count("small") == 6 for i in range(0, 400, 8))


def test_weights_hold_for_what_is_left_of_each_file(two_files: list[Path]) -> None:
    data = load_dataset(two_files)
    some = [p for p in data.problems if p.answer in ("0", "1", "2")]
    order = visiting_order(data, some, weights=[1, 1], seed=0)
    assert {some[order(seed)].problem_id for seed in range(6)} == {
        f"{n}/{i}" for n in ("small", "large") for i in range(3)
    }


@pytest.mark.parametrize(
    "weights", [[1], [1, 1, 1], [1, 0], [1, -1], [1, math.nan], ["a", 1], 1, {"small": 1}]
)
def test_weights_that_do_not_fit_the_files_are_refused(two_files: list[Path], weights: Any) -> None:
    data = load_dataset(two_files)
    with pytest.raises(
        ValueError, match=r"^weights=.*: must be a list of positive numbers, one for each of the 2 "
    ):
        visiting_order(data, data.problems, weights=weights, seed=0)


def test_a_weight_for_a_file_of_which_nothing_is_used_is_refused(two_files: list[Path]) -> None:
    data = load_dataset(two_files)
    with pytest.raises(
        ValueError, match=r"^weights=.*: no problem of entry 1 of path is used; leave it out"
    ):
        visiting_order(data, data.problems[:10], weights=[1, 1], seed=0)


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
