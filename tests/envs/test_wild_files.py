"""Files as they are found: packed, in other encodings and layouts, with fields that come late."""

import bz2
import gzip
import json
import lzma
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rllib_dapo.envs import text_files
from rllib_dapo.envs.datasets import Dataset, load_dataset
from rllib_dapo.envs.messages import Message

WriteFile = Callable[..., Path]
Pairs = Callable[[Any], list[tuple[str, str]]]

ROWS = [{"question": "1+1?", "answer": "2"}, {"question": "é?", "answer": "3"}]
EXPECTED = [("1+1?", "2"), ("é?", "3")]
LINES = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS)
CSV = "question,answer\n1+1?,2\né?,3\n"


def reasons(data: Dataset) -> dict[str, int]:
    """Everything that was counted, without the rows that nothing is said of."""
    return {
        finding.reason: finding.rows
        for source in data.report.sources
        for finding in source.findings
    }


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("list.json", json.dumps(ROWS)),
        ("pretty.json", json.dumps(ROWS, indent=2)),
        ("list.jsonl", json.dumps(ROWS, indent=1)),
        ("data.json", json.dumps({"version": 1, "data": ROWS})),
        ("pretty_data.json", json.dumps({"version": 1, "data": ROWS}, indent=2)),
        ("any_key.json", json.dumps({"dev-set": ROWS})),
        ("by_id.json", json.dumps({"a": ROWS[0], "b": ROWS[1]})),
        ("lines.json", LINES),
        ("lines.ndjson", LINES),
        ("crlf.jsonl", "\r\n" + LINES.replace("\n", "\r\n\r\n")),
        ("capitals.jsonl", LINES.replace("question", "Question").replace("answer", "ANSWER")),
        ("spaces.csv", CSV.replace("question", "Problem ").replace("answer", "Final Answer")),
        ("semicolons.csv", CSV.replace(",", ";")),
        ("tabs.csv", CSV.replace(",", "\t")),
        ("tabs.tsv", CSV.replace(",", "\t")),
        ("crlf.csv", CSV.replace("\n", "\r\n\r\n")),
        ("queries.csv", CSV.replace("question,answer", "query,response")),
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-32"])
def test_layouts_and_encodings_are_told_apart(
    tmp_path: Path, name: str, content: str, encoding: str, pairs_of: Pairs
) -> None:
    (tmp_path / name).write_bytes(content.encode(encoding))
    assert pairs_of(tmp_path / name) == EXPECTED


@pytest.mark.parametrize(
    ("ending", "pack"), [(".gz", gzip.compress), (".bz2", bz2.compress), (".xz", lzma.compress)]
)
@pytest.mark.parametrize(("name", "content"), [("d.jsonl", LINES), ("d.csv", CSV)])
def test_packed_files_are_unpacked(
    tmp_path: Path,
    name: str,
    content: str,
    ending: str,
    pack: Callable[[bytes], bytes],
    pairs_of: Pairs,
) -> None:
    path = tmp_path / f"{name}{ending}"
    path.write_bytes(pack(content.encode()))
    assert pairs_of(path) == EXPECTED
    assert load_dataset(path).problems[0].problem_id == "d/0"

    path.write_bytes(pack(content.encode())[:-9])
    with pytest.raises(ValueError, match=r"^path=.*: cannot be unpacked \(") as caught:
        load_dataset(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["d.jsonl.gz", "d.csv.gz", "d.json.gz"])
