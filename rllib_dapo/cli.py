"""The command `rllib-dapo`."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from rllib_dapo.findings import SettingsError
from rllib_dapo.run.yaml_file import parse_override, put

_INTERRUPTED = 130  # as shells say it of a command ended by Ctrl-C

app = typer.Typer(
    name="rllib-dapo",
    help="DAPO (arXiv 2503.14476) on Ray RLlib: train language models with reinforcement learning.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


def main() -> None:
    """Entry point of the console script."""
    app()


@app.command()
def train(
    file: Annotated[
        str, typer.Argument(help="A run file, or the name of a preset (see `rllib-dapo presets`).")
    ],
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="NAME=VALUE",
            help="Overrides a setting: training.lr=1e-5. May be repeated.",
        ),
    ] = None,
    storage: Annotated[
        str,
        typer.Option(
            metavar="DIR", help="Where runs are kept: a folder, or a URI every machine can reach."
        ),
    ] = "~/ray_results",
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the newest run of this name.")
    ] = False,
) -> None:
    """Train as a run file says. Search spaces in it make the run a sweep."""
    from rllib_dapo.run import preflight, tuner
    from rllib_dapo.run import run_settings as settings
    from rllib_dapo.run.summary import failure_lines, is_interrupted, opening_line, summary_lines

    tuner.silence()
    try:
        run_settings = settings.read_settings(find_run_file(file), set_ or [])
        preflight.check_run(run_settings)
        path = (
            tuner.newest_run(run_settings.name, storage)
            if resume
            else tuner.new_run(run_settings.name, storage)
        )
    except SettingsError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(2) from None
    typer.echo(opening_line(run_settings))
    for warning in preflight.warnings(run_settings):
        typer.echo(warning, err=True)
    typer.echo(f"results: {path}")
    outcome = tuner.resume(run_settings, path) if resume else tuner.run(run_settings, path)
    for line in summary_lines(outcome, run_settings):
        typer.echo(line)
    failures = failure_lines(outcome)
    for line in failures:
        typer.echo(line, err=True)
    raise typer.Exit(1 if failures else _INTERRUPTED if is_interrupted(outcome) else 0)


@app.command()
def evaluate(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL|CHECKPOINT",
            help="A model folder, hub or built-in name, or a run's checkpoint.",
        ),
    ],
    env: Annotated[
        list[str] | None,
        typer.Option(metavar="ID", help="An environment, or module:Class. May be repeated."),
    ] = None,
    file: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="A run file or preset, with `datasets` for several data sets in one go.",
        ),
    ] = None,
    k: Annotated[
        int | None, typer.Option("--k", help="Responses to each problem. [default: 32]")
    ] = None,
    temperature: Annotated[float | None, typer.Option(help="Of sampling. [default: 1.0]")] = None,
    top_p: Annotated[float | None, typer.Option(help="Of sampling. [default: 0.7]")] = None,
    limit: Annotated[
        int | None, typer.Option(help="At most so many problems of each data set.")
    ] = None,
    seed: Annotated[
        int | None, typer.Option(help="Of sampling and intervals. [default: 0]")
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="NAME=VALUE",
            help="A setting: environment.env_config.path=FILE. May be repeated.",
        ),
    ] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write the figures there.")
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Responses and figures; an interrupted evaluation there goes on."
        ),
    ] = None,
    num_env_runners: Annotated[
        int | None,
        typer.Option(help="Engines side by side, on Ray; 0: one in this process. [default: 0]"),
    ] = None,
    batch: Annotated[
        int | None,
        typer.Option(
            help="Problems sampled and kept together. [default: as many as fill the engine]"
        ),
    ] = None,
) -> None:
    """Measure avg@k, pass@k and maj@k of a model or checkpoint, on one data set or several."""
    from rllib_dapo.evaluation.atomic_files import write_text
    from rllib_dapo.evaluation.evaluation_progress import EvaluationProgress
    from rllib_dapo.evaluation.evaluation_settings import read_evaluation
    from rllib_dapo.evaluation.evaluation_summary import result_json, table_lines
    from rllib_dapo.evaluation.prepare_evaluation import opening_lines, prepare_evaluation
    from rllib_dapo.evaluation.run_evaluation import failure_lines, run_evaluation
    from rllib_dapo.run import tuner

    tuner.silence()
    options = {
        "evaluation.evaluation_samples_per_prompt": k,
        "evaluation.evaluation_temperature": temperature,
        "evaluation.evaluation_top_p": top_p,
        "evaluation.evaluation_num_prompts": limit,
        "debugging.seed": seed,
        "env_runners.num_env_runners": num_env_runners,
    }
    try:
        settings = read_evaluation(
            model,
            file=None if file is None else find_run_file(file),
            envs=env or [],
            overrides=set_ or [],
            options={name: value for name, value in options.items() if value is not None},
        )
        prepared = prepare_evaluation(settings, output=output, batch=batch)
    except SettingsError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(2) from None
    for note in prepared.notes:
        typer.echo(note)
    for line in opening_lines(prepared):
        typer.echo(line)
    try:
        result = run_evaluation(prepared, EvaluationProgress())
    except KeyboardInterrupt:
        typer.echo(
            f"interrupted: the same command with --output {prepared.folder} goes on where it stopped",
            err=True,
        )
        raise typer.Exit(_INTERRUPTED) from None
    except (
        Exception
    ) as error:  # an engine that does not start, say: one line here, and all of it in a file
        for line in failure_lines(prepared, error):
            typer.echo(line, err=True)
        raise typer.Exit(1) from None
    for line in table_lines(result):
        typer.echo(line)
    if json_file is not None:
        write_text(result_json(result), json_file.expanduser())


@app.command()
def report(
    run_dir: Annotated[
        str, typer.Argument(metavar="RUN_DIR", help="A run's folder or URI, as `train` names it.")
    ],
    output: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The page. [default: report.html in the run's folder]"),
    ] = None,
    json_file: Annotated[
        Path | None,
        typer.Option("--json", metavar="FILE", help="Write all the page's figures there too."),
    ] = None,
    csv_file: Annotated[
        Path | None,
        typer.Option(
            "--csv", metavar="FILE", help="Write a table there too, one row for each trial."
        ),
    ] = None,
    metric: Annotated[
        str | None,
        typer.Option(help="By which trials are compared. [default: the run's `tune.metric`]"),
    ] = None,
    mode: Annotated[
        Literal["max", "min"], typer.Option(help="Whether more of the metric is better, or less.")
    ] = "max",
) -> None:
    """Make one HTML page of a run or sweep, which opens without a network."""
    from rllib_dapo.reporting.write_report import write_report
    from rllib_dapo.run import tuner

    tuner.silence()
    try:
        page = write_report(
            run_dir,
            output=output,
            json_file=json_file,
            csv_file=csv_file,
            metric=metric,
            mode=mode,
            say=typer.echo,
        )
    except (SettingsError, OSError) as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(2) from None
    typer.echo(f"report: {page}")


@app.command()
def export(
    checkpoint: Annotated[
        Path, typer.Argument(help="A checkpoint of a run, as `train` names it at its end.")
    ],
    folder: Annotated[Path, typer.Argument(help="The model's new folder.")],
) -> None:
    """Write a checkpoint's model as a Hugging Face folder, which transformers and vLLM load."""
    from rllib_dapo.checkpoint.export import export_checkpoint
    from rllib_dapo.run import tuner

    tuner.silence()
    try:
        written = export_checkpoint(checkpoint, folder)
    except (ValueError, OSError) as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(2) from None
    typer.echo(f"model: {written}")


