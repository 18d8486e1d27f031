"""`rllib-dapo sample`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from rllib_dapo.commands.command_line import INTERRUPTED, SetOption, echo_lines, refusals

if TYPE_CHECKING:
    from rllib_dapo.evaluation.hand_sampling import TypedResponse


def sample(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL|CHECKPOINT",
            help="A model folder, a hub name, a built-in name, or a checkpoint (a folder or URI).",
        ),
    ],
    prompts: Annotated[
        list[str],
        typer.Argument(metavar="PROMPT...", help="Each is one message of the user."),
    ],
    num_responses: Annotated[int, typer.Option("-n", help="Number of responses to each.")] = 1,
    temperature: Annotated[
        float | None,
        typer.Option(help="Sampling temperature; 0 is greedy. [default: the run's, or 1.0]"),
    ] = None,
    top_p: Annotated[
        float | None, typer.Option(help="Nucleus of sampling. [default: the run's, or 1.0]")
    ] = None,
    max_tokens: Annotated[
        int | None, typer.Option(help="Longest response, in tokens. [default: the run's]")
    ] = None,
    seed: Annotated[
        int | None, typer.Option(help="Seed of sampling. [default: the run's, or 0]")
    ] = None,
    set_: SetOption = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print each response as a line of JSON, with its tokens.")
    ] = False,
) -> None:
    """Print what a model or checkpoint answers to a prompt."""
    from rllib_dapo.checkpoint.remote_copy import local_model
    from rllib_dapo.evaluation.hand_sampling import prepare_sampling, sample_prompts
    from rllib_dapo.findings import one_line
    from rllib_dapo.run.quiet_ray import silence

    silence()
    is_greedy = temperature == 0  # which no run trains with
    options = {
        "rollout.temperature": None if is_greedy else temperature,
        "rollout.top_p": top_p,
        "rollout.max_response_tokens": max_tokens,
        "debugging.seed": seed,
    }
    with refusals(ValueError, OSError), local_model(model) as place:
        prepared = prepare_sampling(
            model,
            prompts,
            num_responses=num_responses,
            is_greedy=is_greedy,
            overrides=set_ or [],
            options={name: value for name, value in options.items() if value is not None},
            place=place,
        )
        engine = prepared.config.engine
        echo_lines([*prepared.notes, f"starting {engine} with {model}"], err=True)
        try:
            responses = list(sample_prompts(prepared))
        except KeyboardInterrupt:
            raise typer.Exit(INTERRUPTED) from None
        except Exception as error:
            # An engine that does not start, for instance.
            typer.echo(f"failed: {type(error).__name__}: {one_line(error)}", err=True)
            raise typer.Exit(1) from None

    for line in _json_lines(responses) if as_json else _text_lines(responses):
        typer.echo(line)


def _json_lines(responses: list[TypedResponse]) -> Iterator[str]:
    for response in responses:
        yield json.dumps(response.as_content())


def _text_lines(responses: list[TypedResponse]) -> Iterator[str]:
    """The responses; where there are several, each below a line that says what it answers."""
    for response in responses:
        if len(responses) > 1:
            first = " ".join(response.prompt.text.split())[:60]
            length = len(response.completion.token_ids)
            yield f"--- {first} [{response.index + 1}, {length} tokens, {response.finish_reason}]"
        yield response.text