def test_a_packed_file_that_grows_out_of_proportion_is_refused(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(text_files, "_UNPACKED_BYTES", 2**20)
    (tmp_path / name).write_bytes(gzip.compress(b" " * (4 * 2**20)))
    with pytest.raises(ValueError, match=r"unpacks to more than 1048576 bytes, .* unpack it your"):
        load_dataset(tmp_path / name)


def test_fields_that_come_late_are_found_and_rows_without_them_counted(
    tmp_path: Path, write_file: WriteFile
) -> None:
    rows: list[dict[str, Any]] = [{"note": "a header"}] * 2_500
    rows += [{"prompt": f"Q{i}"} for i in range(3)]
    rows += [{"prompt": f"Q{i}", "answer": str(i)} for i in range(10)]
    data = load_dataset(write_file(tmp_path / "d.jsonl", *rows))
    assert len(data.problems) == 10
    assert reasons(data) == {"no prompt": 2_500, "no answer": 3}
    assert data.report.sources[0].rows == 2_513
    assert data.report.sources[0].unused == ("note",)


def test_a_system_message_that_comes_up_late_is_refused_not_dropped(
    tmp_path: Path, write_file: WriteFile
) -> None:
    rows = [{"question": f"Q{i}", "answer": "1"} for i in range(1_200)]
    path = write_file(tmp_path / "d.jsonl", *rows, rows[0] | {"system_prompt": "Be brief."})
    with pytest.raises(ValueError, match=r"row 1201 is the first with the field 'system_prompt'"):
        load_dataset(path)


def test_a_single_object_is_one_problem(tmp_path: Path, pairs_of: Pairs) -> None:
    (tmp_path / "one.json").write_text(json.dumps(ROWS[0], indent=2))
    assert pairs_of(tmp_path / "one.json") == EXPECTED[:1]


@pytest.mark.parametrize(
    "message",
    [
        {"role": "user", "content": "Q"},
        {"from": "human", "value": "Q"},
        {"role": "User", "content": [{"type": "text", "text": "Q"}]},
    ],
)
@pytest.mark.parametrize("column", ["messages", "conversations", "prompt"])
@pytest.mark.parametrize("ending", [".jsonl", ".parquet", ".csv"])
def test_what_the_assistant_says_last_is_the_answer_where_there_is_no_other(
    tmp_path: Path,
    message: dict[str, Any],
    column: str,
    ending: str,
    write_file: WriteFile,
) -> None:
    reply = {"role": "assistant", "content": "So #### 5"}
    if "from" in message:
        reply = {"from": "gpt", "value": "So #### 5"}
    if isinstance(message.get("content"), list) and ending == ".parquet":
        reply["content"] = [{"type": "text", "text": "So #### 5"}]  # one kind in a column
    chat: Any = [message, reply]
    chat = json.dumps(chat) if ending == ".csv" else chat

    data = load_dataset(write_file(tmp_path / f"d{ending}", {column: chat}))
    assert [(p.prompt, p.answer) for p in data.problems] == [("Q", "5")]
    assert reasons(data) == {}

    data = load_dataset(write_file(tmp_path / f"d{ending}", {column: chat, "answer": "6"}))
    assert [(p.prompt, p.answer) for p in data.problems] == [("Q", "6")]
    assert reasons(data) == {"a reply of the assistant at the end, cut off": 1}


@pytest.mark.parametrize("ending", [".jsonl", ".parquet", ".csv"])
def test_a_system_column_becomes_the_first_message(
    tmp_path: Path, ending: str, write_file: WriteFile
) -> None:
    rows = [
        {"question": "Q", "system_prompt": "Be brief.", "answer": "1"},
        {"question": "Q", "system_prompt": "", "answer": "1"},
    ]
    data = load_dataset(write_file(tmp_path / f"d{ending}", *rows))
    assert [p.prompt for p in data.problems] == [
        (Message(role="system", content="Be brief."), Message(role="user", content="Q")),
        "Q",
    ]


def test_an_instruction_and_its_input_are_one_prompt(
    tmp_path: Path, write_file: WriteFile, pairs_of: Pairs
) -> None:
    rows = [
        {"instruction": "Add.", "input": "1 and 2", "output": "3"},
        {"instruction": "Name a prime.", "input": "", "output": "7"},
    ]
    path = write_file(tmp_path / "d.jsonl", *rows)
    assert pairs_of(path) == [("Add.\n\n1 and 2", "3"), ("Name a prime.", "7")]


def test_conversations_that_cannot_be_read_are_left_out_and_told(
    tmp_path: Path, write_file: WriteFile
) -> None:
    image = {"role": "user", "content": [{"type": "image", "url": "x"}]}
    rows: list[dict[str, Any]] = [
        {"prompt": "Q", "answer": "1"},
        {"prompt": [image], "answer": "1"},
        {"prompt": [{"role": "narrator", "content": "x"}, {"role": "user", "content": "y"}]},
        {"prompt": "[{'role': 'user', 'content': 'Q'}]", "answer": "1"},
    ]
    data = load_dataset(write_file(tmp_path / "d.jsonl", *rows))
    (finding,) = data.report.sources[0].findings
    assert (finding.reason, finding.rows, finding.first_row) == (
        *("a prompt that cannot be read", 3, 2),
    )
    assert "part that is not a text" in finding.example
    assert data.incomplete == 3


def test_a_repeated_id_is_made_different_and_counted(tmp_path: Path, write_file: WriteFile) -> None:
    rows = [{"question": f"Q{i}", "answer": "1", "id": "x"} for i in range(3)]
    rows += [{"question": "Q3", "answer": "1", "id": "x#1"}]
    data = load_dataset(write_file(tmp_path / "d.jsonl", *rows))
    names = [problem.problem_id for problem in data.problems]
    assert names[0] == "d/x"
    assert len(set(names)) == 4
    assert reasons(data) == {"the id of an earlier row, made different": 3}


def test_a_csv_column_that_is_named_twice_is_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "d.csv").write_text("question,answer,answer\nQ,1,2\n")
    with pytest.raises(ValueError, match=r"^path=.*: the column 'answer' is there twice; rename"):
        load_dataset(tmp_path / "d.csv")


