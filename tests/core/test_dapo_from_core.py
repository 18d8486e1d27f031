"""The example that is the whole algorithm on one page."""

from __future__ import annotations

import ast
import importlib.util
import random
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

EXAMPLE = Path(__file__).parents[2] / "examples" / "dapo_from_core.py"


@pytest.fixture(scope="module")
def example() -> ModuleType:
    spec = importlib.util.spec_from_file_location("dapo_from_core", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(autouse=True)
def seeded() -> None:
    random.seed(0)
    torch.manual_seed(0)


def test_the_example_is_one_page_of_torch_and_core() -> None:
    source = EXAMPLE.read_text()
    assert len(source.splitlines()) <= 150

    imported = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            imported |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported |= {f"{node.module}.{alias.name}" for alias in node.names}
    roots = {name for name in imported if name.partition(".")[0] not in sys.stdlib_module_names}
    assert roots == {"torch", "torch.Tensor", "torch.nn", "rllib_dapo.core"}


def test_outputs_end_at_the_full_stop_and_have_the_rewards_of_the_paper(
    example: ModuleType,
) -> None:
    class Script(torch.nn.Module):
        """Says the same whatever it is asked: the next character of `text` for sure."""

        def __init__(self, text: str) -> None:
            super().__init__()
            self.ids = example.encode([text])[0]

        def forward(self, ids: torch.Tensor) -> torch.Tensor:
            following = self.ids[ids.shape[-1] - len("07+42=")]
            logits = torch.full((*ids.shape, len(example.VOCABULARY)), -torch.inf)
            logits[..., following] = 0.0
            return logits

    def outputs(text: str) -> tuple[list[bool], list[int], list[float]]:
        sampled = example.sample(Script(text), [(7, 42), (0, 4)])
        return sampled.is_correct.tolist(), sampled.mask.sum(-1).tolist(), sampled.R.tolist()

    assert outputs("49.111") == ([True, False], [3, 3], [1.0, -1.0])
    assert outputs("4.9.11") == ([False, True], [2, 2], [-1.0, 1.0])
    assert outputs("0049.1") == ([False, False], [5, 5], [-1.5, -1.5])  # half of the soft zone
    assert outputs("491111") == ([False, False], [6, 6], [-2.0, -2.0])  # never ended


def test_log_probabilities_are_those_of_the_tokens_that_were_sampled(example: ModuleType) -> None:
    pi = example.Policy(width=16)
    sampled = example.sample(pi, [(7, 42), (0, 4)])
    logits = pi(torch.cat([sampled.q, sampled.o], -1)).log_softmax(-1)
    first = len("07+42=")
    by_hand = [
        [logits[b, first + t - 1, sampled.o[b, t]].item() for t in range(example.L_MAX)]
        for b in range(2)
    ]
    torch.testing.assert_close(
        example.logprobs(pi, sampled.q, sampled.o), torch.tensor(by_hand), atol=1e-5, rtol=0
    )


def test_a_hedging_policy_commits_itself_in_a_few_steps(example: ModuleType) -> None:
    sums = [(a, b) for a in range(2) for b in range(2)]
    pi = example.Policy(width=32)
    example.warm_up(pi, sums, steps=40)
    before = example.accuracy(pi, 25 * sums)
    assert 0.2 < before < 0.6

    example.dapo(pi, 8 * sums, sums, steps=5)
    assert example.accuracy(pi, 25 * sums) > before + 0.2


@pytest.mark.exhaustive
@pytest.mark.timeout(1200)
def test_the_example_learns_sums_that_it_has_never_seen() -> None:
    done = subprocess.run([sys.executable, EXAMPLE], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    before, *_, after = (float(line.split()[-1]) for line in done.stdout.splitlines())
    assert before < 0.6
    assert after > 0.85
