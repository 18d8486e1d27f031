"""Compares a loaded model's computation here with the model's own, on a few tokens, both ways.

A Learner takes shortcuts: it leaves the output projection uncalled, packs responses that share a
prompt into one row, and lets a fast kernel compute attention. Each is compared with the plain way,
which is taken where the two differ. All Learners make the same calls, so this also works where
weights are sharded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from rllib_dapo.core import (
    EVERY_TOKEN,
    LogitAdjustment,
    PromptGroup,
    Response,
    TrainResponse,
    plan_minibatch,
)
from rllib_dapo.findings import one_line
from rllib_dapo.learner.row_masks import (
    FULL,
    SLIDING,
    layer_kinds,
    longest_window,
    takes_blocks,
)
from rllib_dapo.learner.training_data import plan_batches
from rllib_dapo.model_check.model_report import ModelFinding
from rllib_dapo.models import BLOCKS, EAGER, FLEX, SDPA

if TYPE_CHECKING:
    from rllib_dapo.learner.module import CausalLMModule
    from rllib_dapo.learner.planned_batch import MicroBatch

Forward = Callable[["MicroBatch"], dict[str, Tensor]]

# Largest difference of a log-probability, in nats, that rounding explains.
TOLERANCE = {torch.float64: 1e-6, torch.float32: 1e-4, torch.bfloat16: 0.1}

# Lengths of the sequences, in tokens: short ones where nothing depends on the length, and responses
# that reach this far beyond a window.
PROMPT_TOKENS, RESPONSE_TOKENS, NUM_RESPONSES = 12, 8, 2

SHARED_ROWS = "shared rows"


@torch.no_grad()
def check_computation(
    module: CausalLMModule,
    forward: Forward,
    *,
    device: torch.device | str,
    longest: int,
    shares_rows: bool,
) -> list[ModelFinding]:
    """Compares log-probabilities computed in several ways, and sets the module to a right one.

    Args:
        module: A Learner's module. Where a shortcut is wrong, its settings are changed.
        forward: Outputs of the module for a micro-batch.
        device: Device of the micro-batches.
        longest: Longest sequence of the run, in tokens.
        shares_rows: Whether responses are to share rows.

    Returns:
        Findings on logits, attention and, if asked for, shared rows.
    """
    checks = _Comparison(module, forward, device)
    findings = [checks.logits(), checks.attention()]
    if shares_rows:
        findings.append(checks.shared_rows(longest))
    return findings


class _Comparison:
    """Computes the same log-probabilities in two ways."""

    def __init__(
        self, module: CausalLMModule, forward: Forward, device: torch.device | str
    ) -> None:
        self._module, self._forward, self._device = module, forward, device
        self._config = module.lm.config.get_text_config()
        # In the type of the weights, so that rounding cannot hide what is wrong.
        self._dtype = next(module.lm.parameters()).dtype
        self._tolerance = TOLERANCE.get(self._dtype, TOLERANCE[torch.bfloat16])

    def logits(self) -> ModelFinding:
        """Log-probabilities from the last hidden states, against the model's own logits."""
        module = self._module
        adjustment = module.settings.adjustment
        batches = self._batches(PROMPT_TOKENS)
        with module.settings_changed(adjustment=None):
            own = self._logprobs(batches)
        if not all(bool(torch.isfinite(row).all()) for row in own):
            return ModelFinding(
                check="log-probabilities",
                verdict="refused",
                detail="the model's own are not finite numbers: its weights are damaged",
            )

        if adjustment is not None:
            ours = self._logprobs(batches)
            gap = _largest(ours, own)
            if gap <= self._tolerance:
                what = "" if adjustment.is_identity else f", with {_describe(adjustment)}"
                return ModelFinding(
                    check="log-probabilities",
                    verdict="right",
                    detail=f"those of the model's own logits{what}: {gap:.1e} nats apart",
                )

        module.settings = replace(module.settings, adjustment=None)
        return ModelFinding(
            check="log-probabilities",
            verdict="slower",
            detail="the model makes of its logits what is neither a scale nor a cap: they are "
            "computed in full, which takes more memory",
        )

    def attention(self) -> ModelFinding:
        """The attention kernel in use, against the eager one."""
        kernel = str(self._module.lm.config._attn_implementation)
        if kernel == FLEX and torch.device(self._device).type == "cpu":
            return ModelFinding(
                check="attention",
                verdict="refused",
                detail=f"{FLEX} has no backward pass on a CPU: set "
                "language_model.attn_implementation to auto",
            )
        if kernel == EAGER:
            return ModelFinding(
                check="attention", verdict="right", detail=f"{EAGER}, as it is defined"
            )

        window = longest_window(self._config) or 0
        prompt = window if PROMPT_TOKENS < window <= 512 else PROMPT_TOKENS
        batches = self._batches(prompt)
        ours = self._logprobs(batches)
        with _attention(self._module, EAGER):
            defined = self._logprobs(batches)

        gap = _largest(ours, defined)
        if gap <= self._tolerance:
            return ModelFinding(
                check="attention",
                verdict="right",
                detail=f"{kernel} and {EAGER} are {gap:.1e} nats apart",
            )
        self._module.set_attention(EAGER)
        return ModelFinding(
            check="attention",
            verdict="slower",
            detail=f"{kernel} and {EAGER} are {gap:.2g} nats apart: {EAGER} is used; set "
            f"language_model.attn_implementation={EAGER} to say so",
        )

    def shared_rows(self, longest: int) -> ModelFinding:
        """Responses that share a row, against rows of their own, beyond every window."""
        kinds = layer_kinds(self._config)
        if unknown := kinds - {FULL, SLIDING}:
            return _separate(f"layers of the kind {min(unknown)} carry state from token to token")
        if getattr(self._module.lm, "_is_stateful", False):
            return _separate("its layers carry state from token to token")

        window = longest_window(self._config)
        if window is not None and window >= longest:
            window = None  # no sequence is long enough for it
        prompt = max(2, min(window or PROMPT_TOKENS, longest - RESPONSE_TOKENS))
        own = self._logprobs(self._batches(prompt))

        kernel = str(self._module.lm.config._attn_implementation)
        if kernel.startswith("flash"):
            return _separate(f"{kernel} takes no mask")
        if kernel == SDPA and self._module.model_config["attn_implementation"] == "auto":
            self._module.set_attention(BLOCKS)
            found = self._shared_gap(prompt, own) if takes_blocks(self._config) else ""
            if isinstance(found, float):
                return _together(f", computed block by block: {found:.1e} nats apart")
            self._module.set_attention(kernel)

        found = self._shared_gap(prompt, own)
        if isinstance(found, str):
            return _separate(found)
        what = f", with the window of {window} tokens in their mask" if window else ""
        return _together(f"{what}: {found:.1e} nats apart")

    def _shared_gap(self, prompt: int, own: Sequence[Tensor]) -> float | str:
        """How far shared rows are from separate ones, in nats; or why they are not right."""
        row = prompt + NUM_RESPONSES * RESPONSE_TOKENS
        try:
            shared = self._logprobs(self._batches(prompt, max_row_tokens=row))
        except (ValueError, RuntimeError, NotImplementedError, TypeError, KeyError) as error:
            return f"the model does not take a mask ({one_line(error)[:80]})"
        gap = _largest(shared, own)
        if gap > self._tolerance:
            return f"shared and separate rows are {gap:.2g} nats apart"
        return gap

    def _logprobs(self, batches: Sequence[MicroBatch]) -> list[Tensor]:
        """Log-probabilities of every response, `[T]` each, in the order of the responses."""
        # Over all tokens: rounding at the edge of a smaller set would hide the rest.
        with self._module.settings_changed(dtype=self._dtype, sampling_set=EVERY_TOKEN):
            outputs = [self._forward(batch)["logprobs"] for batch in batches]
        # The plan may put responses in another order.
        rows = {
            int(index): row.float().cpu()
            for batch, output in zip(batches, outputs, strict=True)
            for index, row in zip(batch["indices"], output, strict=True)
        }
        return [rows[index] for index in range(NUM_RESPONSES)]

    def _batches(self, prompt_tokens: int, *, max_row_tokens: int = 0) -> list[MicroBatch]:
        group = _made_up_group(prompt_tokens, self._config.vocab_size)
        responses = [
            TrainResponse(
                group=0,
                index=index,
                prompt_tokens=prompt_tokens,
                response_tokens=RESPONSE_TOKENS,
                loss_tokens=RESPONSE_TOKENS,
                advantage=0.0,
                reward=0.0,
            )
            for index in range(NUM_RESPONSES)
        ]
        (plan,) = plan_minibatch(
            responses,
            loss_aggregation="token_mean",
            max_response_tokens=RESPONSE_TOKENS,
            max_tokens_per_microbatch=(prompt_tokens + RESPONSE_TOKENS) * NUM_RESPONSES,
            max_row_tokens=max_row_tokens,
            num_shards=1,
        )
        batches = plan_batches(plan, {0: group}, pad_token_id=0, device=self._device)
        return [batch.tensors() for batch in batches]