@app.command()
def dashboard(
    address: Annotated[
        str | None,
        typer.Option(
            metavar="HOST:PORT", help="Of a Ray's head. [default: the one that runs here]"
        ),
    ] = None,
    prometheus: Annotated[
        str, typer.Option(metavar="URL", help="Where Prometheus is, or will be.")
    ] = "http://localhost:9090",
    json_file: Annotated[
        Path | None,
        typer.Option(
            "--json", metavar="FILE", help="Only write Grafana's JSON there, to be imported."
        ),
    ] = None,
) -> None:
    """Prepare Prometheus and Grafana for the Ray that runs here, and say how to look at it."""
    from rllib_dapo.dashboards import provision
    from rllib_dapo.run import tuner

    tuner.silence()
    if json_file is not None:
        provision.write_json(json_file.expanduser())
        typer.echo(f"Grafana dashboard: {json_file}")
        return
    try:
        session = provision.find_session(address)
    except SettingsError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(2) from None
    written = provision.provision(session, prometheus_url=prometheus)
    for line in [
        *provision.address_lines(session),
        *provision.start_lines(written, prometheus_url=prometheus),
    ]:
        typer.echo(line)


@app.command()
def replay(
    recording: Annotated[
        Path,
        typer.Argument(
            help="Of a run with rollout.record_groups: its folder, or that of one of its trials."
        ),
    ],
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="NAME=VALUE",
            help="Another setting: training.epsilon_high=0.4, or [0.2, 0.28, 0.4] for a row of each. May be repeated.",
        ),
    ] = None,
    steps: Annotated[
        int | None, typer.Option(min=1, help="Only the first so many training steps.")
    ] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write all figures there.")
    ] = None,
    csv_file: Annotated[
        Path | None,
        typer.Option("--csv", metavar="FILE", help="Write the figures of every step there."),
    ] = None,
) -> None:
    """Make the updates of a recorded run again under other settings, without a sampler, and compare."""
    from rllib_dapo.replay import replay_command as replaying
    from rllib_dapo.run import tuner
    from rllib_dapo.run.delayed_lines import DelayedLines

    tuner.silence()
    try:
        settings = replaying.read_replay(recording, set_ or [], limit=steps)
    except SettingsError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(2) from None
    typer.echo(
        f"{recording}: {len(settings.steps)} training steps, {len(settings.configs)} settings"
    )
    rows = list(replaying.run_replay(settings, DelayedLines(typer.echo)))
    for line in replaying.table_lines(rows):
        typer.echo(line)
    for file, write in ((json_file, replaying.write_json), (csv_file, replaying.write_csv)):
        if file is not None:
            write(rows, file.expanduser())


