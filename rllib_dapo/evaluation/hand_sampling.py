"""Samples responses to a few prompts that somebody has typed, under the settings of the run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from rllib_dapo.checkpoint.export import export_checkpoint
from rllib_dapo.core.types import FinishReason
from rllib_dapo.evaluation.evaluation_settings import EvaluationSettings, read_evaluation
from rllib_dapo.evaluation.prepare_evaluation import (
    check_as_training_does,
    find_model,
    fit_lengths,
)
from rllib_dapo.findings import SettingsError
from rllib_dapo.models import load_tokenizer, prompt_token_ids, response_reader
from rllib_dapo.rollout.engine import Completion, Sampling
from rllib_dapo.rollout.make_engine import make_engine
from rllib_dapo.rollout.sampling_seed import EVALUATION_STREAM, sampling_seed
from rllib_dapo.run.quiet_output import output_into
from rllib_dapo.threads import set_num_threads

if TYPE_CHECKING:
    from rllib_dapo.config.dapo_config import DAPOConfig

# The checks of a run want an environment. Prompts that are typed come from none.
_ENVIRONMENT = "rllib_dapo/Arithmetic-v0"


@dataclass(frozen=True, kw_only=True, slots=True)
class TypedPrompt:
    """A prompt as the model reads it.

    Attributes:
        text: What was typed: one message of the user.
        token_ids: The same in the model's chat template, after the run's system prompt.
    """

    text: str
    token_ids: tuple[int, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class PreparedSampling:
    """Everything that was checked before an engine starts.

    Attributes:
        settings: What was asked for.
        config: The checked configuration, with lengths that fit the model.
        model: Folder or hub name of the model; for a checkpoint, the model's folder in it.
        prompts: At least one.
        sampling: How responses are drawn.
        notes: What the user should know, one line each.
    """

    settings: EvaluationSettings
    config: DAPOConfig
    model: Path | str
    prompts: tuple[TypedPrompt, ...]
    sampling: Sampling
    notes: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class TypedResponse:
    """One response to a prompt.

    Attributes:
        prompt: The prompt.
        index: Its place among the responses to the prompt.
        text: What an environment would be given.
        completion: The tokens, and their log-probabilities.
    """

    prompt: TypedPrompt
    index: int
    text: str
    completion: Completion

    @property
    def finish_reason(self) -> FinishReason:
        """Whether the model ended the response, or the limit did."""
        return self.completion.finish_reason

    def as_content(self) -> dict[str, Any]:
        """The response as what JSON can hold."""
        return {
            "prompt": self.prompt.text,
            "index": self.index,
            "response": self.text,
            "finish_reason": self.finish_reason,
            "prompt_token_ids": list(self.prompt.token_ids),
            "token_ids": self.completion.token_ids.tolist(),
            "logprobs": self.completion.logprobs.tolist(),
        }


def prepare_sampling(
    model: str,
    prompts: Sequence[str],
    *,
    num_responses: int,
    is_greedy: bool = False,
    overrides: Sequence[str] = (),
    options: Mapping[str, Any] | None = None,
    place: Path | None = None,
) -> PreparedSampling:
    """Checks everything that sampling needs to start.

    Args:
        model: A checkpoint, a model folder, a hub name or a built-in name.
        prompts: Texts, each one message of the user.
        num_responses: Responses to each.
        is_greedy: Whether each token is the likeliest one, whatever the temperature of the run.
        overrides: Texts `dotted.name=value`, as after `--set`.
        options: Settings by dotted name.
        place: Folder on this machine that has what `model` names, where that is a URI.

    Raises:
        SettingsError: For the first problem found; one line.
    """
    if num_responses < 1:
        raise SettingsError(f"-n {num_responses}: must be at least 1")
    if is_greedy and num_responses > 1:
        raise SettingsError(
            f"-n {num_responses} with --temperature 0 would give {num_responses} equal responses: "
            "use -n 1, or a temperature above 0"
        )
    settings = read_evaluation(
        model, envs=[_ENVIRONMENT], overrides=overrides, options=options, place=place
    )
    check_as_training_does(settings)
    found = find_model(settings)
    notes = list(settings.of_run.notes)
    config = fit_lengths(settings.config, found, settings, notes)

    return PreparedSampling(
        settings=settings,
        config=config,
        model=found,
        prompts=tuple(_typed_prompt(text, found, config) for text in prompts),
        sampling=Sampling(
            num_responses=num_responses,
            max_tokens=config.max_response_tokens,
            temperature=0.0 if is_greedy else config.temperature,
            top_p=config.top_p,
        ),
        notes=tuple(notes),
    )


def sample_prompts(prepared: PreparedSampling) -> Iterator[TypedResponse]:
    """Starts an engine in this process and samples.

    Args:
        prepared: What `prepare_sampling` returned.

    Yields:
        The responses, in the order of the prompts.
    """
    config, prompts = prepared.config, prepared.prompts
    read = response_reader(
        load_tokenizer(prepared.model, trust_remote_code=config.trust_remote_code),
        skip_special_tokens=config.skip_special_tokens,
    )
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="rllib-dapo-")))
        model = prepared.model
        if prepared.settings.checkpoint is not None:
            # As trained, adapters merged: the engine rounds weights to the type it is asked for.
            checkpoint = prepared.settings.checkpoint
            model = export_checkpoint(checkpoint, folder / "model", dtype="float32", merge=None)

        set_num_threads(config.num_threads, shared_by=1)
        with output_into(folder / "engine.log"):
            engine = make_engine(
                config.engine,
                model=str(model),
                dtype=config.model_dtype,
                trust_remote_code=config.trust_remote_code,
                **config.own_engine_settings,
            )
        stack.enter_context(closing(engine))
        groups = engine.generate(
            [prompt.token_ids for prompt in prompts],
            sampling=prepared.sampling,
            seeds=[
                sampling_seed(config.seed or 0, EVALUATION_STREAM, 0, number)
                for number in range(len(prompts))
            ],
        )

    for prompt, group in zip(prompts, groups, strict=True):
        for index, one in enumerate(group):
            text = read(one.token_ids.tolist())
            yield TypedResponse(prompt=prompt, index=index, text=text, completion=one)


def _typed_prompt(text: str, model: Path | str, config: DAPOConfig) -> TypedPrompt:
    tokenizer = load_tokenizer(model, trust_remote_code=config.trust_remote_code)
    try:
        ids = prompt_token_ids(tokenizer, text, system_prompt=config.system_prompt)
    except ValueError as error:
        raise SettingsError(f"the prompt {text[:60]!r}: {error}") from error

    if not 0 < len(ids) <= config.max_prompt_tokens:
        raise SettingsError(
            f"the prompt {text[:60]!r} has {len(ids)} tokens, and rollout.max_prompt_tokens="
            f"{config.max_prompt_tokens}: raise that with --set, or shorten the prompt"
        )
    return TypedPrompt(text=text, token_ids=tuple(ids))
