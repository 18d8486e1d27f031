"""`rllib-dapo data`: what it shows of files of every kind, and how it refuses."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from rllib_dapo.cli import app
from rllib_dapo.data_report import describe_data as describing
from rllib_dapo.data_report.data_lines import data_lines
from rllib_dapo.data_report.data_request import data_request
from rllib_dapo.data_report.describe_data import describe_data
from rllib_dapo.models.tiny import make_tokenizer

SYSTEM = {"role": "system", "content": "Be brief."}


@pytest.fixture
def write_lines() -> Callable[..., str]:
    def write(path: Path, *rows: dict[str, Any]) -> str:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return str(path)

    return write


def shown(*arguments: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, ["data", *arguments])
    return result.exit_code, result.stdout, result.stderr


def test_it_shows_columns_counts_lengths_answers_and_prompts_with_ids(
    tmp_path: Path, write_lines: Callable[..., str]
) -> None:
    rows: list[dict[str, Any]] = [
        {"Question": f"{i} + {i}?", "answer": str(2 * i), "level": 1} for i in range(20)
    ]
    rows += [rows[0], {"Question": "0  +  0?", "answer": "0"}, {"Question": ""}]
    rows += [{"Question": "Why?", "answer": "so " * 200}, {"Question": "a\x1b[2J", "answer": "1"}]
    code, out, err = shown(write_lines(tmp_path / "d.jsonl", *rows), "--show", "3")
    assert (code, err) == (0, "")
    assert all(len(line) <= 80 for line in out.splitlines())
    for told in (
        "  prompt      Question\n  answer      answer\n  not read    level\n",
        "  rows        25 read, 23 problems kept\n",
        "  left out    1 with the prompt of an earlier row (first: row 21)\n",
        "  left out    1 with no prompt (first: row 23)\n",
        "  prompts     23: 23 one text\n",
        "  copies      1 equal another but for case and white space\n",
        "  read by     22 of 23: strict,",
        "  answer_rule strict: 1 problems would be left out\n",
        "  by none     1 answers, such as\n",
        "--- d/0\n  user        Solve the following math problem",
        "  token ids   ",
    ):
        assert told in out
    assert out.count("token ids") == 3
    assert "\x1b" not in shown(str(tmp_path / "d.jsonl"), "--show", "30")[1]


def test_the_token_ids_are_those_that_the_model_reads(
    tmp_path: Path, write_lines: Callable[..., str]
) -> None:
    path = write_lines(tmp_path / "d.jsonl", {"question": "1+1?", "answer": "2"})
    settings = ["--set", 'env_config.template="{problem}"', "--set", "rollout.max_prompt_tokens=3"]
    code, out, _ = shown(path, "--json", *settings)
    tree = json.loads(out)
    assert code == 0
    assert tree["prompts"][0]["token_ids"] == make_tokenizer()("1+1?")["input_ids"]
    assert tree["lengths"][0] == {
        **{"unit": "characters", "measured": 1, "median": 4, "p95": 4, "longest": 4},
        **{"limit": None, "over": 0},
    }
    assert (tree["lengths"][1]["limit"], tree["lengths"][1]["over"]) == (3, 1)


def test_every_kind_of_source_is_described(tmp_path: Path, write_lines: Callable[..., str]) -> None:
    datasets = pytest.importorskip("datasets", reason="needs the library datasets")
    rows = [{"question": f"Q{i}", "answer": "1"} for i in range(3)]
    one = write_lines(tmp_path / "a.jsonl", *rows)
    write_lines(tmp_path / "b.jsonl", {"question": "B", "answer": "2"})
    datasets.Dataset.from_list(rows).to_parquet(str(tmp_path / "p.parquet"))
    datasets.DatasetDict({"test": datasets.Dataset.from_list(rows)}).save_to_disk(tmp_path / "hub")

    def problems(*paths: str) -> int:
        code, out, err = shown(*paths, "--json")
        assert code == 0, err
        count = json.loads(out)["report"]["problems"]
        assert isinstance(count, int)
        return count

    assert problems(one) == 3
    assert problems(str(tmp_path / "*.jsonl")) == 4
    assert problems(str(tmp_path / "b.jsonl"), str(tmp_path / "p.parquet")) == 4
    assert problems(f"{{dataset: {tmp_path / 'hub'}, split: test}}") == 3


def test_prompts_without_answers_and_conversations_are_described(
    tmp_path: Path, write_lines: Callable[..., str]
) -> None:
    turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    user = {"role": "user", "content": "Q"}
    prompts: list[Any] = ["Q", [SYSTEM, user], [*turns, user], [SYSTEM, *turns, user]]
    path = write_lines(tmp_path / "d.jsonl", *({"prompt": prompt} for prompt in prompts))
    code, out, _ = shown(path)
    assert code == 0
    assert "answers     none: for rllib_dapo/RewardFunction-v0 only" in out
    kinds = "4: 1 one text, 1 a system message, 1 earlier turns, 1 a system message and earlier"
    assert kinds in " ".join(out.split())
    assert "  system      Be brief.\n  user        Q\n" in out


def test_what_a_template_refuses_is_counted_with_the_reason(
    tmp_path: Path, write_lines: Callable[..., str]
) -> None:
    user = {"role": "user", "content": "Q"}
    path = write_lines(
        tmp_path / "d.jsonl", *({"prompt": p, "answer": "1"} for p in ("Q", [SYSTEM, user]))
    )
    tokenizer = make_tokenizer()
    tokenizer.chat_template = None
    description = describe_data(
        data_request([path], [], {}), tokenizer, model="bare", max_prompt_tokens=99
    )
    assert list(description.refused.values()) == [1]
    assert description.prompts[1].token_ids is None
    assert "none: the model's template refuses this prompt" in "\n".join(data_lines(description))


def test_of_many_prompts_evenly_spread_ones_are_tokenized(
    tmp_path: Path, write_lines: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(describing, "_MOST_TOKENIZED", 10)
    monkeypatch.setattr(describing, "_SAY_EVERY", 0.0)
    rows = ({"question": f"Q{i}", "answer": "1"} for i in range(95))
    path = write_lines(tmp_path / "d.jsonl", *rows)
    code, out, err = shown(path, "--set", "rollout.max_prompt_tokens=8", "--show", "0")
    assert code == 0
    assert "10 of 10 over max_prompt_tokens=8" in " ".join(out.split())
    assert "tokenizing: 9 of 10 ..." in err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nowhere.jsonl"], "path='nowhere.jsonl': no such file"),
        (["no*.jsonl"], "path='no*.jsonl': no file matches"),
        (["FILE", "--columns", "q=x"], "--columns q=x: write it as SIDE=COLUMN, where SIDE is"),
        (["FILE", "--columns", "question=x"], "columns names 'x', but there are question, answer"),
        (["FILE", "--set", "env_config.pth=1"], "MathEnv: unknown setting 'pth' (value 1)"),
        (["FILE", "--set", "env_config.template=x"], "env_config.template='x': must be a text"),
        (["FILE", "--set", "env_config.answer_rule=x"], "env_config.answer_rule='x': must be one"),
        (["FILE", "--set", "trainig.lr=1"], "trainig"),
        (["FILE", "--model", "nobody"], "language_model.name"),
        (["{dataset: "], "{dataset: : cannot be read"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(
    tmp_path: Path, write_lines: Callable[..., str], arguments: list[str], said: str
) -> None:
    path = write_lines(tmp_path / "d.jsonl", {"question": "Q", "answer": "1"})
    code, out, err = shown(*(path if one == "FILE" else one for one in arguments))
    assert (code, out) == (2, "")
    assert said in err
    assert err.count("\n") == 1


def test_prompts_are_shown_in_the_runs_own_template(
    tmp_path: Path, write_lines: Callable[..., str]
) -> None:
    template = tmp_path / "own.jinja"
    template.write_text("{% for m in messages %}[{{ m.content }}]{% endfor %}{{ mark }}")
    path = write_lines(tmp_path / "d.jsonl", {"question": "Q", "answer": "1"})
    given = ("--json", "--set", f"language_model.chat_template={template}", "--set")
    code, out, _ = shown(path, *given, "language_model.chat_template_kwargs.mark=end")
    assert code == 0
    ids = json.loads(out)["prompts"][0]["token_ids"]
    read = make_tokenizer().decode(ids)
    assert read.startswith("[Solve")
    assert read.endswith(':".]end')

    wrong = shown(path, *given, "language_model.chat_template_kwargs.marks=end")
    assert wrong[0] == 2
    assert "never reads 'marks'; it reads: mark" in wrong[2]
