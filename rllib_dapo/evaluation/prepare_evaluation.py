"""Everything that `rllib-dapo evaluate` checks and decides before an engine starts."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rllib_dapo.evaluation.evaluation_folder import (
    open_folder,
    settings_of_responses,
    weights_fingerprint,
)
from rllib_dapo.evaluation.evaluation_sampler import with_environment
from rllib_dapo.evaluation.evaluation_settings import EvaluationSettings
from rllib_dapo.evaluation.questions import Question, questions_fingerprint, read_questions
from rllib_dapo.evaluation.response_parts import ResponseParts
from rllib_dapo.findings import SettingsError
from rllib_dapo.learner.model_folder import MODULE_PATH
from rllib_dapo.metrics.estimators import MAX_SAMPLES
from rllib_dapo.models import resolve_model
from rllib_dapo.run.preflight import check_run
from rllib_dapo.run.quiet_output import kept_messages
from rllib_dapo.run.run_settings import RunSettings
from rllib_dapo.run.tune_settings import TuneSettings

if TYPE_CHECKING:
    from rllib_dapo.config.dapo_config import DAPOConfig

EVALUATIONS_FOLDER = "~/ray_results/evaluations"


@dataclass(frozen=True, kw_only=True, slots=True)
class PreparedEvaluation:
    """An evaluation that is ready to start or to continue.

    Attributes:
        settings: What the user asked for.
        config: The checked configuration, with a value for everything that was left open.
        model: Folder or hub name of the model; for a checkpoint, the model's folder in it.
        folder: Folder of the results.
        part_size: Number of problems that are sampled together.
        questions: Problems of each data set.
        is_resumed: Whether the folder held an evaluation with the same settings already.
        notes: What the user should know before the evaluation starts, one line each.
    """

    settings: EvaluationSettings
    config: DAPOConfig
    model: Path | str
    folder: Path
    part_size: int
    questions: Mapping[str, tuple[Question, ...]]
    is_resumed: bool
    notes: tuple[str, ...]

    def parts(self, name: str) -> ResponseParts:
        """The files of the responses to a data set."""
        return ResponseParts(
            self.folder / "responses" / name, self.questions[name], part_size=self.part_size
        )


def prepare_evaluation(
    settings: EvaluationSettings, *, output: Path | None, batch: int | None
) -> PreparedEvaluation:
    """Checks everything that an evaluation needs to start, and opens its folder.

    Args:
        settings: Settings from `read_evaluation`.
        output: Folder of the results; by default a new one in `EVALUATIONS_FOLDER`.
        batch: Number of problems that are sampled together; by default as many as fill the engine.

    Raises:
        SettingsError: For the first problem found; one line.
    """
    # An environment logs what it leaves out when it is first made.
    with kept_messages("rllib_dapo.envs") as notes:
        _check_as_training_does(settings)
    samples = settings.config.evaluation_samples_per_prompt
    if samples > MAX_SAMPLES:
        raise SettingsError(f"{settings.source}: k={samples} must be at most {MAX_SAMPLES}")
    if batch is not None and batch < 1:
        raise SettingsError(f"--batch {batch} must be at least 1")

    questions = {data_set.name: read_questions(data_set, notes) for data_set in settings.data_sets}
    if settings.checkpoint is None:
        model = resolve_model(settings.model)
    else:
        model = settings.checkpoint / MODULE_PATH
    config = _fit_lengths(settings.config, model, settings, notes)
    part_size = batch or max(1, config.max_concurrent_responses // samples)

    folder = (output or new_folder(settings)).expanduser().absolute()
    named = str(settings.checkpoint or model)
    is_resumed = open_folder(
        folder,
        settings_of_responses(
            config,
            model=named,
            weights=weights_fingerprint(model),
            part_size=part_size,
            data_sets=_described(settings, questions),
        ),
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


def new_folder(settings: EvaluationSettings) -> Path:
    """Path of the folder of an evaluation that starts now."""
    data_sets = [data_set.name for data_set in settings.data_sets[:3]]
    name = "-".join([Path(settings.model).name, *data_sets])
    return Path(EVALUATIONS_FOLDER).expanduser() / f"{name}_{datetime.now():%Y-%m-%d_%H-%M-%S}"


def opening_lines(evaluation: PreparedEvaluation) -> list[str]:
    """Says what is about to be sampled, and where the results will be."""
    config, settings = evaluation.config, evaluation.settings
    counts = ", ".join(
        f"{name} ({len(questions)} problems)" for name, questions in evaluation.questions.items()
    )
    lines = [
        f"evaluate: {settings.model} on {counts}: k={config.evaluation_samples_per_prompt}, "
        f"temperature {config.evaluation_temperature}, top_p {config.evaluation_top_p}, up to "
        f"{config.max_response_tokens} tokens, engine {config.engine}, seed {config.seed or 0}"
    ]

    if evaluation.is_resumed:
        parts = [evaluation.parts(name) for name in evaluation.questions]
        total = sum(len(part.requests) for part in parts)
        done = total - sum(len(part.missing()) for part in parts)
        lines.append(f"resuming: {done} of {total} parts are complete")

    return [*lines, f"results: {evaluation.folder}"]


def _check_as_training_does(settings: EvaluationSettings) -> None:
    """Makes the checks of a training run: values, environments, resources."""
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
            origins=settings.origins,
        )
    )

    # Training allows 0, for no evaluation.
    if settings.config.evaluation_num_prompts < 1:
        raise SettingsError(f"--limit {settings.config.evaluation_num_prompts} must be at least 1")


def _described(
    settings: EvaluationSettings, questions: Mapping[str, tuple[Question, ...]]
) -> dict[str, dict[str, Any]]:
    """Each data set as plain values that tell it apart from any other."""
    return {
        data_set.name: {
            "env": _env_name(data_set.environment.env),
            "env_config": dict(data_set.environment.env_config),
            "problems": len(questions[data_set.name]),
            "questions": questions_fingerprint(questions[data_set.name]),
        }
        for data_set in settings.data_sets
    }


def _fit_lengths(
    config: DAPOConfig, model: Path | str, settings: EvaluationSettings, notes: list[str]
) -> DAPOConfig:
    """Reduces lengths that the user left open to what fits the model's context.

    Raises:
        SettingsError: If the lengths that the user gave do not fit.
    """
    context = _context_tokens(model)
    prompt, response = config.max_prompt_tokens, config.max_response_tokens
    if context is None or prompt + response <= context:
        return config

    if "rollout.max_prompt_tokens" not in settings.is_given:
        prompt = min(prompt, context // 4)
    if "rollout.max_response_tokens" not in settings.is_given:
        response = context - prompt
    if prompt + response > context or response < 1:
        raise SettingsError(
            f"rollout.max_prompt_tokens={prompt} and rollout.max_response_tokens={response} are "
            f"together more than the {context} tokens of {settings.model}'s context: lower them"
        )

    notes.append(
        f"the context of {settings.model} has {context} tokens: using "
        f"rollout.max_prompt_tokens={prompt}, rollout.max_response_tokens={response}"
    )
    return config.copy(copy_frozen=False).rollout(
        max_prompt_tokens=prompt, max_response_tokens=response
    )


def _context_tokens(model: Path | str) -> int | None:
    """Number of positions of a model; None if its folder does not say, or for a hub name."""
    if isinstance(model, str):
        return None

    given = json.loads((model / "config.json").read_text(encoding="utf-8"))
    given = {**given, **given.get("text_config", {})}

    # Scaled positions reach further than the number says, each kind in its own way.
    scaling = given.get("rope_scaling") or given.get("rope_parameters") or {}
    is_scaled = scaling.get("rope_type", scaling.get("type", "default")) != "default"
    return None if is_scaled else given.get("max_position_embeddings")


def _env_name(env: Any) -> str:
    return env if isinstance(env, str) else f"{env.__module__}:{env.__qualname__}"
