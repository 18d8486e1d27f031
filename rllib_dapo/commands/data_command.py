"""`rllib-dapo data`."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from rllib_dapo.commands.command_line import SetOption, echo_lines, refusals


def data(
    files: Annotated[
        list[str],
        typer.Argument(
            metavar="FILE...",
            help="A file, folder or pattern such as 'train-*.parquet', or a data set as "
            "'{dataset: openai/gsm8k, name: main}'.",
        ),
    ],
    model: Annotated[
        str, typer.Option(metavar="NAME", help="Model whose tokenizer and template are used.")
    ] = "tiny",
    columns: Annotated[
        list[str] | None,
        typer.Option(
            metavar="SIDE=COLUMN",
            help="Column of a side: question, answer or system. May be repeated.",
        ),
    ] = None,
    set_: SetOption = None,
    show: Annotated[int, typer.Option(min=0, help="Number of prompts to show.")] = 10,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show what a file of problems holds: columns, rows left out, prompts, lengths and answers.

    Settings of the environment are given as `--set env_config.answer_rule=boxed`, and those of the
    run as `--set rollout.max_prompt_tokens=1024`.
    """
    from rllib_dapo.data_report.data_lines import data_lines
    from rllib_dapo.data_report.data_request import data_request
    from rllib_dapo.data_report.describe_data import describe_data
    from rllib_dapo.run.model_settings import model_settings
    from rllib_dapo.run.quiet_ray import silence

    silence()
    with refusals(ValueError, OSError):
        env_config, others = _split(set_ or [])
        request = data_request(files, columns or [], env_config)
        config, _ = model_settings(model, others)
        description = describe_data(
            request,
            _tokenizer(model, config),
            model=model,
            max_prompt_tokens=config.max_prompt_tokens,
            system_prompt=getattr(config, "system_prompt", None) or "",
            shown=show,
            say=lambda line: typer.echo(f"{line} ...", err=True),
        )

    if as_json:
        import json
        from dataclasses import asdict

        typer.echo(json.dumps(asdict(description), indent=2))
    else:
        echo_lines(data_lines(description))


def _split(overrides: list[str]) -> tuple[dict[str, Any], list[str]]:
    """The environment's settings, and the other overrides as they are."""
    from rllib_dapo.run.yaml_file import parse_override, put

    tree: dict[str, Any] = {"env_config": {}}
    others = []
    for text in overrides:
        name, value = parse_override(text)
        name = name.removeprefix("environment.")
        if name.startswith("env_config."):
            tree = put(tree, name, value)
        else:
            others.append(text)
    return dict(tree["env_config"]), others


def _tokenizer(model: str, config: Any) -> Any:
    """The model's tokenizer; that of a tiny model without making the model."""
    from rllib_dapo.models import load_tokenizer, resolve_model
    from rllib_dapo.models.model_names import TINY_MODELS, tiny_recipe

    if model in TINY_MODELS:
        from rllib_dapo.models.template_settings import use_template_settings

        tokenizer = tiny_recipe(model).tokenizer()
        use_template_settings(
            tokenizer,
            chat_template=config.chat_template,
            chat_template_kwargs=config.chat_template_kwargs,
        )
        return tokenizer
    return load_tokenizer(resolve_model(model), **config.tokenizer_settings)
