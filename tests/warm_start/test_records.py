"""Records of `rllib-dapo sft`: what is read, and what is refused with its line and the reason."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rllib_dapo.envs.messages import Message
from rllib_dapo.findings import SettingsError
from rllib_dapo.warm_start.records import read_records

WriteLines = Callable[..., Path]

SAID = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "1+1="},
    {"role": "assistant", "content": "3"},
    {"role": "tool", "content": "wrong"},
    {"role": "user", "content": "Again."},
    {"role": "assistant", "content": "2"},
]


def test_pairs_and_messages_become_a_prompt_and_turns(write_lines: WriteLines) -> None:
    system = Message(role="system", content="Be brief.")
    file = write_lines(
        [
            {"prompt": "1+1=", "response": "2", "source": "school"},
            "",
            {"prompt": SAID[:2], "response": "2"},
            {"messages": SAID},
        ]
    )

    found = read_records(file)

    first, second, third = found.records
    assert [one.place for one in found.records] == ["line 1", "line 3", "line 4"]
    assert first.prompt == (Message(role="user", content="1+1="),)
    assert second.prompt == third.prompt == (system, Message(role="user", content="1+1="))
    assert first.turns == second.turns == ("2",)
    assert third.turns == (
        "3",
        (Message(role="tool", content="wrong"), Message(role="user", content="Again.")),
        "2",
    )
    assert found.unused == ("source",)


def test_of_a_prompt_with_earlier_turns_the_response_alone_is_learnt(
    write_lines: WriteLines,
) -> None:
    (record,) = read_records(write_lines([{"prompt": SAID[:5], "response": "2"}])).records

    assert len(record.prompt) == 5
    assert record.turns == ("2",)


def test_parquet_gives_the_same_records(tmp_path: Path, write_lines: WriteLines) -> None:
    import pyarrow
    from pyarrow import parquet

    rows: list[dict[str, Any]] = [{"messages": SAID}, {"messages": SAID[1:3]}]
    file = tmp_path / "records.parquet"
    parquet.write_table(pyarrow.Table.from_pylist(rows), file)

    of_lines, of_parquet = read_records(write_lines(rows)), read_records(file)

    assert [one.place for one in of_parquet.records] == ["row 1", "row 2"]
    assert [(r.prompt, r.turns) for r in of_parquet.records] == [
        (r.prompt, r.turns) for r in of_lines.records
    ]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("{", "not valid JSON"),
        ("[1]", "it is a list"),
        ({"question": "1+1="}, "its fields are: question"),
        ({}, "its fields are: none"),
        ({"prompt": "1+1=", "response": "2", "messages": SAID}, "its fields are: prompt"),
        ({"prompt": "1+1="}, "it has no response"),
        ({"prompt": "", "response": "2"}, "its prompt is empty"),
        ({"prompt": "1+1=", "response": " \n"}, "its response is empty"),
        ({"prompt": "1+1=", "response": 2}, "its response is a int"),
        ({"prompt": 11, "response": "2"}, "must be a text or a list of messages"),
        ({"prompt": SAID[:3], "response": "2"}, "must not be the assistant's"),
        ({"messages": SAID[:2]}, "its last message is not the assistant's"),
        ({"messages": SAID[2:3]}, "no prompt before it"),
        ({"messages": [*SAID[:3], SAID[2]]}, "two messages of the assistant"),
        ({"messages": []}, "not a list with one message or more"),
        ({"messages": [SAID[1], {"role": "assistant", "content": ""}]}, "is empty"),
        ({"messages": [{"role": "robot", "content": "x"}, SAID[2]]}, "the role 'robot'"),
        (
            {"messages": [SAID[1], {**SAID[2], "tool_calls": [{"name": "add"}]}]},
            "has tool_calls beside its content",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) and " " in value else "row",
)
def test_a_bad_record_is_refused_with_its_line(
    row: Any, reason: str, write_lines: WriteLines
) -> None:
    file = write_lines([{"prompt": "0+1=", "response": "1"}, row])

    with pytest.raises(SettingsError, match="line 2 is refused") as refused:
        read_records(file)

    assert reason in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_refusal_counts_all_bad_records(write_lines: WriteLines) -> None:
    file = write_lines([{"prompt": "1+1="}] * 7)

    with pytest.raises(SettingsError, match=r"so are 6 more: line 2, .*, line 5 and 2 others"):
        read_records(file)


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("none.jsonl", None, "no such file"),
        ("empty.jsonl", b"\n", "holds no record"),
        ("records.txt", b"{}", "must end in .jsonl"),
        ("records.parquet", b"PAR", "not a readable Parquet file"),
        ("latin.jsonl", '{"prompt": "é", "response": "è"}'.encode("latin-1"), "not UTF-8"),
    ],
)
def test_a_file_that_cannot_be_read_is_refused(
    name: str, content: bytes | None, reason: str, tmp_path: Path
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)

    with pytest.raises(SettingsError, match=reason):
        read_records(tmp_path / name)
