"""What a checkpoint writes of a model is tried once, and comes out as it went in."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from rllib_dapo.checkpoint.export import export_checkpoint
from rllib_dapo.learner import model_folder as model_folder_module
from rllib_dapo.learner.model_folder import MODULE_PATH
from rllib_dapo.learner.module import CausalLMModule
from rllib_dapo.model_check import round_trip
from rllib_dapo.model_check.round_trip import check_round_trip
from rllib_dapo.models import load_tokenizer, prompt_token_ids

ModelFolder = Callable[..., Path]
ModuleOf = Callable[..., CausalLMModule]


def test_weights_are_compared_bit_by_bit(model_folder: ModelFolder, module_of: ModuleOf) -> None:
    finding = check_round_trip(
        module_of(model_folder("Qwen3Moe", num_experts=4, num_experts_per_tok=2))
    )
    assert finding.verdict == "right"
    assert "bit by bit" in finding.detail


def test_a_large_model_writes_its_files_alone(
    model_folder: ModelFolder, module_of: ModuleOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(round_trip, "MOST_BYTES", 1000)
    finding = check_round_trip(module_of(model_folder()))
    assert (finding.verdict, "too large" in finding.detail) == ("right", True)


def test_what_cannot_be_read_again_is_refused(
    model_folder: ModelFolder, module_of: ModuleOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = module_of(model_folder())
    monkeypatch.setattr(
        module.checkpoint_format, "from_checkpoint", lambda weights: {"lm_head.weight": weights}
    )
    monkeypatch.setattr(torch, "equal", lambda *_: False)
    finding = check_round_trip(module)
    assert finding.verdict == "refused"
    assert "lm_head.weight is read otherwise" in finding.detail


def test_a_template_of_the_runs_own_goes_into_checkpoints_with_its_values(
    model_folder: ModelFolder, module_of: ModuleOf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    template = "{% for m in messages %}<{{ m.content }}{{ mark }}>{% endfor %}"
    settings = {"chat_template": template, "chat_template_kwargs": {"mark": "!"}}
    module = module_of(model_folder(), **settings)
    assert check_round_trip(module).verdict == "right"

    written = tmp_path / "written"
    written.mkdir()
    module.write_model(written, module.lm.state_dict().items())
    tokenizer = load_tokenizer(written)
    assert tokenizer.decode(prompt_token_ids(tokenizer, "1+1=")) == "<1+1=!>"

    def without_template(path: Path | str, **settings: Any) -> Any:
        return load_tokenizer(path, trust_remote_code=settings["trust_remote_code"])

    monkeypatch.setattr(model_folder_module, "load_tokenizer", without_template)
    finding = check_round_trip(module)
    assert finding.verdict == "refused"
    assert "the chat template is read otherwise than it was written" in finding.detail


def test_type_dropout_and_recommended_sampling_come_out_as_they_went_in(
    model_folder: ModelFolder, module_of: ModuleOf, tmp_path: Path
) -> None:
    folder = model_folder(attention_dropout=0.1)
    config = json.loads((folder / "config.json").read_text()) | {"dtype": "bfloat16"}
    (folder / "config.json").write_text(json.dumps(config))
    recommended = '{"temperature": 0.6, "top_p": 0.9, "eos_token_id": 2}'
    (folder / "generation_config.json").write_text(recommended)

    module = module_of(folder)
    assert module.lm.config.attention_dropout == 0.0
    module.save_to_path(tmp_path / "checkpoint" / MODULE_PATH)

    # In the checkpoint weights keep the precision of training, ...
    saved = load_file(tmp_path / "checkpoint" / MODULE_PATH / "model.safetensors")
    assert {tensor.dtype for tensor in saved.values()} == {torch.float32}

    # ... in the exported model they have that of the original.
    exported = export_checkpoint(tmp_path / "checkpoint", tmp_path / "exported")
    weights = load_file(exported / "model.safetensors")
    assert {tensor.dtype for tensor in weights.values()} == {torch.bfloat16}
    written = json.loads((exported / "config.json").read_text())
    assert (written["dtype"], written["attention_dropout"]) == ("bfloat16", 0.1)
    assert (exported / "generation_config.json").read_text() == recommended


def test_an_export_may_keep_the_precision_of_training(
    model_folder: ModelFolder, module_of: ModuleOf, tmp_path: Path
) -> None:
    module_of(model_folder()).save_to_path(tmp_path / "checkpoint" / MODULE_PATH)
    exported = export_checkpoint(tmp_path / "checkpoint", tmp_path / "half", dtype="float16")
    weights = load_file(exported / "model.safetensors")
    assert {tensor.dtype for tensor in weights.values()} == {torch.float16}
    assert json.loads((exported / "config.json").read_text())["dtype"] == "float16"
    with pytest.raises(ValueError, match="--dtype int7: must be a type such as float32"):
        export_checkpoint(tmp_path / "checkpoint", tmp_path / "x", dtype="int7")


def test_a_model_with_code_of_its_own_is_read_with_it_if_that_was_allowed(
    model_folder: ModelFolder, module_of: ModuleOf
) -> None:
    folder = model_folder()
    (folder / "mine.py").write_text(
        "from transformers import LlamaConfig, LlamaForCausalLM\n\n\n"
        'class MineConfig(LlamaConfig):\n    model_type = "mine"\n\n\n'
        "class Mine(LlamaForCausalLM):\n    config_class = MineConfig\n"
    )
    config = json.loads((folder / "config.json").read_text())
    config |= {
        "model_type": "mine",
        "auto_map": {"AutoConfig": "mine.MineConfig", "AutoModelForCausalLM": "mine.Mine"},
    }
    (folder / "config.json").write_text(json.dumps(config))

    module = module_of(folder, trust_remote_code=True)
    assert type(module.lm).__name__ == "Mine"
    finding = check_round_trip(module)
    assert finding.verdict == "right", finding.detail
