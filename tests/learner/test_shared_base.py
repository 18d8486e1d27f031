"""On a CPU, processes that train adapters of one model share the pages of its file."""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path

import pytest
import torch

from rllib_dapo.learner.lora_adapter import LoraAdapter
from rllib_dapo.models import load_causal_lm
from rllib_dapo.models.lora_settings import LoraSettings


def _own_kib(file: Path) -> list[int]:
    """What this process has written in each private map of a file, in KiB: pages of its own."""
    found, is_of_file = [], False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if re.match(r"[0-9a-f]+-[0-9a-f]+ ", line):
            is_of_file = line.endswith(str(file.resolve()))
        elif is_of_file and line.startswith("Anonymous:"):
            found.append(int(line.split()[1]))
    return found


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_training_an_adapter_copies_no_page_of_its_base(raw_model: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"  # that no other test has loaded in this process
    shutil.copytree(raw_model, folder)
    file = folder / "model.safetensors"
    model = load_causal_lm(folder, dtype=torch.float32)
    adapter = LoraAdapter(model, LoraSettings(rank=4), seed=0, dtype=torch.float32)
    optimizer = torch.optim.AdamW(adapter.parameters(), lr=1e-2)
    for _ in range(2):
        ids = torch.tensor([[4, 5, 6, 7]])
        model(ids, labels=ids).loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    held = _own_kib(file)
    assert held
    assert sum(held) == 0
    # Were they trained themselves, they would be this process's own.
    with torch.no_grad():
        model.get_input_embeddings().weight.add_(1.0)
    assert sum(_own_kib(file)) > 0
