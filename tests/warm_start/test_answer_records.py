"""Problems with answers as records: posed as training poses them, each once, of its split alone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rllib_dapo.findings import SettingsError
from rllib_dapo.warm_start.answer_records import answer_records

RUN = """
base: two_cores
environment:
  env: rllib_dapo/Math-v0
  env_config:
    answer_rule: last_number
    split: {split}
    template: "{{problem}} Only a number."
language_model: {{name: tiny}}
"""


def write(path: Path, *rows: dict[str, object]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.mark.parametrize("split", ["train", "heldout"])
def test_each_problem_of_the_split_is_a_record_with_its_answer(tmp_path: Path, split: str) -> None:
    sums = {f"{a}+{b}=": str(a + b) for a in range(10) for b in range(10)}
    rows = [{"question": question, "answer": answer} for question, answer in sums.items()]
    found = {}
    for name in ("train", "heldout"):
        run = tmp_path / f"{name}.yaml"
        run.write_text(RUN.format(split=name))
        found[name] = answer_records(write(tmp_path / "sums.jsonl", *rows), run).records

    asked = [record.prompt[0].content for record in found[split]]
    assert all(text.endswith(" Only a number.") for text in asked)
    questions = [text.removesuffix(" Only a number.") for text in asked]
    assert [record.turns for record in found[split]] == [(sums[q],) for q in questions]
    assert len(set(questions)) == len(questions)
    assert len(found["train"]) + len(found["heldout"]) == len(sums)
    assert 0 < len(found["heldout"]) < 30


def test_what_has_no_answers_is_refused_in_a_line(tmp_path: Path) -> None:
    run = tmp_path / "run.yaml"
    run.write_text(RUN.format(split="train"))
    with pytest.raises(SettingsError, match=r"^FILE .*no\.jsonl: there is no such file$"):
        answer_records(tmp_path / "no.jsonl", run)

    run.write_text(
        "base: two_cores\nlanguage_model: {name: tiny}\n"
        "environment: {env: rllib_dapo/RewardFunction-v0, env_config: {reward: {regex: x}}}\n"
    )
    file = write(tmp_path / "prompts.jsonl", {"prompt": "Say something."})
    with pytest.raises(SettingsError, match=r"^FILE .*prompts\.jsonl: .* has no answer to be") as e:
        answer_records(file, run)
    assert "\n" not in str(e.value)
