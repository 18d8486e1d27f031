"""DAPO (arXiv 2503.14476) on one page: a small transformer learns to add, in a minute or two.

    python examples/dapo_from_core.py

Start with `dapo` near the end: it is Algorithm 1 of the paper, under the paper's names and with the
numbers of its lines. A question `q` is a sum such as "07+42=". A correct output `o` is "49.", where
the full stop ends it. All of the mathematics comes from `rllib_dapo.core`.
"""

import argparse
import copy
import random
from typing import NamedTuple

import torch
from torch import Tensor, nn

from rllib_dapo import core

N, G = 32, 8  # questions per step (the size of the dynamic sampling buffer), outputs per question
MINI_BATCH = 64  # outputs per gradient update, so a step makes N * G / MINI_BATCH = 4 updates
L_MAX, L_CACHE = 6, 2  # longest output in tokens; the part of it where length is punished softly
CLIP_HIGHER = {"epsilon_low": 0.2, "epsilon_high": 0.28}  # Eq. 10
TOKEN_MEAN = {"loss_aggregation": "token_mean", "max_response_tokens": L_MAX}  # Eq. 12

VOCABULARY = "0123456789+=."
Sum = tuple[int, int]


class Policy(nn.Module):
    """A causal transformer over characters, with 0.4 million weights."""

    def __init__(self, width: int = 128) -> None:
        super().__init__()
        self.token = nn.Embedding(len(VOCABULARY), width)
        self.position = nn.Embedding(len("07+42=") + L_MAX, width)
        layer = nn.TransformerEncoderLayer(width, 4, 512, 0.0, batch_first=True, norm_first=True)
        self.layers = nn.TransformerEncoder(layer, num_layers=2, enable_nested_tensor=False)
        self.head = nn.Linear(width, len(VOCABULARY))

    def forward(self, ids: Tensor) -> Tensor:
        """Logits [B, S, V] of the token that follows each of the tokens [B, S]."""
        x = self.token(ids) + self.position.weight[: ids.shape[-1]]
        mask = nn.Transformer.generate_square_subsequent_mask(ids.shape[-1])
        return self.head(self.layers(x, mask=mask, is_causal=True))


class Outputs(NamedTuple):
    """Outputs with their questions and rewards, one per row."""

    q: Tensor  # [B, P] token ids
    o: Tensor  # [B, T] token ids
    mask: Tensor  # [B, T] True up to and including the full stop
    is_correct: Tensor  # [B]
    R: Tensor  # [B]


def encode(texts: list[str]) -> Tensor:
    return torch.tensor([[VOCABULARY.index(character) for character in text] for text in texts])


def update(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


def warm_up(pi: Policy, D: list[Sum], steps: int) -> None:
    """Supervised training with smoothed labels: the policy learns to add, but hedges."""
    optimizer = torch.optim.AdamW(pi.parameters(), lr=1e-3)
    for _ in range(steps):
        sums = random.choices(D, k=128)
        ids = encode([f"{a:02}+{b:02}=" + f"{a + b}.".ljust(3, ".") for a, b in sums])
        logits, targets = pi(ids[:, :-1])[:, -3:].transpose(1, 2), ids[:, -3:]
        update(optimizer, nn.functional.cross_entropy(logits, targets, label_smoothing=0.3))


@torch.no_grad()
def sample(pi: Policy, sums: list[Sum]) -> Outputs:
    ids = q = encode([f"{a:02}+{b:02}=" for a, b in sums])
    for _ in range(L_MAX):
        ids = torch.cat([ids, torch.multinomial(pi(ids)[:, -1].softmax(-1), 1)], -1)
    o = ids[:, q.shape[-1] :]
    stops = (o == VOCABULARY.index(".")).int()
    mask = stops.cumsum(-1) - stops == 0

    texts = ["".join(VOCABULARY[i] for i in row) for row in o.tolist()]
    is_correct = [text.startswith(f"{a + b}.") for text, (a, b) in zip(texts, sums, strict=True)]
    R = map(reward, is_correct, mask.sum(-1).tolist())
    return Outputs(q, o, mask, torch.tensor(is_correct), torch.tensor(list(R)))


def reward(is_correct: bool, length: int) -> float:
    """Correctness (Eq. 7) and soft overlong punishment (Eq. 13)."""
    return core.correctness_reward(is_correct) + core.soft_overlong_punishment(
        length, max_response_tokens=L_MAX, buffer_tokens=L_CACHE
    )


def logprobs(pi: Policy, q: Tensor, o: Tensor) -> Tensor:
    """Log-probabilities [B, T] of the tokens of the outputs."""
    logits = pi(torch.cat([q, o[:, :-1]], -1))[:, q.shape[-1] - 1 :]
    logp, _ = core.logprob_and_entropy(logits.flatten(0, 1), o.flatten(), temperature=1.0)
    return logp.view_as(o)


def accuracy(pi: Policy, sums: list[Sum]) -> float:
    return sample(pi, 4 * sums).is_correct.float().mean().item()


def dapo(pi: Policy, D: list[Sum], heldout: list[Sum], steps: int) -> None:
    optimizer = torch.optim.AdamW(pi.parameters(), lr=2e-4)
    for step in range(1, steps + 1):  # line 1
        pi_old = copy.deepcopy(pi)  # line 3
        buffer: list[Outputs] = []
        while len(buffer) < N:  # lines 7 and 8, dynamic sampling
            D_b = random.sample(D, N)  # line 2
            outputs = sample(pi_old, [q for q in D_b for _ in range(G)])  # lines 4 and 5
            groups = map(Outputs._make, zip(*(t.split(G) for t in outputs), strict=True))
            buffer += [g for g in groups if 0 < g.is_correct.sum() < G]  # line 6, Eq. 11

        q, o, mask, _, _ = map(torch.cat, zip(*buffer[:N], strict=True))
        A = torch.cat([core.group_advantages(group.R) for group in buffer[:N]])  # line 9, Eq. 9
        old_logprobs = logprobs(pi_old, q, o).detach()

        for i in torch.randperm(N * G).split(MINI_BATCH):  # line 10
            lengths = mask[i].sum(-1).tolist()
            w = torch.tensor(core.response_weights(lengths, (i // G).tolist(), **TOKEN_MEAN))
            loss, _ = core.dapo_policy_loss(
                logprobs(pi, q[i], o[i]), old_logprobs[i], A[i], mask[i], w, **CLIP_HIGHER
            )
            update(optimizer, loss)  # line 11, Eq. 8

        if step % 5 == 0:
            print(f"step {step}: held-out accuracy {accuracy(pi, heldout):.2f}", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Teach a small transformer to add, with DAPO.")
    parser.add_argument("--steps", type=int, default=40, help="number of steps of Algorithm 1")
    steps = parser.parse_args().steps
    torch.set_num_threads(1)  # tensors are so small that threads would mostly wait for each other
    random.seed(0)
    torch.manual_seed(0)
    sums = random.sample([(a, b) for a in range(50) for b in range(50)], k=2500)
    heldout, D = sums[:250], sums[250:]
    pi = Policy()
    warm_up(pi, D, steps=400)
    print(f"after the warm-up: held-out accuracy {accuracy(pi, heldout):.2f}", flush=True)
    dapo(pi, D, heldout, steps)
