"""Everything that `rllib-dapo evaluate` checks and decides before an engine starts."""

from __future__ import annotations

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
from rllib_dapo.evaluation.evaluation_settings import K_SETTING, EvaluationSettings
from rllib_dapo.evaluation.questions import Question, questions_fingerprint, read_questions
from rllib_dapo.evaluation.response_parts import ResponseParts
from rllib_dapo.findings import SettingsError, one_line
from rllib_dapo.learner.adapter_folder import ADAPTER_CONFIG
from rllib_dapo.learner.model_folder import MODULE_PATH
from rllib_dapo.metrics.estimators import MAX_SAMPLES
from rllib_dapo.model_check.lora_modules import IS_ADAPTER
from rllib_dapo.model_check.model_report import refuse
from rllib_dapo.model_check.sizes import Lengths, check_sizes, position_limit, read_text_config
from rllib_dapo.models import resolve_model
from rllib_dapo.rollout.sampling_settings import evaluation_options
from rllib_dapo.run.preflight import check_run
from rllib_dapo.run.quiet_output import kept_messages
from rllib_dapo.run.run_settings import RunSettings
from rllib_dapo.run.tune_settings import TuneSettings

if TYPE_CHECKING:
    from rllib_dapo.config.dapo_config import DAPOConfig

_TOP_P = "evaluation.evaluation_top_p"
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
            self.folder / "responses" / name,
            self.questions[name],
            part_size=self.part_size,
            num_samples=self.config.evaluation_samples_per_prompt,
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
    if batch is not None and batch < 1:
        raise SettingsError(f"--batch {batch} must be at least 1")
    # An environment logs what it leaves out when it is first made.
    with kept_messages("rllib_dapo.envs") as notes:
        check_as_training_does(settings)
    config = _checked_samples(settings, notes)

    questions = {data_set.name: read_questions(data_set, notes) for data_set in settings.data_sets}
    model = find_model(settings)
    config = fit_lengths(config, model, settings, notes)
    notes += _compared_with_run(settings, config)
    part_size = batch or max(
        1, config.max_concurrent_responses // config.evaluation_samples_per_prompt
    )

    folder = (output or new_folder(settings)).expanduser().absolute()
    is_resumed = open_folder(
        folder,
        settings_of_responses(
            config,
            model=_stable_name(settings, model),
            weights=weights_fingerprint(model),
            weights_version=settings.of_run.weights_version,
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


def find_model(settings: EvaluationSettings) -> Path | str:
    """Folder or hub name of the model; for a checkpoint, the model's folder in it.

    Raises:
        SettingsError: If it is an adapter alone.
    """
    if settings.checkpoint is not None:
        return settings.checkpoint / MODULE_PATH
    model = resolve_model(settings.place)
    if (Path(model) / ADAPTER_CONFIG).is_file():
        raise SettingsError(f"{settings.place}: {IS_ADAPTER}")
    return model


def new_folder(settings: EvaluationSettings) -> Path:
    """Path of the folder of an evaluation that starts now."""
    data_sets = [data_set.name for data_set in settings.data_sets[:3]]
    name = "-".join([Path(settings.model.rstrip("/")).name, *data_sets])
    return Path(EVALUATIONS_FOLDER).expanduser() / f"{name}_{datetime.now():%Y-%m-%d_%H-%M-%S}"


def opening_lines(evaluation: PreparedEvaluation) -> list[str]:
    """Says what is about to be sampled, and where the results will be."""
    config, settings = evaluation.config, evaluation.settings
    counts = ", ".join(
        f"{name} ({len(questions)} problems)" for name, questions in evaluation.questions.items()
    )
    drawn = f"temperature {config.evaluation_temperature}, top_p {config.evaluation_top_p}"
    if not config.evaluation_temperature:
        drawn = "temperature 0 (always the likeliest token)"
    options = evaluation_options(config).given()
    drawn += "".join(f", {name} {value}" for name, value in options.items())
    lines = [
        f"evaluate: {settings.model} on {counts}: k={config.evaluation_samples_per_prompt}, "
        f"{drawn}, up to {config.max_response_tokens} tokens, engine {config.engine}, seed "
        f"{config.seed or 0}"
    ]

    if evaluation.is_resumed:
        lines.append(f"resuming: {kept_responses(evaluation)} responses are there already")

    return [*lines, f"results: {evaluation.folder}"]


def kept_responses(evaluation: PreparedEvaluation) -> str:
    """How many responses are on disk, as `41 of 96`."""
    parts = [evaluation.parts(name) for name in evaluation.questions]
    return f"{sum(p.num_done for p in parts)} of {sum(p.num_responses for p in parts)}"


def check_as_training_does(settings: EvaluationSettings) -> None:
    """Makes the checks of a training run: values, environments, resources."""
    configs = tuple(
        with_environment(settings.config, data_set.environment) for data_set in settings.data_sets
    )
    run = RunSettings(
        name=settings.model,
        source=settings.source,
        config=configs[0],
        checked=configs,
        stop={},
        tune=TuneSettings(),
        data_hint=settings.data_hint,
        origins=settings.origins,
    )
    check_run(run)


def _checked_samples(settings: EvaluationSettings, notes: list[str]) -> DAPOConfig:
    """The configuration with a number of responses to each problem that makes sense.

    Raises:
        SettingsError: If somebody has asked for another number.
    """
    config = settings.config
    samples, source = config.evaluation_samples_per_prompt, settings.given.get(K_SETTING)
    if samples > MAX_SAMPLES:
        raise SettingsError(f"{source}: k={samples} must be at most {MAX_SAMPLES}")
    if config.evaluation_temperature:
        return config

    if settings.is_asked_for(_TOP_P):
        notes.append(f"{settings.given[_TOP_P]} does nothing at temperature 0")
    if samples == 1:
        return config
    if settings.is_asked_for(K_SETTING):
        raise SettingsError(
            f"{source}: k={samples} with temperature 0 would give {samples} equal responses to "
            "each problem: use --k 1, or a temperature above 0"
        )
    notes.append("at temperature 0 all responses to a problem are equal: each is asked once, k=1")
    return config.copy(copy_frozen=False).evaluation(evaluation_samples_per_prompt=1)


def _compared_with_run(settings: EvaluationSettings, config: DAPOConfig) -> list[str]:
    """What differs from the run that the model is from; what is assumed where nobody knows."""
    of_run = settings.of_run
    if of_run.source:
        told = ", ".join(settings.different)
        return [*of_run.notes, *([f"other than in the run: {told}"] if told else [])]

    values = {
        K_SETTING: ("k", config.evaluation_samples_per_prompt),
        "evaluation.evaluation_temperature": ("temperature", config.evaluation_temperature),
        "evaluation.evaluation_top_p": ("top_p", config.evaluation_top_p),
        "language_model.dtype": ("dtype", config.model_dtype),
        "rollout.engine": ("engine", config.engine),
        "rollout.max_prompt_tokens": ("max_prompt_tokens", config.max_prompt_tokens),
        "rollout.max_response_tokens": ("max_response_tokens", config.max_response_tokens),
        "debugging.seed": ("seed", config.seed or 0),
    }
    assumed = [
        f"{name} {value}"
        for setting, (name, value) in values.items()
        if setting not in settings.given
    ]
    what = "checkpoint" if settings.checkpoint else "model"
    told = f"{settings.model}: this {what} does not describe a run, so these are assumed: "
    return [f"{told}{', '.join(assumed)}"] if assumed else []


def _stable_name(settings: EvaluationSettings, model: Path | str) -> str:
    """The name by which an interrupted evaluation of the same model is known again."""
    if settings.place != settings.model:
        return settings.model  # a URI; the copy on this machine has another name each time
    return str(settings.checkpoint or model)


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


def fit_lengths(
    config: DAPOConfig, model: Path | str, settings: EvaluationSettings, notes: list[str]
) -> DAPOConfig:
    """Reduces lengths that the user left open to what fits the model's context.

    Raises:
        SettingsError: If the lengths that the user gave do not fit.
    """
    if isinstance(model, str):
        return config  # a hub name: its files are not here yet
    context = position_limit(read_text_config(model))
    prompt, response = config.max_prompt_tokens, config.max_response_tokens
    if context is not None and prompt + response > context:
        if "rollout.max_prompt_tokens" not in settings.given:
            prompt = min(prompt, context // 4)
        if "rollout.max_response_tokens" not in settings.given:
            response = max(1, context - prompt)

    lengths = Lengths(max_prompt_tokens=prompt, max_response_tokens=response)
    try:
        refuse(check_sizes(model, lengths), model=settings.model)
    except ValueError as error:
        raise SettingsError(one_line(error)) from error
    if (prompt, response) == (config.max_prompt_tokens, config.max_response_tokens):
        return config

    notes.append(
        f"the context of {settings.model} has {context} tokens: using "
        f"rollout.max_prompt_tokens={prompt}, rollout.max_response_tokens={response}"
    )
    return config.copy(copy_frozen=False).rollout(
        max_prompt_tokens=prompt, max_response_tokens=response
    )


def _env_name(env: Any) -> str:
    return env if isinstance(env, str) else f"{env.__module__}:{env.__qualname__}"
