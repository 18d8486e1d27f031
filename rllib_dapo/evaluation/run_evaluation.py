"""Runs a prepared evaluation: samples what is missing, then computes and writes the metrics."""

from __future__ import annotations

import logging
import time
import traceback
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

import ray

from rllib_dapo.checkpoint.export import export_checkpoint
from rllib_dapo.evaluation.accuracy_picture import accuracy_picture
from rllib_dapo.evaluation.atomic_files import write_table, write_text
from rllib_dapo.evaluation.data_set_metrics import data_set_metrics, problem_columns
from rllib_dapo.evaluation.evaluation_progress import EvaluationProgress
from rllib_dapo.evaluation.evaluation_sampler import EvaluationSampler, with_environment
from rllib_dapo.evaluation.evaluation_settings import DataSet
from rllib_dapo.evaluation.evaluation_summary import EvaluationResult, result_json
from rllib_dapo.evaluation.prepare_evaluation import PreparedEvaluation
from rllib_dapo.evaluation.response_parts import Row
from rllib_dapo.findings import one_line
from rllib_dapo.ray_internals import start_ray
from rllib_dapo.run.quiet_output import output_into
from rllib_dapo.run.worker_log import worker_log


def run_evaluation(
    evaluation: PreparedEvaluation, progress: EvaluationProgress
) -> EvaluationResult:
    """Samples the parts that are missing, then computes and writes the metrics of all.

    Args:
        evaluation: Evaluation from `prepare_evaluation`.
        progress: Progress display, which is updated after every response.

    Raises:
        ValueError: If no prompt of a data set fits `rollout.max_prompt_tokens`.
    """
    with ExitStack() as stack, progress:
        # No engine is started for an evaluation that is complete already.
        sampler: EvaluationSampler | None = None
        for data_set in evaluation.settings.data_sets:
            if evaluation.parts(data_set.name).missing():
                sampler = sampler or _start_engines(evaluation, data_set, stack)
                _sample(evaluation, data_set, sampler, progress)

    return _write_metrics(evaluation)


def failure_lines(evaluation: PreparedEvaluation, error: Exception) -> list[str]:
    """Says why an evaluation failed, the cause last, and writes the traceback to a file."""
    path = evaluation.folder / "error.txt"
    write_text("".join(traceback.format_exception(error)), path)
    return [f"the whole error: {path}", f"failed: {type(error).__name__}: {one_line(error)}"]


def _start_engines(
    evaluation: PreparedEvaluation, first: DataSet, stack: ExitStack
) -> EvaluationSampler:
    """Starts the engines, and Ray if it is needed; closing the stack stops them."""
    config, checkpoint = evaluation.config, evaluation.settings.checkpoint
    model: Path | str = evaluation.model
    if checkpoint is not None:
        exported = stack.enter_context(TemporaryDirectory(prefix="rllib-dapo-"))
        # As trained: the engine rounds weights to the type that it is asked for.
        model = export_checkpoint(checkpoint, Path(exported), dtype="float32", merge=None)

    if config.num_env_runners > 0:
        if not ray.is_initialized():
            start_ray(logging_level=logging.ERROR)
            stack.callback(ray.shutdown)
        stack.enter_context(worker_log(evaluation.folder / "workers.log"))

    config = config.copy(copy_frozen=False).language_model(str(model))
    with output_into(evaluation.folder / "engine.log"):
        sampler = EvaluationSampler(
            with_environment(config, first.environment),
            weights_version=evaluation.settings.of_run.weights_version,
        )
    stack.callback(sampler.close)
    return sampler


def _sample(
    evaluation: PreparedEvaluation,
    data_set: DataSet,
    sampler: EvaluationSampler,
    progress: EvaluationProgress,
) -> None:
    """Samples what is missing of a data set, and writes each response as soon as it is there."""
    parts = evaluation.parts(data_set.name)
    sampler.use(data_set.environment, kept=parts.kept())
    progress.begin(data_set.name, total=parts.num_responses, done=parts.num_done)

    last = time.monotonic()

    def seconds_since_last() -> float:
        nonlocal last
        before, last = last, time.monotonic()
        return last - before

    def keep(response: Row) -> None:
        if parts.add(response, seconds=seconds_since_last()):
            progress.advance([response], done=parts.num_done)

    for groups in sampler.sample(parts.missing(), keep):
        new = parts.complete(groups, seconds=seconds_since_last())
        progress.advance(new, done=parts.num_done)


def _write_metrics(evaluation: PreparedEvaluation) -> EvaluationResult:
    """Computes the metrics of all data sets from the responses on disk, and writes them."""
    config = evaluation.config
    metrics, seconds = {}, {}
    for name, questions in evaluation.questions.items():
        parts = evaluation.parts(name)
        metrics[name] = data_set_metrics(
            parts.read(),
            num_samples=config.evaluation_samples_per_prompt,
            num_problems=len(questions),
            seed=config.seed or 0,
        )
        seconds[name] = parts.seconds()

        path = evaluation.folder / "problems" / f"{name}.parquet"
        write_table(metrics[name].per_problem, path, problem_columns(metrics[name]))

    result = EvaluationResult(metrics=metrics, seconds=seconds)
    write_text(result_json(result), evaluation.folder / "summary.json")
    accuracy_picture(metrics, evaluation.folder / "accuracy.png")
    return result
