"""What the pages take for granted: files of a user's, and commands' placeholders."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from tests.docs.blocks import REPO, files_of

# Beside what the pages themselves say of these files.
MODULE = '''
class Game:
    def __init__(self, level):
        self.level = level

    def reset(self, seed):
        self.wanted = str(seed % self.level)
        return f"Say {self.wanted}"

    def step(self, text):
        return text == self.wanted


class Ratio(gymnasium.Env):
    """Divides by what may be nothing."""

    observation_space, action_space = TextSpace(1000), TextSpace(200_000)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return f"Say something about {seed}.", {}

    def step(self, text):
        return "", 1 / len(text) if text else float("inf"), True, False, {}
'''
HEAD = "import gymnasium\nfrom rllib_dapo.envs import *\n"
RUN_FILES = {
    "my_run.yaml": "base: tiny_arithmetic\n",
    "mine.yaml": "base: one_node_7b\n",
}


def _rows(number: int = 40) -> list[dict[str, object]]:
    return [
        {
            "question": f"{i}+1=",
            "answer": str(i + 1),
            "rubric": {"keyword": str(i + 1)},
            "tests": {"inputs": [f"{i}\n"], "outputs": [f"{i + 1}\n"]},
        }
        for i in range(number)
    ]


def write_given(folder: Path, page: str, *, small: bool = False) -> Path:
    """Puts into a folder what the blocks of a page find there; see `files_of`."""
    rows = _rows()
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    for name in ("problems", "prompts", "train", "mawps", "math-500"):
        (folder / f"{name}.jsonl").write_text(lines)

    short = pd.DataFrame({"question": [r["question"] for r in rows], "answer": "#### 1"})
    for name in ("train", "aime-2024"):
        short.to_parquet(folder / f"{name}.parquet")
    answered = [{"prompt": row["question"], "response": row["answer"]} for row in rows]
    (folder / "records.jsonl").write_text("".join(json.dumps(one) + "\n" for one in answered))

    objective = (REPO / "examples" / "own_objective.py").read_text()
    files = {**RUN_FILES, "own_objective.py": objective, "my_module.py": ""}
    files |= files_of(page, small=small)
    files["my_module.py"] = HEAD + files["my_module.py"] + MODULE
    for name, text in files.items():
        (folder / name).write_text(text)
    for name in ("tune_configs", "examples", "Makefile"):
        (folder / name).symlink_to(REPO / name)
    return folder


def fill_in(text: str, places: Mapping[str, object]) -> str:
    """Puts what is really there in the place of names such as MODEL, and of `..._` paths."""
    for name, value in places.items():
        text = text.replace(name, str(value))
    return text.replace("_... ", "_* ").replace("_.../", "_*/")
