"""Keeps the records of a file whose answer the majority of a model's samples supports.

The idea is that of self-consistency (arXiv 2203.11171): where many samples agree, their answer is
mostly right, so a record that they contradict is mostly a wrong one. The correct samples are also
what rejection sampling fine-tunes on (arXiv 2308.01825).
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rllib_dapo.envs import Problem
from rllib_dapo.envs.messages import as_observation
from rllib_dapo.envs.problem_file import write_problems
from rllib_dapo.evaluation.evaluation_settings import (
    EvaluationSettings,
    is_checkpoint,
    read_evaluation,
)
from rllib_dapo.evaluation.prepare_evaluation import PreparedEvaluation
from rllib_dapo.findings import SettingsError
from rllib_dapo.rollout.make_environment import make_environment
from rllib_dapo.warm_start.majority import DECISIONS, Decision, Vote, decide

if TYPE_CHECKING:
    import pandas

ENVIRONMENT = "rllib_dapo/Math-v0"
_ENV_SETTING = "environment.env"


@dataclass(frozen=True, kw_only=True, slots=True)
class SelfConsistency:
    """What came of a file.

    Attributes:
        decisions: Number of records by what was decided on them.
        written: Number of records for `sft`.
        unfit: Number of correct samples that are no such records, by the reason.
    """

    decisions: Mapping[str, int]
    written: int
    unfit: Mapping[str, int]


def read_self_consistency(
    file: Path,
    model: str,
    *,
    like: Path | None,
    overrides: Sequence[str],
    options: Mapping[str, Any],
    limit: int | None,
    place: Path | None = None,
) -> EvaluationSettings:
    """Reads what is to be sampled: an evaluation on the training environment with this file.

    Args:
        file: The records, as the setting `path` of `Math-v0` takes them.
        model: As `read_evaluation` takes it, as for `options` and `place`.
        like: A run file whose environment and sampling are taken; by default `Math-v0`.
        overrides: Texts `dotted.name=value`, as after `--set`; they win over all others.
        options: Settings by dotted name.
        limit: Largest number of records; None for all.
        place: See `read_evaluation`.

    Raises:
        SettingsError: As `read_evaluation`; one line.
    """
    path = json.dumps(str(file.expanduser().absolute()), ensure_ascii=False)
    own = ["evaluation.evaluation_config={}", f"environment.env_config.path={path}"]
    is_named = any(text.startswith(f"{_ENV_SETTING}=") for text in overrides)
    if like is None and not is_named and not is_checkpoint(str(place or model)):
        own.insert(0, f"{_ENV_SETTING}={ENVIRONMENT}")

    settings = read_evaluation(
        model, file=like, overrides=[*own, *overrides], options=options, place=place
    )
    # The file's own data sets and limits are those of its evaluations.
    if len(settings.data_sets) != 1:
        raise SettingsError(f"--like {like}: has several data sets: name a run file with one")
    (data_set,) = settings.data_sets
    return replace(settings, data_sets=(replace(data_set, limit=limit),))


def judge_file(
    prepared: PreparedEvaluation,
    *,
    threshold: float,
    kept_file: Path,
    sft_file: Path | None,
    per_problem: int,
) -> SelfConsistency:
    """Decides on all records and writes those that are kept, and correct samples where asked.

    Args:
        prepared: An evaluation all of whose responses are there.
        threshold: See `decide`.
        kept_file: Path of the file of the records that are kept; not written if there are none.
        sft_file: Path of a file of records for `sft`; not written if there are none.
        per_problem: Largest number of correct samples of a problem that are written.

    Raises:
        SettingsError: If the environment has no problems of a file, or only grades; one line.
    """
    ((name, questions),) = prepared.questions.items()
    (data_set,) = prepared.settings.data_sets
    env = make_environment(data_set.environment.env, data_set.environment.env_config)
    try:
        problems = _problems(env, name)
        prompts = {q.seed: as_observation(env.reset(seed=q.seed)[0]) for q in questions}
    finally:
        env.close()

    responses = prepared.parts(name).read()
    if (
        len(responses)
        and responses["is_correct"].isna().all()
        and responses["reward"].notna().any()
    ):
        raise SettingsError(f"{name} only grades: self-consistency needs one that says is_correct")
    rows_of = dict(iter(responses.groupby("seed", sort=False)))

    decided: dict[str, Decision] = {}
    records: list[dict[str, Any]] = []
    unfit: Counter[str] = Counter()
    samples = prepared.config.evaluation_samples_per_prompt
    for question in questions:
        rows = rows_of.get(question.seed)
        decided[question.problem_id] = decide(
            [] if rows is None else _votes(rows), num_samples=samples, threshold=threshold
        )
        if rows is not None:
            records += _records(prompts[question.seed], rows, per_problem, unfit)

    kept = [_row(problem) for problem in problems if decided.get(problem.problem_id) == "kept"]
    if kept:
        write_problems(kept, kept_file)
    if sft_file is not None and records:
        write_problems(records, sft_file, prompt="prompt")
    counts = Counter(decided.values())
    return SelfConsistency(
        decisions={decision: counts[decision] for decision in DECISIONS},
        written=len(records) if sft_file is not None else 0,
        unfit=dict(unfit) if sft_file is not None else {},
    )


def summary_lines(result: SelfConsistency, *, kept_file: Path, sft_file: Path | None) -> list[str]:
    """Says how many records were kept, why the others were not, and where they are."""
    dropped = {
        reason: count for reason, count in result.decisions.items() if count and reason != "kept"
    }
    total = sum(result.decisions.values())
    why = ", ".join(f"{count} {reason}" for reason, count in dropped.items())
    kept = result.decisions["kept"]
    lines = [f"kept {kept} of {total} records{f'; dropped: {why}' if why else ''}"]
    lines.append(f"records: {kept_file}" if kept else f"{kept_file}: not written, none is kept")

    if sft_file is not None:
        left = ", ".join(f"{count} {reason}" for reason, count in sorted(result.unfit.items()))
        lines.append(
            f"correct samples: {result.written} written{f'; left out: {left}' if left else ''}"
        )
        where = f"for sft: {sft_file}" if result.written else f"{sft_file}: not written"
        lines.append(where)
    return lines


def _problems(env: Any, name: str) -> tuple[Problem, ...]:
    problems = getattr(env.unwrapped, "problems", None)
    if not isinstance(problems, tuple) or not all(isinstance(p, Problem) for p in problems):
        raise SettingsError(
            f"{name} has no problems of a file: self-consistency takes {ENVIRONMENT} and its like"
        )
    return problems


def _votes(rows: pandas.DataFrame) -> list[Vote]:
    return [
        Vote(
            is_correct=None if missing is not None else bool(is_correct),
            prediction=prediction or "",
        )
        for is_correct, missing, prediction in zip(
            rows["is_correct"],
            rows["missing_reason"].astype(object).where(rows["missing_reason"].notna(), None),
            rows["prediction"],
            strict=True,
        )
    ]


def _records(
    prompt: Any, rows: pandas.DataFrame, most: int, unfit: Counter[str]
) -> list[dict[str, Any]]:
    """Correct samples that are records for `sft`: whole, of one turn, each once."""
    found: dict[str, None] = {}
    for row in rows.to_dict("records"):
        if row["is_correct"] is not True:
            continue
        if row["finish_reason"] != "stop":
            unfit["cut off"] += 1
        elif row["turns"] != 1:
            unfit["of several turns"] += 1
        elif not row["response"].strip():
            unfit["empty"] += 1
        elif row["response"] in found:
            unfit["said before"] += 1
        elif len(found) == most:
            unfit[f"beyond {most} of a problem"] += 1
        else:
            found[row["response"]] = None
    return [{"prompt": prompt, "response": text} for text in found]


def _row(problem: Problem) -> dict[str, Any]:
    return {
        "problem_id": problem.problem_id,
        "question": problem.prompt,
        "answer": problem.answer,
    }
