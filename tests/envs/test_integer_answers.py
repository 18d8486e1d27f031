import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from rllib_dapo.envs.datasets import load_dataset
from rllib_dapo.envs.integer_answers import integer_problem, prepare
from rllib_dapo.envs.math import DAPO_TEMPLATE
from rllib_dapo.envs.verify import strict


@pytest.mark.parametrize(
    ("answer", "integer", "form", "total"),
    [
        (r"\frac{11}{2}", "13", r"$\frac{k}{d}$", "$k + d$"),
        (r"$\dfrac{3}{4}$", "7", r"$\frac{k}{d}$", "$k + d$"),
        (r"-\frac{3}{4}", "1", r"$\frac{k}{d}$", "$k + d$"),
        ("6/4", "5", r"$\frac{k}{d}$", "$k + d$"),
        (r"11-2\sqrt{6}", "19", r"$k-m\sqrt{n}$", "$k + m + n$"),
        (r"1+\sqrt{8}", "5", r"$k+m\sqrt{n}$", "$k + m + n$"),
        (r"3\sqrt2", "5", r"$m\sqrt{n}$", "$m + n$"),
        (r"-\sqrt{3}", "4", r"$-m\sqrt{n}$", "$m + n$"),
        (r"\frac{1+\sqrt{5}}{2}", "9", r"$\frac{k+m\sqrt{n}}{d}$", "$k + m + n + d$"),
        (r"\frac{2-4\sqrt{3}}{6}", "9", r"$\frac{k-m\sqrt{n}}{d}$", "$k + m + n + d$"),
        (r"\frac{\sqrt{2}}{2}", "5", r"$\frac{m\sqrt{n}}{d}$", "$m + n + d$"),
    ],
)
def test_an_answer_is_asked_for_by_its_parts(
    answer: str, integer: str, form: str, total: str
) -> None:
    made = integer_problem("How long is it?", answer)
    assert made is not None
    assert made[1] == integer
    assert made[0].startswith(f"How long is it? The answer can be written as {form} with integers ")
    assert made[0].endswith(f" Give {total} as the final answer.")


@pytest.mark.parametrize(
    ("answer", "integer"),
    [
        ("7", "7"),
        ("-12", "-12"),
        ("1,000", "1000"),
        (r"\boxed{5}", "5"),
        (r"\frac{4}{2}", "2"),
        (r"\sqrt{9}", "3"),
        ("007", "7"),
    ],
)
def test_an_integer_stays_and_so_does_its_problem(answer: str, integer: str) -> None:
    assert integer_problem("Q", answer) == ("Q", integer)


@pytest.mark.parametrize(
    "answer",
    [
        *(
            "",
            "x+1",
            "0.5",
            "3.14",
            r"\pi",
            "(1,2)",
            r"\frac{a}{b}",
            "Tuesday",
            "1/0",
            r"\frac{1}{0}",
            r"\sqrt{x}",
        ),
        *("9" * 300, "9" * 10 + "/7", r"2\sqrt{3}+5", "1/2/3", r"\frac{}{2}", "9^{9^{9^9}}"),
    ],
)
def test_other_answers_are_left_out_at_once(answer: str) -> None:
    began = time.thread_time()
    assert integer_problem("Q", answer) is None
    assert time.thread_time() - began < 0.1


def test_the_conditions_make_the_parts_unique() -> None:
    made = integer_problem("Q", r"\frac{1-\sqrt{5}}{2}")
    assert made is not None
    assert (
        "where $m$ is positive and $n$ has no square factor and the fraction is in lowest terms"
        in made[0]
    )


def test_the_recipes_wording_is_taken_off_before_a_sentence_is_added() -> None:
    made = integer_problem(DAPO_TEMPLATE.format(problem="How long?"), "1/2")
    assert made is not None
    assert made[0].startswith("How long? The answer")


@pytest.mark.parametrize("ending", [".jsonl", ".parquet"])
def test_a_file_is_prepared_and_can_be_read_again(tmp_path: Path, ending: str) -> None:
    source, target = tmp_path / "in.jsonl", tmp_path / "new" / f"out{ending}"
    rows = [("A", "1"), ("B", "1/2"), ("C", "x"), ("A", "1"), ("D", r"#### 3")]
    source.write_text("".join(json.dumps({"question": q, "answer": a}) + "\n" for q, a in rows))
    done = prepare(source, target)
    assert (done.kept, done.transformed, done.dropped) == (2, 1, 1)
    problems = load_dataset(target).problems
    assert [(p.prompt[:1], p.answer, p.problem_id) for p in problems] == [
        ("A", "1", "out/in/0"),
        ("B", "3", "out/in/1"),
        ("D", "3", "out/in/4"),
    ]


def test_what_cannot_be_prepared_is_refused_and_nothing_is_written(tmp_path: Path) -> None:
    source = tmp_path / "in.jsonl"
    source.write_text('{"question": "A", "answer": "x"}\n')
    with pytest.raises(
        ValueError, match="none of its 1 answers is an integer or can be made into one"
    ):
        prepare(source, tmp_path / "out.jsonl")
    with pytest.raises(ValueError, match=r"out\.txt: must end in \.jsonl or \.parquet"):
        prepare(source, tmp_path / "out.txt")
    assert [path.name for path in tmp_path.iterdir()] == ["in.jsonl"]


def test_competition_problems_have_integers_already(
    shared_data: Callable[[str], Path], tmp_path: Path
) -> None:
    done = prepare(shared_data("aime-2024.parquet"), tmp_path / "aime.parquet")
    assert (done.kept, done.transformed, done.dropped) == (30, 0, 0)


@pytest.mark.parametrize(
    ("name", "kept", "transformed", "dropped"),
    [
        ("gsm8k-train.jsonl", 7473, 0, 0),
        ("mawps.jsonl", 1709, 0, 272),  # decimals, which may be rounded
        ("mawps-addsub.jsonl", 269, 0, 126),
    ],
)
def test_real_files_keep_their_integers_and_every_rule_can_judge_what_is_left(
    shared_data: Callable[[str], Path],
    tmp_path: Path,
    name: str,
    kept: int,
    transformed: int,
    dropped: int,
) -> None:
    done = prepare(shared_data(name), tmp_path / "prepared.parquet")
    assert (done.kept, done.transformed, done.dropped) == (kept, transformed, dropped)
    problems = load_dataset(tmp_path / "prepared.parquet").problems
    assert len(problems) == kept + transformed
    for problem in problems:
        assert str(int(problem.answer)) == problem.answer
        assert strict(f"So it is.\nAnswer: ${problem.answer}$", problem.answer).is_correct