@app.command("check-env")
def check_env(
    env: Annotated[
        str,
        typer.Argument(metavar="ID|module:Class", help="A Gymnasium id, or a class of your own."),
    ],
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="NAME=VALUE",
            help="A setting: environment.env_config.digits=3. May be repeated.",
        ),
    ] = None,
) -> None:
    """Check that an environment keeps the rules that training relies on, and list its faults."""
    from rllib_dapo.env_check.check_environment import check_environment
    from rllib_dapo.run import tuner
    from rllib_dapo.run.environments import resolve_environment

    tuner.silence()
    try:
        found = check_environment(resolve_environment(env), _env_config(set_ or []))
    except SettingsError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(2) from None
    for finding in found:
        typer.echo(str(finding), err=True)
    count = "1 fault" if len(found) == 1 else f"{len(found) or 'no'} faults"
    typer.echo(f"{env}: {count} found")
    raise typer.Exit(1 if found else 0)


@app.command()
def prepare(
    source: Annotated[
        Path,
        typer.Argument(metavar="IN", help="A .parquet, .jsonl, .json or .csv file of problems."),
    ],
    target: Annotated[
        Path, typer.Argument(metavar="OUT", help="The new file, .jsonl or .parquet.")
    ],
    question: Annotated[
        list[str] | None, typer.Option(help="A column of the question; may be repeated.")
    ] = None,
    answer: Annotated[
        list[str] | None, typer.Option(help="A column of the answer; may be repeated.")
    ] = None,
) -> None:
    """Write the problems whose answers are integers or can be made into one, as the paper did with its data."""
    from rllib_dapo.envs.integer_answers import prepare as prepare_file

    named = {"question": question, "answer": answer}
    try:
        done = prepare_file(
            source, target, columns={side: names for side, names in named.items() if names}
        )
    except (ValueError, OSError) as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(2) from None
    typer.echo(
        f"{target}: {done.kept} as they are, {done.transformed} made to ask for an integer; {done.dropped} left out"
    )


@app.command()
def presets() -> None:
    """List the run files that come with this package."""
    for name, path in preset_files().items():
        first = path.read_text(encoding="utf-8").partition("\n")[0]
        typer.echo(f"{name:20} {first.removeprefix('#').strip()}")


def preset_files() -> dict[str, Path]:
    """The run files that come with this package, by name."""
    folder = Path(str(files("rllib_dapo.tune_configs")))
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def find_run_file(name: str) -> Path:
    """Finds a run file: as a path from here, else among the presets.

    Args:
        name: `runs/mine.yaml`, `tiny_arithmetic` or `tune_configs/tiny_arithmetic.yaml`.

    Raises:
        SettingsError: If there is none.
    """
    from rllib_dapo.findings import suggest

    path, known = Path(name).expanduser(), preset_files()
    if path.is_file():
        return path
    preset = path.name.removesuffix(".yaml")  # other dots are part of a name
    if path.parent in (Path(), Path("tune_configs")) and preset in known:
        return known[preset]
    raise SettingsError(
        f"{name}: no such file, nor a preset{suggest(preset, known)}; presets: {', '.join(known)}"
    )


def _env_config(overrides: list[str]) -> dict[str, Any]:
    """The environment's settings out of texts `env_config.name=value`, or `environment.env_config.name=value`."""
    tree: dict[str, Any] = {"env_config": {}}
    for text in overrides:
        name, value = parse_override(text)
        name = name.removeprefix("environment.")
        if not name.startswith("env_config."):
            raise SettingsError(f"--set {text}: write it as --set env_config.name=value")
        tree = put(tree, name, value)
    return dict(tree["env_config"])
