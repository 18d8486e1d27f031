import csv
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from rllib_dapo.envs.datasets import refuse_overlap
from rllib_dapo.envs.math import DAPO_TEMPLATE, MathEnv


@pytest.fixture
def sums(tmp_path: Path) -> str:
    """A file with 200 problems."""
    path = tmp_path / "sums.jsonl"
    path.write_text(
        "".join(
            json.dumps({"question": f"{i}+{i}?", "answer": str(2 * i)}) + "\n" for i in range(200)
        )
    )
    return str(path)


def prompts(env: MathEnv, seeds: Iterable[int]) -> list[str]:
    return [env.reset(seed=seed)[0] for seed in seeds]


# More than one column, more than one file


def write_csv(path: Path, *rows: dict[str, str]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def numbered(path: Path, count: int) -> Path:
    """A file whose problems bear its name."""
    return write_csv(
        path, *({"question": f"{path.stem} {i}", "answer": str(i)} for i in range(count))
    )


def asked(env: MathEnv, seeds: Iterable[int]) -> list[tuple[str, str]]:
    problems = [env.problem(seed) for seed in seeds]
    return sorted((problem.prompt, problem.answer) for problem in problems)


def lay_in_cache(datasets: Any, cache: Path, name: str, rows: list[dict[str, str]]) -> None:
    """Writes a data set where the library keeps what it has downloaded."""
    user, _, dataset = name.partition("/")
    folder = cache / f"{user}___{dataset}" / "main" / "0.0.0" / ("0" * 40)
    folder.mkdir(parents=True)

    table = datasets.Dataset.from_list(rows)
    with datasets.arrow_writer.ArrowWriter(
        path=str(folder / f"{dataset}-train.arrow"), features=table.features
    ) as file:
        file.write_table(table.data.table)

    split = {"name": "train", "num_examples": len(rows), "num_bytes": 0, "dataset_name": dataset}
    info = {
        "features": table.features.to_dict(),
        "splits": {"train": split},
        "dataset_name": dataset,
    }
    (folder / "dataset_info.json").write_text(
        json.dumps(info | {"config_name": "main", "version": "0.0.0"})
    )


def test_columns_say_what_a_file_calls_question_and_answer_and_several_are_joined(
    tmp_path: Path,
) -> None:
    rows = (
        {
            "story": "Ann has 3 apples, Bo 4.",
            "ask": "How many?",
            "value": "7",
            "unit": "apples",
            "answer": "no",
        },
        {
            "story": 'He said: "2, 3,\nand so on".',
            "ask": "What is next?",
            "value": "4",
            "unit": "",
            "answer": "no",
        },
    )
    path = write_csv(tmp_path / "stories.csv", *rows)

    columns = {"question": ["story", "ask"], "answer": "value"}
    env = MathEnv(
        {
            "path": str(path),
            "columns": columns,
            "template": "{problem}",
            "answer_rule": "last_number",
        }
    )
    assert asked(env, range(2)) == [
        ("Ann has 3 apples, Bo 4. How many?", "7"),
        ('He said: "2, 3,\nand so on". What is next?', "4"),
    ]
    env.reset(seed=0)
    assert env.step(env.problem(0).answer)[1] == 1.0

    with_unit = MathEnv(
        path=path, columns={"question": "story", "answer": ["value", "unit"]}, template="{problem}"
    )
    # The other row has no unit.
    assert asked(with_unit, [0]) == [("Ann has 3 apples, Bo 4.", "7 apples")]


def test_a_side_that_columns_leaves_open_is_told_from_the_file(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "half.csv", {"Aufgabe": "1+1?", "answer": "2"})
    env = MathEnv(path=path, columns={"question": "Aufgabe"}, template="{problem}")
    assert asked(env, [0]) == [("1+1?", "2")]
    with pytest.raises(
        ValueError, match=r"columns names 'aufgabe', but there are Aufgabe, answer; did you mean"
    ):
        MathEnv(path=path, columns={"question": "aufgabe"})


def test_files_are_mixed_by_weights_in_every_batch_of_seeds(tmp_path: Path) -> None:
    paths = [str(numbered(tmp_path / "few.csv", 5)), str(numbered(tmp_path / "many.csv", 50))]
    env = MathEnv(path=paths, weights=[3, 1], template="{problem}")
    for first in (0, 40, 4_000):
        sources = [prompt.split()[0] for prompt in prompts(env, range(first, first + 40))]
        assert abs(sources.count("few") - 30) <= 2

    # Its own epochs: each problem once before any comes again.
    of_many = [prompt for prompt in prompts(env, range(200)) if prompt.startswith("many")]
    assert len(of_many) == len(set(of_many)) == 50

    unweighted = [
        prompt.split()[0]
        for prompt in prompts(MathEnv(path=paths, template="{problem}"), range(55))
    ]
    assert (unweighted.count("few"), unweighted.count("many")) == (5, 50)

    with pytest.raises(
        ValueError,
        match=r"^weights=\[1\]: must be a list of positive numbers, one for each of the 2",
    ):
        MathEnv(path=paths, weights=[1])


def test_prompts_that_are_too_long_are_left_out_whole_and_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rows = [{"question": "x" * length, "answer": "1"} for length in (10, 20, 21, 500)]
    path = write_csv(tmp_path / "long.csv", *rows)
    with caplog.at_level("INFO"):
        env = MathEnv(path=path, max_prompt_characters=20, template="{problem}")
    assert sorted(len(prompt) for prompt, _ in asked(env, range(2))) == [10, 20]
    assert "long.csv: 2 problems; left out 0 duplicates" in caplog.text
    assert "and 2 prompts of more than 20 characters" in caplog.text
    with pytest.raises(
        ValueError,
        match=r"no problem in it \(0 rows without prompt or answer, 4 prompts of more than",
    ):
        MathEnv(path=path, max_prompt_characters=5)


def test_repeated_problems_are_asked_once_and_counted_with_their_conflicts(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rows = [{"question": f"Q{i % 3}", "answer": str(i % 3)} for i in range(300)] + [
        {"question": "Q0", "answer": "9"}
    ]
    path = write_csv(tmp_path / "again.csv", *rows)
    with caplog.at_level("INFO"):
        env = MathEnv(path=path, template="{problem}")
    assert asked(env, range(3)) == [("Q0", "0"), ("Q1", "1"), ("Q2", "2")]
    assert (
        "again.csv: 3 problems; left out 298 duplicates (1 of them with another answer)"
        in caplog.text
    )


def test_problems_shared_with_files_that_are_to_be_kept_apart_are_refused(tmp_path: Path) -> None:
    train, other, copy = (tmp_path / f"{name}.csv" for name in ("train", "other", "copy"))
    numbered(train, 9)
    numbered(other, 3)
    write_csv(copy, {"question": DAPO_TEMPLATE.format(problem="TRAIN  4"), "answer": "4"})
    assert len(MathEnv(path=train, disjoint_from=other).problems) == 9
    with pytest.raises(
        ValueError,
        match=r"^1 of 4 held-out problems are also trained on, such as copy/0 \('TRAIN 4'\)",
    ):
        MathEnv(path=train, disjoint_from=[str(other), str(copy)])

    # What another split holds is not trained on.
    kept = MathEnv(path=train, split="train", heldout_fraction=0.5)
    left = write_csv(
        tmp_path / "left.csv",
        *(
            {"question": p.prompt, "answer": p.answer}
            for p in MathEnv(path=train).problems
            if p not in kept.problems
        ),
    )
    assert (
        MathEnv(path=train, split="train", heldout_fraction=0.5, disjoint_from=left).problems
        == kept.problems
    )


def test_copies_of_a_problem_share_a_split_whatever_their_case_and_white_space(
    tmp_path: Path,
) -> None:
    rows = [
        {"question": f"{'How Many' if i % 2 else 'how  many '} are {i // 2}?", "answer": "1"}
        for i in range(400)
    ]
    path = write_csv(tmp_path / "cases.csv", *rows)
    parts = {
        split: MathEnv(path=path, split=split, heldout_fraction=0.5).problems
        for split in ("train", "heldout")
    }
    assert sum(map(len, parts.values())) == 400
    refuse_overlap(parts["train"], parts["heldout"], settings="")


def test_real_problems_are_split_without_overlap(shared_data: Callable[[str], Path]) -> None:
    path = shared_data("mawps.jsonl")  # holds some problems twice, in other capitals
    train, heldout = (
        MathEnv(path=path, split=split, heldout_fraction=0.2, answer_rule="last_number").problems
        for split in ("train", "heldout")
    )
    refuse_overlap(train, heldout, settings="")
    assert len(train) + len(heldout) == len(MathEnv(path=path, answer_rule="last_number").problems)


def test_a_hugging_face_data_set_is_asked_like_a_file(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets", reason="needs the library datasets")
    rows = [{"problem": f"{i}+1?", "solution": rf"It is $\boxed{{{i + 1}}}$."} for i in range(20)]
    datasets.DatasetDict({"test": datasets.Dataset.from_list(rows)}).save_to_disk(
        tmp_path / "saved"
    )
    env = MathEnv(
        path={"dataset": str(tmp_path / "saved"), "split": "test"}, template="{problem}", limit=3
    )
    assert asked(env, range(3)) == [("0+1?", "1"), ("1+1?", "2"), ("2+1?", "3")]


def test_a_hugging_face_data_set_is_found_by_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As it is without a network: by what an earlier download has left in the library's cache."""
    datasets = pytest.importorskip("datasets", reason="needs the library datasets")
    cache = tmp_path / "cache"
    lay_in_cache(
        datasets,
        cache,
        "someone/sums",
        [{"question": f"{i}+1?", "answer": str(i + 1)} for i in range(20)],
    )
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", cache)

    env = MathEnv(
        path={"dataset": "someone/sums", "name": "main", "split": "train"}, template="{problem}"
    )
    assert len(env.problems) == 20
    assert env.problems[4].problem_id == "sums/4"
    assert asked(env, range(20))[0] == ("0+1?", "1")
