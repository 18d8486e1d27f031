"""Peak memory and time of log-probabilities and entropies, against composing them plainly.

Both start from hidden states: 4 x 1,024 tokens, hidden size 576, vocabulary 49,152, float32,
forward and backward to the hidden states and the head. The gradient flows through both outputs. The
plain side is `log_softmax` of the logits over the temperature, `gather`, and `-(p log p).sum()`.

Each figure comes from a process of its own. The memory is the highest resident size during the
first pass less that just before it, the time that of a second pass.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from common import Side, alternate, report, timed

if TYPE_CHECKING:
    from torch import Tensor, nn

TOKENS, HIDDEN, VOCABULARY, TEMPERATURE, ENTROPY_COEFFICIENT = 4 * 1024, 576, 49_152, 0.9, 0.01
CHUNK_TOKENS, ROUNDS, MEMORY_TARGET, TIME_LIMIT = 2048, 5, 3.0, 1.1
MIB = 2**20


def ours(hidden: Tensor, head: nn.Linear, targets: Tensor) -> tuple[Tensor, Tensor]:
    from rllib_dapo.core import chunked_logprobs

    return chunked_logprobs(
        hidden, head, targets, temperature=TEMPERATURE, chunk_tokens=CHUNK_TOKENS
    )


def plain(hidden: Tensor, head: nn.Linear, targets: Tensor) -> tuple[Tensor, Tensor]:
    logprobs = (head(hidden) / TEMPERATURE).log_softmax(-1)
    return logprobs.gather(-1, targets[:, None]).squeeze(-1), -(logprobs.exp() * logprobs).sum(-1)


def measure(side: str) -> dict[str, float]:
    """Measures in this process: a small pass that loads all code, one for memory, one for time."""
    import psutil
    import torch
    from torch import nn

    torch.manual_seed(0)
    hidden, targets = torch.randn(TOKENS, HIDDEN), torch.randint(VOCABULARY, (TOKENS,))
    head = nn.Linear(HIDDEN, VOCABULARY, bias=False)

    def forward_and_backward(tokens: int) -> None:
        rows = hidden[:tokens].clone().requires_grad_()
        logprobs, entropy = {"ours": ours, "plain": plain}[side](rows, head, targets[:tokens])
        torch.autograd.backward(-(logprobs + ENTROPY_COEFFICIENT * entropy).mean())
        head.weight.grad = None

    forward_and_backward(8)

    before = psutil.Process().memory_info().rss
    forward_and_backward(TOKENS)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before
    return {"peak_mib": peak / MIB, "seconds": timed(lambda: forward_and_backward(TOKENS))[0]}


def in_a_process(side: str) -> dict[str, float]:
    """Calls `measure` in a new process.

    This process never loads torch, because the peak of a child starts at the size of its parent.
    """
    command = [sys.executable, str(Path(__file__).resolve()), side]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(result.stdout)


def main() -> None:
    """Runs both sides in turn."""
    seconds: dict[str, list[float]] = {"ours": [], "plain": []}

    def peak(side: str) -> float:
        figures = in_a_process(side)
        seconds[side].append(figures["seconds"])
        return figures["peak_mib"]

    peaks, other_peaks = alternate(lambda: peak("ours"), lambda: peak("plain"), rounds=ROUNDS)

    times = {
        side: Side(label=side, unit="s", values=values[1:]) for side, values in seconds.items()
    }
    report(
        "logprob_memory",
        ours=Side(label="chunked_logprobs", unit="MiB", values=peaks),
        other=Side(label="plain composition", unit="MiB", values=other_peaks),
        target=MEMORY_TARGET,
        higher_is_better=False,
        also={
            "time against the plain composition": (
                times["ours"].median / times["plain"].median,
                TIME_LIMIT,
            )
        },
        seconds={side: time.values for side, time in times.items()},
        tokens=TOKENS,
        hidden_size=HIDDEN,
        vocabulary=VOCABULARY,
        chunk_tokens=CHUNK_TOKENS,
    )


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(json.dumps(measure(sys.argv[1])))
    else:
        main()
