"""One evaluation: checked, sampled part by part, and told."""

from __future__ import annotations

import json
import logging
import time
import traceback
from collections.abc import Mapping, Sized
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import ray

from rllib_dapo.checkpoint.export import export_checkpoint
from rllib_dapo.evaluation.evaluation_folder import (
    open_folder,
    questions_fingerprint,
    settings_of,
    weights_fingerprint,
)
from rllib_dapo.evaluation.evaluation_progress import EvaluationProgress
from rllib_dapo.evaluation.evaluation_sampler import EvaluationSampler, with_environment
from rllib_dapo.evaluation.evaluation_settings import DataSet, EvaluationSettings
from rllib_dapo.evaluation.evaluation_summary import EvaluationResult, result_json
from rllib_dapo.evaluation.figures import figures, problem_columns
from rllib_dapo.evaluation.response_parts import Parts, Question, write_table, write_text
from rllib_dapo.evaluation.samples_picture import samples_picture
from rllib_dapo.findings import SettingsError, one_line
from rllib_dapo.learner.model_folder import MODULE_PATH
from rllib_dapo.metrics.estimators import MAX_SAMPLES
from rllib_dapo.models import resolve_model
from rllib_dapo.rollout.make_environment import make_environment
from rllib_dapo.run.preflight import check_run
from rllib_dapo.run.quiet_output import kept_messages, output_into
from rllib_dapo.run.run_settings import RunSettings
from rllib_dapo.run.section_checks import TuneSettings
from rllib_dapo.run.worker_log import worker_log

if TYPE_CHECKING:
    from rllib_dapo.config.dapo_config import DAPOConfig

ENDLESS_PROBLEMS = 256
FOLDER = "~/ray_results/evaluations"


@dataclass(frozen=True, kw_only=True, slots=True)
class PreparedEvaluation:
    """An evaluation that can start, or go on.

    Attributes:
        settings: What was asked for.
        config: Checked, with all that was left open filled in.
        model: The model's folder or hub name; of a checkpoint, the folder in it.
        folder: Where results go.
        part_size: Problems that are sampled together.
        questions: Of each data set.
        is_resumed: Whether there were results in the folder already.
        notes: What a user should know before it starts, each in one line.
    """

    settings: EvaluationSettings
    config: DAPOConfig
    model: Path | str
    folder: Path
    part_size: int
    questions: Mapping[str, tuple[Question, ...]]
    is_resumed: bool
    notes: tuple[str, ...]

    def parts(self, name: str) -> Parts:
        """The files of a data set's responses."""
        return Parts(
            self.folder / "responses" / name, self.questions[name], part_size=self.part_size
        )


