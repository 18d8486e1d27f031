"""Layers that a model has not are refused by its configuration alone."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

from rllib_dapo import DAPOConfig
from rllib_dapo.model_check.lora_modules import check_lora_modules
from rllib_dapo.models.lora_settings import LoraSettings, adapted_modules, empty_model


def details(model: Path, target_modules: str | Sequence[str]) -> list[str]:
    config = DAPOConfig().language_model(
        str(model), lora={"rank": 8, "target_modules": target_modules}
    )
    return [finding.detail for finding in check_lora_modules(model, config)]


def test_names_of_linear_layers_are_found_and_others_refused(raw_model: Path) -> None:
    assert details(raw_model, "all-linear") == []
    assert details(raw_model, ["q_proj", "mlp.down_proj"]) == []
    (line,) = details(raw_model, ["q_proj", "query"])
    assert "'query' is none of the model's linear layers, which are down_proj, gate_proj" in line
    # Its product is computed without the layer that would hold an adapter.
    for head in ("lm_head", "embed_tokens"):
        assert f"{head!r} is none of" in details(raw_model, [head])[0]


def test_all_linear_layers_are_those_of_the_stack(raw_model: Path) -> None:
    modules = adapted_modules(empty_model(str(raw_model)), LoraSettings(rank=8))
    assert len(modules) % 7 == 0
    assert {name.split(".")[-1] for name in modules} == {
        *("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
    }


def test_a_quantized_model_is_refused(raw_model: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(raw_model, tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    config["quantization_config"] = {"quant_method": "bitsandbytes", "load_in_8bit": True}
    (folder / "config.json").write_text(json.dumps(config))
    (line,) = details(folder, "all-linear")
    assert "wants a model that is not quantized" in line


def test_an_adapter_is_no_model(tmp_path: Path) -> None:
    config = DAPOConfig().language_model(str(tmp_path))
    assert check_lora_modules(tmp_path, config) == []  # without the setting, nothing is looked at
    (tmp_path / "adapter_config.json").touch()
    (finding,) = check_lora_modules(tmp_path, config)
    assert "it is an adapter and not a model" in finding.detail
