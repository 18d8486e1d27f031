"""The Learner: mini-batches made of micro-batches, one optimizer step each."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import torch
from ray.rllib.core import DEFAULT_MODULE_ID
from ray.rllib.core.learner.learner import Learner
from ray.rllib.core.learner.torch.torch_learner import TorchLearner
from ray.rllib.utils.annotations import override
from torch import Tensor

from rllib_dapo import metrics as names
from rllib_dapo.core import collate, dapo_policy_loss
from rllib_dapo.learner.schedule import warmup_factor
from rllib_dapo.learner.statistics import TokenStatistics
from rllib_dapo.learner.training_data import GroupTrainingData, MicroBatches, MiniBatch
from rllib_dapo.threads import set_num_threads

if TYPE_CHECKING:
    from rllib_dapo.config import DAPOConfig

logger = logging.getLogger(__name__)


class DAPOTorchLearner(TorchLearner):
    """Trains a `CausalLMModule` with the loss of `core.loss`.

    RLlib's update loop stays in charge (metrics, counters, hooks); what it iterates over are the planned mini-batches
    of `GroupTrainingData`, and an update of one of them accumulates gradients over its micro-batches.
    `compute_loss_for_module` is the place to override for another loss.
    """

    config: DAPOConfig

    @override(TorchLearner)
    def build(self) -> None:
        """Takes its share of the CPU, then builds module and optimizer."""
        set_num_threads(self.config.num_threads, shared_by=max(1, self.config.num_learners))
        self._statistics = TokenStatistics()
        super().build()

    @override(TorchLearner)
    def configure_optimizers_for_module(self, module_id: str, config: DAPOConfig | None = None) -> None:
        """AdamW. Its learning rate is set before each step, so none of RLlib's schedules is attached."""
        config = config or self.config
        params = [p for p in self.get_parameters(self.module[module_id]) if p.requires_grad]
        optimizer = torch.optim.AdamW(
            params,
            lr=config.lr,
            betas=(config.adam_betas[0], config.adam_betas[1]),
            eps=config.adam_epsilon,
            weight_decay=config.weight_decay,
            fused=True,
        )
        self.register_optimizer(module_id=module_id, optimizer=optimizer, params=params)

    @override(TorchLearner)
    def compute_loss_for_module(
        self, *, module_id: str, config: DAPOConfig, batch: dict[str, Tensor], fwd_out: dict[str, Tensor]
    ) -> Tensor:
        """The loss of one micro-batch: its part of the mini-batch's sum.

        Args:
            module_id: Whose loss.
            config: The algorithm's configuration.
            batch: A micro-batch of `core.collate`, with `old_logprobs` `[B, T]` unless the policy being trained is
                still the old one (the first mini-batch of an update).
            fwd_out: `logprobs` and `entropy` `[B, T]`, see `CausalLMModule`.
        """
        mask, logprobs = batch["mask"], fwd_out["logprobs"]
        old_logprobs = batch.get("old_logprobs", logprobs.detach())
        loss, statistics = dapo_policy_loss(
            logprobs,
            old_logprobs,
            batch["advantages"],
            mask,
            batch["weights"],
            epsilon_low=config.epsilon_low,
            epsilon_high=config.epsilon_high,
            dual_clip=config.dual_clip,
        )
        self._statistics.maximum(ratio_max=statistics.pop("ratio_max"))
        self._statistics.add(
            **statistics,
            entropy_sum=fwd_out["entropy"].sum(),
            probability_sum=logprobs.detach()[mask].exp().sum(),
        )
        return loss

    @override(TorchLearner)
    def _update(self, batch: dict[str, MicroBatches]) -> tuple[dict, dict[str, Tensor], dict]:
        losses = {module_id: self._train_minibatch(module_id, micro) for module_id, micro in batch.items()}
        return {}, losses, {}

    def _train_minibatch(self, module_id: str, minibatch: MicroBatches) -> Tensor:
        """Accumulates the gradient of one mini-batch and takes one optimizer step."""
        config = self.config.get_config_for_module(module_id)
        optimizer = self.get_optimizer(module_id)
        optimizer.zero_grad(set_to_none=True)
        total = torch.zeros((), device=self._device)
        for batch in minibatch.batches:
            micro = self._to_device(batch)
            fwd_out = self.module[module_id].forward_train(micro)
            self._measure_gap(micro, fwd_out, is_first=minibatch.is_first)
            loss = self.compute_loss_for_module(module_id=module_id, config=config, batch=micro, fwd_out=fwd_out)
            loss.backward()
            total += loss.detach()
        self._step(module_id, optimizer, lr=config.lr * warmup_factor(minibatch.progress, config.warmup_steps))
        self._statistics.add(policy_loss=total, minibatches=1)
        return total

    @torch.no_grad()
    def _measure_gap(self, micro: dict[str, Tensor], fwd_out: dict[str, Tensor], *, is_first: bool) -> None:
        """How far the sampler's log-probabilities are from the trainer's under the same weights."""
        if is_first:
            trainer = fwd_out["logprobs"]
        elif self.config.old_logprobs == "trainer":
            trainer = micro["old_logprobs"]
        else:
            return  # the policy has moved on
        gap = (trainer - micro["sampler_logprobs"]).abs()[micro["mask"]]
        self._statistics.add(gap_sum=gap.sum(), gap_tokens=gap.numel())
        if gap.numel():
            self._statistics.maximum(gap_max=gap.max())

    def _step(self, module_id: str, optimizer: torch.optim.Optimizer, *, lr: float) -> None:
        """Clips the global gradient norm and steps; a gradient that is not finite is counted and left out."""
        self._set_optimizer_lr(optimizer, lr=lr)
        params = self._optimizer_parameters[optimizer]
        limit = self.config.grad_clip if self.config.grad_clip is not None else float("inf")
        norm = torch.nn.utils.clip_grad_norm_(params, limit)
        if torch.isfinite(norm):
            optimizer.step()
            self._statistics.add(gradient_updates=1, gradient_norm=norm)
            self._statistics.maximum(gradient_norm_max=norm)
        else:
            logger.warning("gradient norm of %s is %s; this optimizer step is left out", module_id, float(norm))
            self._statistics.add(skipped_updates=1)

    @override(Learner)
    def _create_iterator_if_necessary(self, *, training_data: GroupTrainingData, **kwargs: Any) -> Iterable[MiniBatch]:
        """The planned mini-batches, with old log-probabilities where the policy will have moved on by then."""
        (plans,) = training_data.shards
        pad = self._pad_token_id()
        minibatches = [
            MicroBatches(
                batches=[collate(micro, training_data.groups, pad_token_id=pad) for micro in plan],
                progress=self._weights_seq_no - 1 + (i + 1) / len(plans),
                is_first=i == 0,
            )
            for i, plan in enumerate(plans)
        ]
        self._add_old_logprobs(minibatches)
        return [MiniBatch(policy_batches={DEFAULT_MODULE_ID: micro}) for micro in minibatches]

    @torch.no_grad()
    def _add_old_logprobs(self, minibatches: list[MicroBatches]) -> None:
        """Fixes the ratio's denominator before the first step.

        `old_logprobs="trainer"`: recomputed here, except for the first mini-batch, whose own forward pass is under
        the old policy anyway. `"sampler"`: what the engine reported. One ratio never mixes the two.
        """
        if self.config.old_logprobs == "sampler":
            for minibatch in minibatches:
                for batch in minibatch.batches:
                    batch["old_logprobs"] = batch["sampler_logprobs"]
            return
        for minibatch in minibatches[1:]:
            for batch in minibatch.batches:
                fwd_out = self.module[DEFAULT_MODULE_ID].forward_train(self._to_device(batch))
                batch["old_logprobs"] = fwd_out["logprobs"]

    def _to_device(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        return {name: tensor.to(self._device, non_blocking=True) for name, tensor in batch.items()}

    def _pad_token_id(self) -> int:
        pad = self.module[DEFAULT_MODULE_ID].unwrapped().lm.config.pad_token_id
        return 0 if pad is None else int(pad)

    @override(TorchLearner)
    def after_gradient_based_update(self, *, timesteps: dict[str, Any]) -> None:
        """Logs the update's totals as token-weighted figures."""
        super().after_gradient_based_update(timesteps=timesteps)
        self.metrics.log_dict(names.learner_metrics(self._statistics), key=DEFAULT_MODULE_ID, window=1)
        self.metrics.log_value(
            (DEFAULT_MODULE_ID, names.NUM_GRADIENT_UPDATES_LIFETIME),
            int(self._statistics.sum("gradient_updates")),
            reduce="lifetime_sum",
        )
        self._statistics = TokenStatistics()

    @override(Learner)
    def _set_slicing_by_batch_id(self, batch: MiniBatch, *, value: bool) -> MiniBatch:
        """Nothing is sliced: the plan already says what belongs together."""
        return batch