def prepare(settings: EvaluationSettings, *, output: Path | None, batch: int | None) -> PreparedEvaluation:
    """Checks all that an evaluation needs to start, and opens its folder.

    Args:
        settings: As read.
        output: The folder; a new one by default.
        batch: Problems that are sampled together; by default as many as fill the engine.

    Raises:
        SettingsError: For the first finding; one line.
    """
    config = settings.config
    with kept_messages(
        "rllib_dapo.envs"
    ) as notes:  # an environment says what it left out when it is first made
        _check(settings)
    samples = config.evaluation_samples_per_prompt
    if samples > MAX_SAMPLES:
        raise SettingsError(f"{settings.source}: k={samples} must be at most {MAX_SAMPLES}")
    if batch is not None and batch < 1:
        raise SettingsError(f"--batch {batch} must be at least 1")
    questions = {data_set.name: _questions(data_set, notes) for data_set in settings.data_sets}
    model = (
        resolve_model(settings.model)
        if settings.checkpoint is None
        else settings.checkpoint / MODULE_PATH
    )
    config = _fitted(config, model, settings, notes)
    part_size = batch or max(1, config.max_concurrent_responses // samples)
    folder = (output or new_folder(settings)).expanduser().absolute()
    asked = {
        data_set.name: {
            "env": _env_name(data_set.environment.env),
            "env_config": dict(data_set.environment.env_config),
            "problems": len(questions[data_set.name]),
            "questions": questions_fingerprint(questions[data_set.name]),
        }
        for data_set in settings.data_sets
    }
    weights = weights_fingerprint(model)
    named = str(settings.checkpoint or model)
    is_resumed = open_folder(
        folder,
        settings_of(config, model=named, weights=weights, part_size=part_size, questions=asked),
    )
    return PreparedEvaluation(
        settings=settings,
        config=config,
        model=model,
        folder=folder,
        part_size=part_size,
        questions=questions,
        is_resumed=is_resumed,
        notes=tuple(notes),
    )


def run(evaluation: PreparedEvaluation, progress: EvaluationProgress) -> EvaluationResult:
    """Samples what is not there yet, and computes and keeps the figures.

    Args:
        evaluation: From `prepare`.
        progress: Told of every part.

    Raises:
        ValueError: If no prompt of a data set fits `rollout.max_prompt_tokens`.
    """
    with ExitStack() as stack, progress:
        sampler: EvaluationSampler | None = None
        for data_set in evaluation.settings.data_sets:
            missing = evaluation.parts(data_set.name).missing()
            if missing:
                sampler = sampler or _start(evaluation, data_set, stack)
                sampler.use(data_set.environment)
                _sample(evaluation, data_set.name, missing, sampler, progress)
    return _conclude(evaluation)


def failure_lines(evaluation: PreparedEvaluation, error: Exception) -> list[str]:
    """Why an evaluation failed, and where to read all of it."""
    path = evaluation.folder / "error.txt"
    write_text("".join(traceback.format_exception(error)), path)
    return [f"failed: {type(error).__name__}: {one_line(error)}", f"  all of it: {path}"]


def new_folder(settings: EvaluationSettings) -> Path:
    """The folder of an evaluation that starts now."""
    name = "-".join(
        [Path(settings.model).name, *(data_set.name for data_set in settings.data_sets[:3])]
    )
    return Path(FOLDER).expanduser() / f"{name}_{datetime.now():%Y-%m-%d_%H-%M-%S}"


def opening_lines(evaluation: PreparedEvaluation) -> list[str]:
    """What is about to be sampled, and where it goes."""
    config, settings = evaluation.config, evaluation.settings
    counts = ", ".join(
        f"{name} ({len(questions)} problems)" for name, questions in evaluation.questions.items()
    )
    lines = [
        f"evaluate: {settings.model} on {counts}: k={config.evaluation_samples_per_prompt}, temperature "
        f"{config.evaluation_temperature}, top_p {config.evaluation_top_p}, up to {config.max_response_tokens} tokens, "
        f"engine {config.engine}, seed {config.seed or 0}"
    ]
    if evaluation.is_resumed:
        parts = [evaluation.parts(name) for name in evaluation.questions]
        done = sum(len(part.requests) - len(part.missing()) for part in parts)
        lines.append(
            f"goes on: {done} of {sum(len(part.requests) for part in parts)} parts are there"
        )
    return [*lines, f"results: {evaluation.folder}"]


def _check(settings: EvaluationSettings) -> None:
    """The checks of training: values, environments, placement."""
    configs = tuple(
        with_environment(settings.config, data_set.environment) for data_set in settings.data_sets
    )
    check_run(
        RunSettings(
            name=settings.model,
            source=settings.source,
            config=configs[0],
            checked=configs,
            stop={},
            tune=TuneSettings(),
            data_hint=settings.data_hint,
        )
    )
    if settings.config.evaluation_num_prompts < 1:
        raise SettingsError(f"--limit {settings.config.evaluation_num_prompts} must be at least 1")


def _questions(data_set: DataSet, notes: list[str]) -> tuple[Question, ...]:
    """All problems of a data set, each once; of an endless one as many as asked for."""
    environment = data_set.environment
    env = make_environment(environment.env, environment.env_config)
    known = getattr(env.unwrapped, "problems", None)
    there = len(known) if isinstance(known, Sized) else None
    limit = data_set.limit
    count = (limit or ENDLESS_PROBLEMS) if there is None else min(there, limit or there)
    if there is None and limit is None:
        notes.append(
            f"{data_set.name} has no end of problems: the first {count} are asked; --limit sets how many"
        )
    try:
        asked = [(seed, *env.reset(seed=seed)) for seed in range(count)]
    except Exception as error:  # whatever a user's environment may raise
        raise SettingsError(
            f"{data_set.name}: reset: {type(error).__name__}: {one_line(error)}"
        ) from error
    finally:
        env.close()
    different = len({prompt for _, prompt, _ in asked})
    if there is not None and different < count:
        notes.append(
            f"{data_set.name}: its first {count} seeds ask only {different} different prompts"
        )
    return tuple(
        Question(
            seed=seed,
            problem_id=str(info.get("problem_id", seed)),
            prompt=prompt,
            answer=str(info.get("answer", "")),
        )
        for seed, prompt, info in asked
    )


def _fitted(
    config: DAPOConfig, model: Path | str, settings: EvaluationSettings, notes: list[str]
) -> DAPOConfig:
    """With lengths that the model has room for, where nobody has given any.

    Raises:
        SettingsError: If what is given is too long for it.
    """
    room = _context_tokens(model)
    prompt, response = config.max_prompt_tokens, config.max_response_tokens
    if room is None or prompt + response <= room:
        return config
    if "rollout.max_prompt_tokens" not in settings.is_given:
        prompt = min(prompt, room // 4)
    if "rollout.max_response_tokens" not in settings.is_given:
        response = room - prompt
    if prompt + response > room or response < 1:
        raise SettingsError(
            f"rollout.max_prompt_tokens={prompt} and rollout.max_response_tokens={response} are more than the {room} "
            f"tokens that {settings.model} has room for: lower them"
        )
    notes.append(
        f"{settings.model} has room for {room} tokens: rollout.max_prompt_tokens={prompt}, "
        f"rollout.max_response_tokens={response}"
    )
    return config.copy(copy_frozen=False).rollout(
        max_prompt_tokens=prompt, max_response_tokens=response
    )


def _context_tokens(model: Path | str) -> int | None:
    """How many tokens a model has positions for, where its folder says so."""
    if isinstance(model, str):
        return None
    told = json.loads((model / "config.json").read_text(encoding="utf-8"))
    told = {**told, **told.get("text_config", {})}
    # Scaled positions reach further, each kind in its own way.
    scaling = told.get("rope_scaling") or told.get("rope_parameters") or {}
    is_scaled = scaling.get("rope_type", scaling.get("type", "default")) != "default"
    return None if is_scaled else told.get("max_position_embeddings")


def _start(evaluation: PreparedEvaluation, first: DataSet, stack: ExitStack) -> EvaluationSampler:
    """Starts the engines, and Ray if it is needed; the stack ends them."""
    config, checkpoint = evaluation.config, evaluation.settings.checkpoint
    model: Path | str = evaluation.model
    if checkpoint is not None:
        model = export_checkpoint(
            checkpoint, Path(stack.enter_context(TemporaryDirectory(prefix="rllib-dapo-")))
        )
    if config.num_env_runners > 0:
        if not ray.is_initialized():
            ray.init(logging_level=logging.ERROR)
            stack.callback(ray.shutdown)
        stack.enter_context(worker_log(evaluation.folder / "workers.log"))
    config = with_environment(
        config.copy(copy_frozen=False).language_model(str(model)), first.environment
    )
    with output_into(evaluation.folder / "engine.log"):
        sampler = EvaluationSampler(config)
    stack.callback(sampler.close)
    return sampler


def _sample(
    evaluation: PreparedEvaluation,
    name: str,
    missing: list[list[int]],
    sampler: EvaluationSampler,
    progress: EvaluationProgress,
) -> None:
    parts, total = evaluation.parts(name), len(evaluation.questions[name])
    correct = responses = 0
    progress.begin(name, total=total, done=total - sum(len(request) for request in missing))
    started = time.monotonic()
    for groups in sampler.sample(missing):
        now = time.monotonic()
        parts.write(groups, seconds=now - started)
        started = now
        verdicts = [response.is_correct for group in groups for response in group.responses]
        correct, responses = correct + sum(map(bool, verdicts)), responses + len(verdicts)
        progress.advance(len(groups), correct=correct, responses=responses)


def _conclude(evaluation: PreparedEvaluation) -> EvaluationResult:
    config = evaluation.config
    found, seconds = {}, {}
    for name, questions in evaluation.questions.items():
        parts = evaluation.parts(name)
        found[name] = figures(
            parts.read(),
            num_samples=config.evaluation_samples_per_prompt,
            num_problems=len(questions),
            seed=config.seed or 0,
        )
        seconds[name] = parts.seconds()
        problems = evaluation.folder / "problems" / f"{name}.parquet"
        write_table(found[name].per_problem, problems, problem_columns(found[name]))
    result = EvaluationResult(figures=found, seconds=seconds)
    write_text(result_json(result), evaluation.folder / "summary.json")
    samples_picture(found, evaluation.folder / "accuracy.png")
    return result


def _env_name(env: Any) -> str:
    return env if isinstance(env, str) else f"{env.__module__}:{env.__qualname__}"
