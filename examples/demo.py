"""Train a tiny model to add, in minutes; leaves a report, a checkpoint and a model in outputs/demo.

    python examples/demo.py                               # `make demo` runs this
    python examples/demo.py training.epsilon_high=0.2     # arguments override settings

It does what `rllib-dapo train tiny_arithmetic` does, and shows what the trained model answers.
"""

from __future__ import annotations

import json
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import torch

from rllib_dapo.checkpoint.export import export_checkpoint
from rllib_dapo.findings import SettingsError
from rllib_dapo.models import load_causal_lm, load_tokenizer, prompt_token_ids
from rllib_dapo.reporting.demo_picture import curves_picture
from rllib_dapo.reporting.write_report import write_report
from rllib_dapo.rollout.make_environment import make_environment
from rllib_dapo.run import preflight, tuner
from rllib_dapo.run.failures import failure_lines
from rllib_dapo.run.quiet_ray import silence
from rllib_dapo.run.run_settings import RunSettings, read_settings
from rllib_dapo.run.summary import evaluations, is_interrupted

REPO = Path(__file__).resolve().parents[1]
RUN_FILE = REPO / "tune_configs" / "tiny_arithmetic.yaml"
OUTPUTS = REPO / "outputs" / "demo"

NEXT = """
Three things to try next:
  # without Clip-Higher
  .venv/bin/rllib-dapo train tiny_arithmetic --set training.epsilon_high=0.2
  # a sweep over both clip bounds, about six minutes
  .venv/bin/rllib-dapo train epsilon_grid
  # the same from Python
  .venv/bin/python examples/quick_start.py
"""


def main(overrides: list[str]) -> int:
    began = time.monotonic()
    silence()
    try:
        settings = read_settings(RUN_FILE, overrides)
        preflight.check_run(settings)
    except SettingsError as error:
        print(error, file=sys.stderr)
        return 2

    remove_earlier_outputs()
    print(
        "A tiny language model that can add, but hedges, learns with DAPO to commit to an answer: "
        "this takes minutes on two CPU cores."
    )
    outcome = tuner.run(settings, str(OUTPUTS / "run"))
    failures = failure_lines(outcome)
    if failures:
        print(*failures, sep="\n", file=sys.stderr)
        return 1
    if is_interrupted(outcome):
        print("interrupted; `make demo` starts again from the beginning", file=sys.stderr)
        return 130

    result = outcome.grid[0]
    summary = summarize(result, settings)
    (OUTPUTS / "summary.json").write_text(json.dumps(summary, indent=2) + "\n")
    curves_picture(result.metrics_dataframe, OUTPUTS / "curves.png")
    write_report(str(OUTPUTS / "run"), output=OUTPUTS / "report.html")
    shutil.copytree(result.checkpoint.path, OUTPUTS / "checkpoint")
    export_checkpoint(OUTPUTS / "checkpoint", OUTPUTS / "model", merge=None)

    answers = held_out_answers(settings, count=4)
    show(summary, answers=answers, seconds=time.monotonic() - began)
    return 0


def remove_earlier_outputs() -> None:
    """Removes what an earlier demo has written, and nothing else that may lie there."""
    OUTPUTS.mkdir(parents=True, exist_ok=True)
    for name in ("run", "checkpoint", "model"):
        shutil.rmtree(OUTPUTS / name, ignore_errors=True)
    for name in ("summary.json", "curves.png", "report.html"):
        (OUTPUTS / name).unlink(missing_ok=True)


def summarize(result: Any, settings: RunSettings) -> dict[str, Any]:
    """Gathers the figures of a run; accuracy is avg@k on held-out problems."""
    frame = result.metrics_dataframe
    _, accuracy = evaluations(result)
    updates = frame["learners/default_policy/num_gradient_updates_lifetime"].dropna()
    tokens = frame["env_runners/num_episodes"] * frame["env_runners/response_length_mean"]
    sampling_seconds = tokens / frame["env_runners/rollout_tokens_per_second"]

    return {
        "accuracy_before": accuracy[0],
        "accuracy_after": accuracy[-1],
        "iterations": int(result.metrics["training_iteration"]),
        "gradient_updates": int(updates.iloc[-1]),
        "seconds": round(result.metrics["time_total_s"], 1),
        "rollout_tokens_per_second": round(tokens.sum() / sampling_seconds.sum(), 1),
        "engine": settings.checked[0].engine,
    }


def held_out_answers(settings: RunSettings, *, count: int) -> list[str]:
    """Asks the exported model, loaded by transformers, problems that it was not trained on."""
    evaluation = settings.checked[0].get_evaluation_config_object()
    env = make_environment(evaluation.env, evaluation.env_config)
    model = load_causal_lm(OUTPUTS / "model", dtype="float32")
    tokenizer = load_tokenizer(OUTPUTS / "model")

    answers = []
    for seed in range(count):
        prompt, info = env.reset(seed=seed)
        ids = torch.tensor([prompt_token_ids(tokenizer, prompt)])
        output = model.generate(ids, do_sample=False, max_new_tokens=8)[0, ids.shape[1] :]
        text = tokenizer.decode(output, skip_special_tokens=True)
        correction = "" if text == info["answer"] else f" (it is {info['answer']})"
        answers.append(f"{prompt}{text}{correction}")
    return answers


def show(summary: dict[str, Any], *, answers: list[str], seconds: float) -> None:
    rows = {
        "held-out accuracy": f"{summary['accuracy_before']:.3f} -> {summary['accuracy_after']:.3f}",
        "training": (
            f"{summary['iterations']} iterations, {summary['gradient_updates']} updates, "
            f"{summary['seconds']:.0f} s ({seconds:.0f} s in all)"
        ),
        "sampling": f"{summary['rollout_tokens_per_second']:.0f} tokens/s with {summary['engine']}",
        "it now answers": ", ".join(answers),
        "report": f"{OUTPUTS / 'report.html'} (a page for your browser; curves.png beside it)",
        "checkpoint": OUTPUTS / "checkpoint",
        "model": f"{OUTPUTS / 'model'} (transformers and vLLM load it)",
    }
    print()
    for name, text in rows.items():
        print(f"  {name:18} {text}")
    print(NEXT)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
