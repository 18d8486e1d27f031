"""Learners and micro-batches have like amounts of work."""

from __future__ import annotations

import numpy as np
import pytest

from rllib_dapo.core import RowWork, TrainResponse
from rllib_dapo.core.balance import balance_rows
from rllib_dapo.core.row_work import TOKENS_ALONE
from rllib_dapo.core.rows import Row, row_tokens, run_work

# A model of 135 million parameters, where attention counts early, and one of 7 billion.
SMALL, LARGE = (
    RowWork(per_pair=3e-4, per_response=0.4),
    RowWork(per_pair=3e-5, per_response=0.08),
)


def row(*tokens: int, prompt: int = 1) -> Row:
    return tuple(
        TrainResponse(
            group=0,
            index=i,
            prompt_tokens=prompt,
            response_tokens=n,
            loss_tokens=n,
            advantage=1.0,
            reward=0.0,
        )
        for i, n in enumerate(tokens)
    )


def sizes(runs: list[list[Row]]) -> list[list[int]]:
    return [[row_tokens(one) for one in run] for run in runs]


def test_work_of_a_run_by_hand() -> None:
    """Two rows of 10 tokens with padding, of which 9 + 7 are responses'."""
    work = RowWork(per_pair=0.01, per_response=0.5)
    assert run_work([row(9), row(7)], work) == pytest.approx(20 + 0.01 * (50 + 32) + 8)
    # A dense mask compares all pairs; with blocks 1/2 + 4 * (1 + 2) + 5 * (1 + 2.5) are left.
    assert run_work([row(4, 5)], work) == pytest.approx(10 + 0.01 * 100 + 4.5)
    blocks = RowWork(per_pair=0.01, takes_blocks=True)
    assert run_work([row(4, 5)], blocks) == pytest.approx(10 + 0.01 * 30)
    assert run_work([], work) == 0.0


def test_micro_batches_are_as_few_as_fit_and_alike_in_size() -> None:
    rows = [row(3)] * 6
    assert [len(run) for run in balance_rows(rows, max_tokens=24).runs[0]] == [6]
    assert [len(run) for run in balance_rows(rows, max_tokens=20).runs[0]] == [3, 3]  # not 5, 1
    shards = balance_rows(rows, max_tokens=20, num_shards=3).runs
    assert [[len(run) for run in runs] for runs in shards] == [[2], [2], [2]]


def test_rows_of_like_length_go_together_and_a_longer_one_goes_alone() -> None:
    rows = [row(n - 1) for n in (2, 40, 9, 2, 10, 2)]
    assert sizes(balance_rows(rows, max_tokens=20).runs[0]) == [[40], [10, 9], [2, 2, 2]]


def test_short_rows_even_out_what_long_ones_left() -> None:
    """By length alone the second Learner would have 8 tokens, and the first 10 and five times 2."""
    rows = [row(n - 1) for n in (10, 8, 2, 2, 2, 2, 2)]
    balance = balance_rows(rows, max_tokens=10, num_shards=2)
    assert balance.load == 14
    assert sorted(map(sizes, balance.runs)) == [[[8], [2, 2, 2]], [[10], [2, 2]]]


@pytest.mark.parametrize("work", [TOKENS_ALONE, SMALL, LARGE], ids=["tokens", "135M", "7B"])
@pytest.mark.parametrize(("median", "sigma"), [(1000, 1.0), (3000, 0.8), (6000, 0.6)])
def test_the_fullest_of_32_learners_has_a_few_percent_more_than_the_mean(
    work: RowWork, median: int, sigma: float
) -> None:
    """Responses to 32 prompts as reasoning models give them; padding counts as work."""
    rng = np.random.default_rng(0)
    lengths = np.clip(rng.lognormal(np.log(median), sigma, 512), 1, 20480).astype(int)
    prompts = rng.integers(80, 400, 32)
    rows = [row(int(n), prompt=int(prompts[i // 16])) for i, n in enumerate(lengths)]

    balance = balance_rows(rows, max_tokens=32768, num_shards=32, work=work)
    loads = [sum(run_work(run, work) for run in runs) for runs in balance.runs]
    assert balance.load == pytest.approx(max(loads))
    # Nothing helps where one response alone is more than a share.
    alone = [run_work([one], work) for one in rows]
    assert max(loads) < max(1.025 * np.mean(loads), 1.001 * max(alone))
    assert max(loads) < max(1.05 * sum(alone) / 32, 1.001 * max(alone))  # little is padded
    assert len({len(runs) for runs in balance.runs}) == 1
