"""The Learner: mini-batches made of micro-batches, one optimizer step each."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from ray.rllib.core import DEFAULT_MODULE_ID
from ray.rllib.core.learner.learner import Learner
from ray.rllib.core.learner.torch.torch_learner import TorchLearner
from ray.rllib.utils.annotations import override
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from rllib_dapo.core import dapo_objective
from rllib_dapo.core.batching import MiniBatchPlan
from rllib_dapo.learner.collectives import rank, world_size
from rllib_dapo.learner.critic_warmup import critics_outputs, is_critic_alone
from rllib_dapo.learner.logprob_gap import GapReport, measure_gap, token_gaps
from rllib_dapo.learner.lora_adapter import Gather, whole_already
from rllib_dapo.learner.module import CausalLMModule
from rllib_dapo.learner.old_logprobs import prepare_minibatches
from rllib_dapo.learner.optimizer import (
    critic_steps_alone,
    make_optimizer,
    parameter_groups,
    set_learning_rates,
)
from rllib_dapo.learner.planned_batch import MicroBatch, PlannedBatch, made_ahead
from rllib_dapo.learner.policy_objective import policy_objective
from rllib_dapo.learner.rank_checkpoint import CheckpointedLearner
from rllib_dapo.learner.resting import RestingLearner
from rllib_dapo.learner.sampler_correction import correct_sampler
from rllib_dapo.learner.schedule import LearningRates, is_after_warmup, learning_rates
from rllib_dapo.learner.statistics import TokenStatistics
from rllib_dapo.learner.training_data import (
    GroupTrainingData,
    MicroBatches,
    MiniBatch,
    plan_batches,
)
from rllib_dapo.learner.watched import WatchedLearner
from rllib_dapo.learner.weight_source import WeightSender
from rllib_dapo.metrics.learner_metrics import learner_metrics
from rllib_dapo.metrics.metric_table import NUM_GRADIENT_UPDATES_LIFETIME, SKIPPED_IN_A_ROW
from rllib_dapo.threads import set_num_threads

if TYPE_CHECKING:
    from rllib_dapo.config.dapo_config import DAPOConfig
    from rllib_dapo.weight_transfer.pieces import WeightPieces

logger = logging.getLogger(__name__)


class DAPOTorchLearner(WatchedLearner, RestingLearner, CheckpointedLearner):
    """Trains a `CausalLMModule` with the loss of `core.objective`; several share the work by DDP.

    RLlib's update loop stays in charge (metrics, counters, hooks). It iterates over the planned
    mini-batches of `GroupTrainingData`, and an update of one of them accumulates gradients over its
    micro-batches. `compute_loss_for_module` is the place to override for another loss.

    Every Learner makes the same calls in the same order, with an empty micro-batch where it has no
    work: the plan gives all of them equally many.
    """

    config: DAPOConfig
    weight_sender: WeightSender | None = None  # where weights go to engines directly
    weight_pieces: WeightPieces | None = None  # where they go through the object store
    gather: Gather = staticmethod(whole_already)  # makes sharded weights whole

    def __repr__(self) -> str:
        """`DAPOTorchLearner, one of 2 · tiny`: what Ray's dashboard and logs call this actor.

        Ray asks once, when the actor has been made, and RLlib numbers Learners only after that.
        """
        # The class of the actor is one that RLlib derives.
        name = next(cls.__name__ for cls in type(self).__mro__ if not cls.__name__.startswith("_"))
        place = f", one of {self.config.num_learners}" if self.config.num_learners > 1 else ""
        return f"{name}{place} · {Path(str(self.config.model_name)).name}"

    @override(TorchLearner)
    def build(self) -> None:
        """Takes its share of the CPU, then builds module and optimizer."""
        set_num_threads(self.config.num_threads, shared_by=max(1, self.config.num_learners))
        # Where there is a seed, RLlib asks torch for deterministic operations, which on a CPU also
        # fill memory that nobody has written yet: gigabytes, with DeepSpeed's buffers.
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
        if not torch.cuda.is_available():
            # Transformers asks DeepSpeed, where it is installed, for the accelerator, and DeepSpeed
            # warns if nobody chose one.
            os.environ.setdefault("DS_ACCELERATOR", "cpu")

        self._statistics = TokenStatistics()
        self.updates_after_warmup = 0
        self.skipped_in_a_row = 0
        self.importance_cap = self.config.applied_importance_cap  # the guard may set it
        super().build()

    @override(TorchLearner)
    def configure_optimizers_for_module(
        self, module_id: str, config: DAPOConfig | None = None
    ) -> None:
        """AdamW.

        Its learning rates are set before each step, so none of RLlib's schedules is attached.
        """
        groups = parameter_groups(self.module[module_id].unwrapped())
        optimizer = make_optimizer(groups, config or self.config)
        params = [p for group in groups for p in group["params"]]
        self.register_optimizer(module_id=module_id, optimizer=optimizer, params=params)

    @property
    def policy_module(self) -> CausalLMModule:
        """The module itself, without DDP's wrapper."""
        return self.module[DEFAULT_MODULE_ID].unwrapped()

    # The loss

    @override(TorchLearner)
    def compute_loss_for_module(
        self, *, module_id: str, config: DAPOConfig, batch: MicroBatch, fwd_out: dict[str, Tensor]
    ) -> Tensor:
        """The loss of one micro-batch: its part of the mini-batch's sum.

        Args:
            module_id: Id of the module.
            config: The algorithm's configuration.
            batch: Micro-batch of `core.collate`, with what `learner.old_logprobs` added. Without
                `old_logprobs` `[B, T]` the policy being trained is still the old one, as in the
                first mini-batch of an update.
            fwd_out: `logprobs`, `entropy` and perhaps `values`, `[B, T]`; see `learner.forward`.
        """
        logprobs = fwd_out["logprobs"]
        old_logprobs = batch.get("old_logprobs", logprobs.detach())
        selected, token_weights = correct_sampler(
            batch,
            old_logprobs,
            cap=self.importance_cap,
            sequence_bounds=config.importance_sequence_bounds,
            token_bounds=config.importance_token_bounds,
            statistics=self._statistics,
        )

        loss, statistics = dapo_objective(
            logprobs=logprobs,
            old_logprobs=old_logprobs,
            advantages=batch["advantages"],
            mask=batch["mask"],
            weights=batch["weights"],
            objective=policy_objective(config),
            ratio_level=config.ratio_level,
            token_weights=token_weights,
            selected=selected,
            entropy=fwd_out["entropy"],
            entropy_coefficient=config.entropy_coefficient,
            ref_logprobs=batch.get("ref_logprobs"),
            kl_coefficient=config.kl_coefficient if config.kl_placement == "loss" else 0.0,
            kl_estimator=config.kl_estimator,
            kl_importance_ratio=config.kl_importance_ratio,
            values=fwd_out.get("values"),
            old_values=batch.get("old_values"),
            returns=batch.get("returns"),
            value_loss_coefficient=config.value_loss_coefficient if config.has_critic else 0.0,
            value_clip=config.value_clip,
        )

        self._statistics.add_loss(statistics)
        self._statistics.add(
            response_tokens=batch["mask"].sum(),
            entropy_sum=fwd_out["entropy"].sum(),
            probability_sum=logprobs.detach()[batch["mask"]].exp().sum(),
        )
        return loss

    # The update

    @override(Learner)
    def _create_iterator_if_necessary(
        self, *, training_data: GroupTrainingData, **kwargs: Any
    ) -> Iterable[MiniBatch]:
        """The planned mini-batches, with what must be computed before the policy moves."""
        (plans,) = training_data.shards
        minibatches = [
            MicroBatches(
                batches=self.plan_batches(plan, training_data),
                progress=self._weights_seq_no - 1 + (i + 1) / len(plans),
                is_first=i == 0,
            )
            for i, plan in enumerate(plans)
        ]
        prepare_minibatches(
            minibatches,
            self.config,
            forward=self.forward_micro_batch,
            reference=self.policy_module.reference_logprobs,
        )
        return [MiniBatch(policy_batches={DEFAULT_MODULE_ID: micro}) for micro in minibatches]

    def plan_batches(
        self, plan: MiniBatchPlan, training_data: GroupTrainingData
    ) -> list[PlannedBatch]:
        """The micro-batches of a planned mini-batch, for this Learner's device."""
        pad_token_id = self.policy_module.lm.config.pad_token_id
        return plan_batches(
            plan,
            training_data.groups,
            pad_token_id=0 if pad_token_id is None else int(pad_token_id),
            device=self._device,
        )

    @override(TorchLearner)
    def _update(self, batch: dict[str, MicroBatches]) -> tuple[dict, dict[str, Tensor], dict]:
        losses = {
            module_id: self._train_minibatch(module_id, micro) for module_id, micro in batch.items()
        }
        return {}, {name: loss for name, loss in losses.items() if loss is not None}, {}

    def _train_minibatch(self, module_id: str, minibatch: MicroBatches) -> Tensor | None:
        """Accumulates the gradient of one mini-batch and takes one optimizer step.

        Returns:
            The loss; None if the step was left out.
        """
        config = self.config.get_config_for_module(module_id)
        critic_alone = is_critic_alone(config, minibatch.progress)
        forward = self.critics_outputs if critic_alone else self.forward_micro_batch
        total = torch.zeros((), device=self._device)
        before = self._statistics.copy()

        for i, batch in enumerate(made_ahead(minibatch.batches, PlannedBatch.tensors)):
            with self._accumulation(module_id, is_last=i == len(minibatch.batches) - 1):
                fwd_out = forward(batch)
                loss = self.compute_loss_for_module(
                    module_id=module_id, config=config, batch=batch, fwd_out=fwd_out
                )
                self._backward(loss)
            self._note_gap(batch, fwd_out, is_first=minibatch.is_first)
            total += loss.detach()

        rates = learning_rates(
            config,
            progress=minibatch.progress,
            updates_after_warmup=self.updates_after_warmup,
        )

        with critic_steps_alone(self.step_optimizer) if critic_alone else nullcontext():
            norm = self._step(module_id, rates=rates)

        if norm is None:
            logger.warning(
                "the gradient of %s is not finite; this optimizer step is left out", module_id
            )
            # Its figures would make NaN of those of the steps that were taken.
            self._statistics = before
            self.skipped_in_a_row += 1
            self._statistics.add_common(skipped_updates=1)
            return None

        self._statistics.add(total_loss=total)
        self._statistics.add_common(minibatches=1, gradient_updates=1, gradient_norm=norm)
        self._statistics.maximum(gradient_norm_max=norm)
        self.skipped_in_a_row = 0
        self.updates_after_warmup += is_after_warmup(config, minibatch.progress)
        return total * world_size()  # RLlib takes the mean over Learners

    def forward_micro_batch(self, batch: MicroBatch) -> dict[str, Tensor]:
        """The module's outputs; DDP's wrapper only takes part where there is a gradient to share.

        Args:
            batch: Micro-batch of `core.collate`.

        Returns:
            `logprobs`, `entropy` and perhaps `values`, `[B, T]`; see `learner.forward`.
        """
        self.num_forwarded += 1
        module = self.module[DEFAULT_MODULE_ID]
        return (module if torch.is_grad_enabled() else module.unwrapped()).forward_train(batch)

    def critics_outputs(self, batch: MicroBatch) -> dict[str, Tensor]:
        """The same, for a loss that is to train the critic alone; see `learner.critic_warmup`."""
        head = self.policy_module.value_head
        assert head is not None  # as there is a critic
        return critics_outputs(
            batch,
            forward=self.forward_micro_batch,
            value_head=head,
            zeros_elsewhere=self.waits_for_every_gradient,
        )

    @property
    def waits_for_every_gradient(self) -> bool:
        """Whether a backward pass must give every parameter a gradient, if only of zeros."""
        return isinstance(self.module[DEFAULT_MODULE_ID], DistributedDataParallel)

    @property
    def step_optimizer(self) -> torch.optim.Optimizer:
        """The optimizer that takes the steps."""
        return self.get_optimizer(DEFAULT_MODULE_ID)

    def _accumulation(self, module_id: str, *, is_last: bool) -> AbstractContextManager[None]:
        """DDP shares gradients in the last micro-batch's backward pass, and in no other."""
        module = self.module[module_id]
        if is_last or not isinstance(module, DistributedDataParallel):
            return nullcontext()
        return module.no_sync()

    def _backward(self, loss: Tensor) -> None:
        """Adds to the gradient. DDP takes the mean over Learners of what is a sum."""
        (loss * world_size()).backward()

    def _step(self, module_id: str, *, rates: LearningRates) -> Tensor | None:
        """Clips the gradient's global norm and takes an optimizer step, if the gradient is finite.

        Returns:
            The norm before clipping; None if the step was left out.
        """
        optimizer = self.get_optimizer(module_id)
        set_learning_rates(optimizer, rates)

        limit = self.config.grad_clip if self.config.grad_clip is not None else float("inf")
        norm = torch.nn.utils.clip_grad_norm_(self._optimizer_parameters[optimizer], limit)

        is_finite = bool(torch.isfinite(norm))
        if is_finite:
            optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return norm if is_finite else None

    @torch.no_grad()
    def _note_gap(self, batch: MicroBatch, fwd_out: dict[str, Tensor], *, is_first: bool) -> None:
        """Notes how far the sampler's log-probabilities are from the old policy's."""
        if is_first:
            old_logprobs = fwd_out["logprobs"]
        elif self.config.old_logprobs == "trainer":
            old_logprobs = batch["old_logprobs"]
        else:
            return  # nobody has computed them, and the policy has moved on

        gap = token_gaps(old_logprobs, batch)
        self._statistics.add(gap_sum=gap.sum(), gap_tokens=gap.numel())
        if gap.numel():
            self._statistics.maximum(gap_max=gap.max())

    @override(TorchLearner)
    def after_gradient_based_update(self, *, timesteps: dict[str, Any]) -> None:
        """Logs the update's totals as token-weighted figures, the same on every Learner."""
        super().after_gradient_based_update(timesteps=timesteps)
        self._statistics.reduce()
        figures = learner_metrics(self._statistics)
        figures[SKIPPED_IN_A_ROW] = self.skipped_in_a_row
        self.metrics.log_dict(figures, key=DEFAULT_MODULE_ID, window=1)
        self.metrics.log_value(
            (DEFAULT_MODULE_ID, NUM_GRADIENT_UPDATES_LIFETIME),
            # RLlib adds up what Learners report.
            int(self._statistics.sum("gradient_updates")) if rank() == 0 else 0,
            reduce="lifetime_sum",
        )
        self._statistics = TokenStatistics()

    @override(Learner)
    def _set_slicing_by_batch_id(self, batch: MiniBatch, *, value: bool) -> MiniBatch:
        """Nothing is sliced: the plan already says what belongs together."""
        return batch

    # What the driver asks for

    def measure_sampler_gap(self, shards: list[GroupTrainingData]) -> GapReport:
        """Scores responses that the engine sampled under the same weights; see `start_guard`.

        Args:
            shards: For each Learner, responses to score.
        """
        data = shards[rank()]
        data.solve_refs()
        ((plan,),) = data.shards
        batches = [batch.tensors() for batch in self.plan_batches(plan, data)]
        return measure_gap(batches, self.policy_module, self.forward_micro_batch)

    def engine_weights(self, *, everywhere: bool = False) -> Iterator[tuple[str, Tensor]]:
        """The language model's weights by their checkpoint's names.

        Args:
            everywhere: Whether they are wanted on every Learner, not on the first alone. Either
                way all Learners must go through the whole iterator at the same time.
        """
        if rank() == 0 or everywhere:
            yield from self.policy_module.whole_weights()

    @property
    def weights_version(self) -> int:
        """The number of updates that the weights have seen (RLlib's `weights_seq_no`)."""
        return self._weights_seq_no
