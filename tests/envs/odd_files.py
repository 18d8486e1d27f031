"""Files of problems as people have them, and what becomes of each."""

from __future__ import annotations

import gzip
import json
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True, slots=True)
class OddFile:
    """A file and its outcome.

    Attributes:
        name: What is odd about it; also the test's name.
        ending: The file's ending.
        content: The whole file.
        pairs: Prompts and answers that are read; None where the file is refused.
        says: What the refusal, one line, must hold.
    """

    name: str
    ending: str
    content: bytes
    pairs: tuple[tuple[str, str], ...] | None = None
    says: str = ""


def lines(*rows: Any) -> bytes:
    """JSON lines in UTF-8, as most tools write them."""
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


def answered(*answers: Any) -> bytes:
    """Questions Q0, Q1, ... with these answers."""
    return lines(*({"question": f"Q{i}", "answer": answer} for i, answer in enumerate(answers)))


SYSTEM = {"role": "system", "content": "Be brief."}
Q, A = {"role": "user", "content": "1+1="}, {"role": "assistant", "content": "2"}
ROW = {"question": "1+1=", "answer": "2"}
PAIR = (("1+1=", "2"),)

ODD_FILES = (
    # Encodings and containers
    OddFile(
        name="byte order mark", ending=".jsonl", content=b"\xef\xbb\xbf" + lines(ROW), pairs=PAIR
    ),
    OddFile(
        name="UTF-16", ending=".jsonl", content=lines(ROW).decode().encode("utf-16"), pairs=PAIR
    ),
    OddFile(
        name="Windows line ends",
        ending=".jsonl",
        content=lines(ROW).replace(b"\n", b"\r\n"),
        pairs=PAIR,
    ),
    OddFile(name="no line end at the end", ending=".jsonl", content=lines(ROW).strip(), pairs=PAIR),
    OddFile(
        name="empty lines", ending=".jsonl", content=b"\n \n" + lines(ROW) + b"\n\n", pairs=PAIR
    ),
    OddFile(name="one array", ending=".json", content=json.dumps([ROW]).encode(), pairs=PAIR),
    OddFile(
        name="one array over several lines",
        ending=".json",
        content=json.dumps([ROW, ROW], indent=2).encode(),
        pairs=PAIR,
    ),
    OddFile(name="packed", ending=".jsonl.gz", content=gzip.compress(lines(ROW)), pairs=PAIR),
    OddFile(
        name="packed array",
        ending=".json.gz",
        content=gzip.compress(json.dumps([ROW]).encode()),
        pairs=PAIR,
    ),
    OddFile(name="tabs", ending=".tsv", content=b"question\tanswer\n1+1=\t2\n", pairs=PAIR),
    OddFile(
        name="a text with a line break",
        ending=".csv",
        content=b'question,answer\n"1\n+1=",2\n',
        pairs=(("1\n+1=", "2"),),
    ),
    OddFile(name="empty", ending=".jsonl", content=b"", says="no problem"),
    OddFile(name="only a header", ending=".csv", content=b"question,answer\n", says="no problem"),
    OddFile(name="not packed at all", ending=".jsonl.gz", content=lines(ROW), says="gz"),
    OddFile(
        name="an ending that says nothing", ending=".bin", content=lines(ROW), says="known endings"
    ),
    OddFile(name="cut in the middle", ending=".jsonl", content=lines(ROW, ROW)[:-8], says="line 2"),
    # Columns
    OddFile(name="capitals", ending=".csv", content=b"Question,Answer\n1+1=,2\n", pairs=PAIR),
    OddFile(
        name="a column named twice",
        ending=".csv",
        content=b"question,answer,answer\n1+1=,2,3\n",
        says="answer",
    ),
    OddFile(
        name="a first row without an answer",
        ending=".jsonl",
        content=lines({"question": "Q"}, ROW),
        pairs=PAIR,
    ),
    OddFile(
        name="columns that say nothing",
        ending=".jsonl",
        content=lines({"a": "1+1=", "b": "2"}),
        says="a, b",
    ),
    OddFile(
        name="messages that end with the answer",
        ending=".jsonl",
        content=lines({"messages": [Q, A]}),
        pairs=PAIR,
    ),
    OddFile(
        name="conversations of people and gpt",
        ending=".jsonl",
        content=lines(
            {"conversations": [{"from": "human", "value": "1+1="}, {"from": "gpt", "value": "2"}]}
        ),
        pairs=PAIR,
    ),
    OddFile(
        name="a list of parts",
        ending=".jsonl",
        content=lines(
            {
                "prompt": [{"role": "user", "content": [{"type": "text", "text": "1+1="}]}],
                "answer": "2",
            }
        ),
        pairs=PAIR,
    ),
    OddFile(
        name="system prompts that differ",
        ending=".jsonl",
        content=lines(
            {"prompt": [SYSTEM, Q], "answer": "2"},
            {"prompt": [{**SYSTEM, "content": "Be long."}, Q], "answer": "2"},
        ),
        pairs=(
            ("system: Be brief.\n\nuser: 1+1=", "2"),
            ("system: Be long.\n\nuser: 1+1=", "2"),
        ),
    ),
    OddFile(
        name="an earlier turn",
        ending=".jsonl",
        content=lines({"prompt": [Q, A, {"role": "user", "content": "Sure?"}], "answer": "yes"}),
        pairs=(("user: 1+1=\n\nassistant: 2\n\nuser: Sure?", "yes"),),
    ),
    # Answers in their kinds
    OddFile(name="one in a list", ending=".jsonl", content=answered(["2"]), pairs=(("Q0", "2"),)),
    OddFile(
        name="one in a list, as JSON in a text",
        ending=".jsonl",
        content=answered('["2"]'),
        pairs=(("Q0", "2"),),
    ),
    OddFile(name="a mapping", ending=".jsonl", content=answered("1", {"value": "2"}), says="row 2"),
    OddFile(
        name="numbers",
        ending=".jsonl",
        content=answered(2, 2.0, 0.1, -3),
        pairs=(("Q0", "2"), ("Q1", "2"), ("Q2", "0.1"), ("Q3", "-3")),
    ),
    OddFile(
        name="no number",
        ending=".jsonl",
        content=b'{"question": "Q0", "answer": NaN}\n' + lines(ROW),
        pairs=PAIR,
    ),
    # Text that is no Unicode
    OddFile(
        name="half a character",
        ending=".jsonl",
        content=b'{"question": "\\ud800 1+1=", "answer": "2"}\n'
        + lines({"question": "Q", "answer": "3"}),
        pairs=(("\ufffd 1+1=", "2"), ("Q", "3")),
    ),
    OddFile(
        name="bytes that are no UTF-8",
        ending=".jsonl",
        content=b'{"question": "caf\xe9", "answer": "2"}\n' + answered("3", "4"),
        pairs=(("caf\ufffd", "2"), ("Q0", "3"), ("Q1", "4")),
    ),
)