@pytest.mark.parametrize(("name", "content"), [("d.jsonl", LINES * 2), ("d.csv", CSV + "ß?,4\n")])
def test_a_file_in_latin_1_is_refused_in_one_line(tmp_path: Path, name: str, content: str) -> None:
    (tmp_path / name).write_bytes(content.encode("latin-1"))
    with pytest.raises(ValueError, match=r"^path=.*: is not UTF-8 .*Latin-1.* iconv") as caught:
        load_dataset(tmp_path / name)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("ending", [".jsonl", ".csv", ".parquet"])
@pytest.mark.parametrize("fault", [b"\xff", b"\xed\xa0\x80", b"\xc3", b"\x00"])
def test_a_row_that_is_not_text_is_mended_and_counted(
    tmp_path: Path, ending: str, fault: bytes
) -> None:
    questions = [b"one", b"two " + fault + b"!", "drei ü".encode()]
    path = tmp_path / f"d{ending}"
    if ending == ".parquet":
        import pyarrow as pa
        from pyarrow import parquet

        # What Arrow takes for text is not looked at when it is written.
        texts = pa.array(questions, pa.binary()).cast(pa.string(), safe=False)
        parquet.write_table(pa.table({"question": texts, "answer": ["1", "2", "3"]}), path)
    elif ending == ".csv":
        path.write_bytes(b"question,answer\n" + b"".join(q + b",1\n" for q in questions))
    else:
        fault = fault.replace(b"\0", rb"\u0000")  # JSON spells control characters
        lines = [q.replace(b"\0", rb"\u0000") for q in questions]
        path.write_bytes(b"".join(b'{"question": "%s", "answer": "1"}\n' % q for q in lines))

    data = load_dataset(path)
    prompts = [problem.text for problem in data.problems]
    assert len(prompts) == 3
    assert prompts[1].startswith("two \ufffd")
    assert prompts[2] == "drei ü"
    for prompt in prompts:
        prompt.encode()
    assert reasons(data) == {"characters that are not text, replaced by U+FFFD": 1}
    assert data.report.sources[0].findings[0].first_row == 2


def test_lone_surrogates_are_replaced_wherever_they_stand(
    tmp_path: Path, write_file: WriteFile
) -> None:
    chat = [{"role": "system", "content": "\ud800"}, {"role": "user", "content": "Q\udfff"}]
    rows = [
        {"prompt": "A\ud83d", "answer": "\udc00", "id": "\ud800"},
        {"prompt": chat, "answer": "1", "id": 2},
        {"prompt": "😀", "answer": "1", "id": 3},
    ]
    data = load_dataset(write_file(tmp_path / "d.jsonl", *rows))
    assert data.problems[0].prompt == "A\ufffd"
    assert data.problems[1].text == "system: \ufffd\n\nuser: Q\ufffd"
    for problem in data.problems:
        "".join((problem.text, problem.answer, problem.problem_id)).encode()
    assert reasons(data) == {"characters that are not text, replaced by U+FFFD": 2}


@pytest.mark.parametrize("content", [b"", b"\n\r\n", b"\xef\xbb\xbf", b"[]", b"[\n]\n"])
def test_an_empty_file_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "d.json").write_bytes(content)
    with pytest.raises(ValueError, match=r"^path=.*: no problem in it"):
        load_dataset(tmp_path / "d.json")


def test_patterns_and_folders_stand_for_their_files(
    tmp_path: Path, write_file: WriteFile, pairs_of: Pairs
) -> None:
    folder = tmp_path / "set" / "data"
    folder.mkdir(parents=True)
    for number in range(3):
        row = {"question": f"Q{number}", "answer": str(number)}
        write_file(folder / f"train-0000{number}-of-00003.parquet", row)
    (folder / "README.md").write_text("read me")
    (folder / "dataset_infos.json").write_text("{}")

    expected = [("Q0", "0"), ("Q1", "1"), ("Q2", "2")]
    assert pairs_of(str(folder / "train-*.parquet")) == expected
    assert pairs_of(str(tmp_path / "**" / "*.parquet")) == expected
    assert pairs_of(tmp_path / "set") == expected
    with pytest.raises(FileNotFoundError, match=r"^path=.*: no file matches"):
        load_dataset(str(folder / "test-*.parquet"))

    write_file(folder / "test-00000-of-00001.parquet", {"question": "Q", "answer": "1"})
    with pytest.raises(ValueError, match=r"several splits \(test, train\); name those to read"):
        load_dataset(tmp_path / "set")


def test_the_files_of_a_pattern_share_one_weight(tmp_path: Path, write_file: WriteFile) -> None:
    from rllib_dapo.envs.datasets import visiting_order

    for name in ("a1", "a2", "b"):
        rows = ({"question": f"{name} {i}", "answer": "1"} for i in range(10))
        write_file(tmp_path / f"{name}.jsonl", *rows)
    data = load_dataset([str(tmp_path / "a*.jsonl"), tmp_path / "b.jsonl"])
    order = visiting_order(data, data.problems, weights=[1, 1], seed=0)
    visits = [data.problems[order(seed)].text[0] for seed in range(100)]
    assert visits.count("a") == visits.count("b") == 50