def _made_up_group(prompt_tokens: int, vocab_size: int) -> PromptGroup:
    """A prompt and responses of random tokens, the same ones every time."""
    rng = np.random.default_rng(0)

    def tokens(count: int) -> np.ndarray:
        return rng.integers(vocab_size, size=count, dtype=np.int32)

    responses = tuple(
        Response(
            token_ids=tokens(RESPONSE_TOKENS),
            loss_mask=np.ones(RESPONSE_TOKENS, dtype=bool),
            logprobs=np.zeros(RESPONSE_TOKENS, dtype=np.float32),
            finish_reason="stop",
            reward=0.0,
            is_correct=None,
            text="",
        )
        for _ in range(NUM_RESPONSES)
    )
    return PromptGroup(
        seed=0,
        prompt="",
        prompt_ids=tokens(prompt_tokens),
        responses=responses,
        weights_version=0,
    )


@contextmanager
def _attention(module: CausalLMModule, kernel: str) -> Iterator[None]:
    before = str(module.lm.config._attn_implementation)
    module.set_attention(kernel)
    try:
        yield
    finally:
        module.set_attention(before)


def _describe(adjustment: LogitAdjustment) -> str:
    scale = f"a scale of {adjustment.scale:g}" if adjustment.scale != 1.0 else ""
    cap = f"a cap of {adjustment.cap:g}" if adjustment.cap is not None else ""
    return " and ".join(filter(None, (scale, cap)))


def _largest(some: Sequence[Tensor], others: Sequence[Tensor]) -> float:
    """Largest difference; infinite where there is anything that is not a number."""
    gap = max(float((a - b).abs().max()) for a, b in zip(some, others, strict=True))
    return gap if gap == gap else float("inf")


def _together(what: str) -> ModelFinding:
    return ModelFinding(check=SHARED_ROWS, verdict="right", detail=f"those of separate rows{what}")


def _separate(why: str) -> ModelFinding:
    return ModelFinding(
        check=SHARED_ROWS,
        verdict="slower",
        detail=f"{why}: each response has a row of its own; set training.max_shared_row_tokens=0 "
        "to say so",
    )
