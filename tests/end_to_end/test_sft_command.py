"""`rllib-dapo sft`: a model folder that `train` takes, or none at all."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import CompletedProcess, Popen
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from rllib_dapo.models import load_causal_lm, load_tokenizer
from rllib_dapo.warm_start import run_sft

RECORD = run_sft.RECORD
OPTIONS = ("--lr", "3e-3", "--batch-size", "16", "--heldout", "0.1")
SETTINGS = {"language_model.dtype": "float32", "language_model.num_threads": 1}
Run = Callable[..., CompletedProcess[str]]


@pytest.fixture
def records(tmp_path: Path) -> Path:
    file = tmp_path / "sums.jsonl"
    rows = [{"prompt": f"{a}+{b}=", "response": str(a + b)} for a in range(8) for b in range(8)]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return file


def _written(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / RECORD).read_text(encoding="utf-8"))
    return content


def test_a_model_learns_records_and_its_folder_is_one_of_transformers(
    records: Path, raw_model: Path, tmp_path: Path, invoke_command: Run
) -> None:
    folder = tmp_path / "model"
    done = invoke_command(
        "sft",
        records,
        folder,
        "--model",
        raw_model,
        "--epochs",
        20,
        *OPTIONS,
        folder=tmp_path,
        settings=SETTINGS,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    told = _written(folder)
    assert told["steps"][-1]["loss"] < told["steps"][0]["loss"] / 2
    after = told["heldout_loss"][-1]["loss"]
    assert told["records"]["train"] + told["records"]["heldout"] == 64
    assert [step["step"] for step in told["steps"]] == list(range(1, len(told["steps"]) + 1))
    assert f"held-out loss {after:.4f}" in done.stdout

    assert sorted(p.name for p in tmp_path.iterdir()) == ["model", "sums.jsonl"]
    assert load_causal_lm(str(folder), dtype=torch.float32).num_parameters() > 0
    assert load_tokenizer(folder).chat_template == load_tokenizer(raw_model).chat_template
    assert {str(w.dtype) for w in load_file(folder / "model.safetensors").values()} == {
        "torch.float32"
    }


@pytest.mark.parametrize("merge", [False, True], ids=("adapter", "merged"))
def test_with_lora_an_adapter_or_a_whole_model_is_written(
    merge: bool, records: Path, raw_model: Path, tmp_path: Path, invoke_command: Run
) -> None:
    folder = tmp_path / "model"
    done = invoke_command(
        "sft",
        records,
        folder,
        "--model",
        raw_model,
        *OPTIONS,
        *(["--merge"] if merge else []),
        folder=tmp_path,
        settings=SETTINGS | {"language_model.lora": "{rank: 4}"},
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert (folder / "adapter_config.json").is_file() is not merge
    assert (folder / "model.safetensors").is_file() is merge
    if merge:
        whole, base = (load_file(one / "model.safetensors") for one in (folder, raw_model))
        assert whole.keys() == base.keys()
        assert any((whole[name] != base[name].to(whole[name].dtype)).any() for name in base)


def test_a_failure_while_the_model_is_written_leaves_nothing(
    records: Path,
    raw_model: Path,
    tmp_path: Path,
    invoke_command: Run,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def full(checkpoint: Path, folder: Path, **_: Any) -> Path:
        folder.mkdir()
        (folder / "model.safetensors").write_bytes(b"half")
        raise OSError("no space left on device")

    monkeypatch.setattr(run_sft, "export_checkpoint", full)
    done = invoke_command(
        "sft",
        records,
        tmp_path / "model",
        "--model",
        raw_model,
        *OPTIONS,
        folder=tmp_path,
        settings=SETTINGS,
    )

    assert done.returncode == 1
    assert "no model was written: OSError: no space left on device" in done.stderr
    assert [p.name for p in tmp_path.iterdir()] == ["sums.jsonl"]


@pytest.mark.exhaustive
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL], ids=str)
def test_a_killed_run_leaves_no_model(
    how: signal.Signals,
    records: Path,
    raw_model: Path,
    tmp_path: Path,
    start_command: Callable[..., Popen[str]],
) -> None:
    process = start_command(
        "sft",
        records,
        tmp_path / "model",
        "--model",
        raw_model,
        "--epochs",
        100_000,
        *OPTIONS,
        folder=tmp_path,
        settings=SETTINGS,
    )
    assert process.stdout is not None
    lines: Iterator[str] = iter(process.stdout.readline, "")
    assert any(line.startswith("step 1 of") for line in lines)

    process.send_signal(how)
    _, err = process.communicate()

    assert not (tmp_path / "model").exists()
    if how != signal.SIGKILL:
        assert process.returncode == (143 if how == signal.SIGTERM else 130)
        assert "interrupted: no model was written" in err
        assert [p.name for p in tmp_path.iterdir()] == ["sums.jsonl"]


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    "others",
    [
        {"learners.num_learners": 2},
        {"deepspeed.config": "ZERO"},
        {"learners.num_learners": 2, "deepspeed.config": "ZERO"},
    ],
    ids=("two Learners", "ZeRO-3", "two Learners with ZeRO-3"),
)
def test_any_learners_give_the_same_model(
    others: dict[str, Any], records: Path, raw_model: Path, tmp_path: Path, run_command: Run
) -> None:
    zero = tmp_path / "zero.json"
    zero.write_text(json.dumps({"zero_optimization": {"stage": 3}}))
    others = {name: zero if value == "ZERO" else value for name, value in others.items()}
    for name, settings in (("one", {}), ("other", others)):
        done = run_command(
            "sft",
            records,
            tmp_path / name,
            "--model",
            raw_model,
            *OPTIONS,
            folder=tmp_path,
            settings=SETTINGS | settings,
        )
        assert done.returncode == 0, done.stdout + done.stderr

    one, other = (_written(tmp_path / name) for name in ("one", "other"))
    losses = [[step["loss"] for step in told["steps"]] for told in (one, other)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
    assert one["heldout_loss"][-1]["loss"] == pytest.approx(
        other["heldout_loss"][-1]["loss"], rel=1e-4
    )
    mine, theirs = (load_file(tmp_path / name / "model.safetensors") for name in ("one", "other"))
    assert mine.keys() == theirs.keys()


@pytest.mark.exhaustive
def test_train_takes_what_sft_has_made(
    records: Path,
    raw_model: Path,
    tmp_path: Path,
    run_command: Run,
    quick_settings: dict[str, object],
) -> None:
    folder = tmp_path / "model"
    done = run_command(
        "sft", records, folder, "--model", raw_model, *OPTIONS, folder=tmp_path, settings=SETTINGS
    )
    assert done.returncode == 0, done.stdout + done.stderr

    done = run_command(
        "train",
        "tiny_arithmetic",
        "--storage",
        tmp_path / "runs",
        folder=tmp_path,
        settings=quick_settings | {"language_model.name": folder, "stop.training_iteration": 1},
    )
    assert done.returncode == 0, done.stdout + done.stderr
