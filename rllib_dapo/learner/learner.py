"""The Learner: mini-batches made of micro-batches, one optimizer step each."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ray
import torch
from ray.rllib.core import COMPONENT_OPTIMIZER, COMPONENT_RL_MODULE, DEFAULT_MODULE_ID
from ray.rllib.core.learner.learner import Learner
from ray.rllib.core.learner.torch.torch_learner import TorchLearner
from ray.rllib.utils.annotations import override
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from rllib_dapo.core import collate, dapo_objective, importance_weights, sequences_within
from rllib_dapo.learner.collectives import rank, world_size
from rllib_dapo.learner.logprob_gap import GapReport, measure_gap
from rllib_dapo.learner.module import CausalLMModule
from rllib_dapo.learner.old_logprobs import prepare
from rllib_dapo.learner.rank_checkpoint import (
    fingerprint,
    folder_to_read,
    folder_to_write,
    load_rank,
    read_rank,
    save_rank,
)
from rllib_dapo.learner.schedule import learning_rate_factor
from rllib_dapo.learner.statistics import TokenStatistics
from rllib_dapo.learner.training_data import GroupTrainingData, MicroBatch, MicroBatches, MiniBatch
from rllib_dapo.metrics import metric_table as names
from rllib_dapo.metrics.learner_metrics import learner_metrics
from rllib_dapo.threads import set_num_threads
from rllib_dapo.weight_transfer import cut_into_pieces

if TYPE_CHECKING:
    from rllib_dapo.config.dapo_config import DAPOConfig

logger = logging.getLogger(__name__)


class DAPOTorchLearner(TorchLearner):
    """Trains a `CausalLMModule` with the loss of `core.objective`; several of them share the work under DDP.

    RLlib's update loop stays in charge (metrics, counters, hooks); what it iterates over are the
    planned mini-batches of `GroupTrainingData`, and an update of one of them accumulates gradients
    over its micro-batches. `compute_loss_for_module` is the place to override for another loss.

    Every Learner makes the same calls in the same order, with an empty micro-batch where it has no
    work: the plan gives all of them equally many.
    """

    config: DAPOConfig

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
        if not torch.cuda.is_available():
            # Transformers asks DeepSpeed, where it is installed, for the accelerator, and it warns
            # if nobody chose one.
            os.environ.setdefault("DS_ACCELERATOR", "cpu")
        self._statistics = TokenStatistics()
        self.updates_after_warmup = 0
        self.importance_cap = self.config.importance_cap
        super().build()

    @override(TorchLearner)
    def configure_optimizers_for_module(
        self, module_id: str, config: DAPOConfig | None = None
    ) -> None:
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
        self, *, module_id: str, config: DAPOConfig, batch: MicroBatch, fwd_out: dict[str, Tensor]
    ) -> Tensor:
        """The loss of one micro-batch: its part of the mini-batch's sum.

        Args:
            module_id: Whose loss.
            config: The algorithm's configuration.
            batch: A micro-batch of `core.collate`, with what `learner.preparation` added. Without
                `old_logprobs` `[B, T]` the policy being trained is still the old one (the first
                mini-batch of an update).
            fwd_out: `logprobs`, `entropy` and perhaps `values`, `[B, T]`; see `learner.forward`.
        """
        logprobs = fwd_out["logprobs"]
        old_logprobs = batch.get("old_logprobs", logprobs.detach())
        mask, token_weights = self._correct_sampler(batch, old_logprobs, config)
        loss, statistics = dapo_objective(
            logprobs=logprobs,
            old_logprobs=old_logprobs,
            advantages=batch["advantages"],
            mask=mask,
            weights=batch["weights"],
            epsilon_low=config.epsilon_low,
            epsilon_high=config.epsilon_high,
            dual_clip=config.dual_clip,
            ratio_level=config.ratio_level,
            token_weights=token_weights,
            entropy=fwd_out["entropy"],
            entropy_coefficient=config.entropy_coefficient,
            ref_logprobs=batch.get("ref_logprobs"),
            kl_coefficient=config.kl_coefficient if config.kl_placement == "loss" else 0.0,
            kl_estimator=config.kl_estimator,
            values=fwd_out.get("values"),
            old_values=batch.get("old_values"),
            returns=batch.get("returns"),
            value_loss_coefficient=config.value_loss_coefficient if config.has_critic else 0.0,
            value_clip=config.value_clip,
        )
        self._statistics.maximum(
            **{name: value for name, value in statistics.items() if name.endswith("_max")}
        )
        self._statistics.add(
            **{name: value for name, value in statistics.items() if not name.endswith("_max")}
        )
        self._statistics.add(
            response_tokens=batch["mask"].sum(),
            entropy_sum=fwd_out["entropy"].sum(),
            probability_sum=logprobs.detach()[batch["mask"]].exp().sum(),
        )
        return loss

    def _correct_sampler(
        self, batch: MicroBatch, old_logprobs: Tensor, config: DAPOConfig
    ) -> tuple[Tensor, Tensor | None]:
        """Which tokens have a gradient, and their importance weights against the engine's probabilities."""
        mask, sampler = batch.get("token_mask", batch["mask"]), batch["sampler_logprobs"]
        if config.importance_sequence_bounds is not None:
            low, high = config.importance_sequence_bounds
            within = sequences_within(old_logprobs, sampler, batch["mask"], low=low, high=high)
            self._statistics.add(responses=len(within), masked_responses=(~within).sum())
            mask = mask & within[:, None]
        if self.importance_cap is None:
            return mask, None
        weights = importance_weights(old_logprobs, sampler, batch["mask"], cap=self.importance_cap)
        self._statistics.add(
            importance_capped=(weights >= self.importance_cap)[batch["mask"]].sum()
        )
        return mask, weights

    @override(TorchLearner)
    def _update(self, batch: dict[str, MicroBatches]) -> tuple[dict, dict[str, Tensor], dict]:
        losses = {
            module_id: self._train_minibatch(module_id, micro) for module_id, micro in batch.items()
        }
        return {}, losses, {}

    def _train_minibatch(self, module_id: str, minibatch: MicroBatches) -> Tensor:
        """Accumulates the gradient of one mini-batch and takes one optimizer step."""
        config = self.config.get_config_for_module(module_id)
        total = torch.zeros((), device=self._device)
        for i, batch in enumerate(minibatch.batches):
            with self._accumulation(module_id, is_last=i == len(minibatch.batches) - 1):
                fwd_out = self.forward_micro_batch(batch)
                loss = self.compute_loss_for_module(
                    module_id=module_id, config=config, batch=batch, fwd_out=fwd_out
                )
                self._backward(loss)
            self._measure_gap(batch, fwd_out, is_first=minibatch.is_first)
            total += loss.detach()
        norm = self._step(module_id, lr=self._next_lr(minibatch.progress))
        if norm is None:
            logger.warning(
                "the gradient of %s is not finite; this optimizer step is left out", module_id
            )
            self._statistics.add_common(skipped_updates=1)
        else:
            self._statistics.add_common(gradient_updates=1, gradient_norm=norm)
            self._statistics.maximum(gradient_norm_max=norm)
            self.updates_after_warmup += minibatch.progress >= config.warmup_steps
        self._statistics.add(total_loss=total)
        self._statistics.add_common(minibatches=1)
        return total * world_size()  # RLlib takes the mean over Learners

    def forward_micro_batch(self, batch: MicroBatch) -> dict[str, Tensor]:
        """The module's outputs; DDP's wrapper only takes part where there is a gradient to share."""
        module = self.module[DEFAULT_MODULE_ID]
        return (module if torch.is_grad_enabled() else module.unwrapped()).forward_train(batch)

    def _accumulation(self, module_id: str, *, is_last: bool) -> AbstractContextManager[None]:
        """DDP shares gradients in the last micro-batch's backward pass, and in no other."""
        module = self.module[module_id]
        return (
            nullcontext()
            if is_last or not isinstance(module, DistributedDataParallel)
            else module.no_sync()
        )

    def _backward(self, loss: Tensor) -> None:
        """Adds to the gradient. DDP takes the mean over Learners of what is a sum."""
        (loss * world_size()).backward()

    def _step(self, module_id: str, *, lr: float) -> Tensor | None:
        """Clips the gradient's global norm and takes an optimizer step, unless the gradient is not finite.

        Returns:
            The norm before clipping; None if the step was left out.
        """
        optimizer = self.get_optimizer(module_id)
        self._set_optimizer_lr(optimizer, lr=lr)
        limit = self.config.grad_clip if self.config.grad_clip is not None else float("inf")
        norm = torch.nn.utils.clip_grad_norm_(self._optimizer_parameters[optimizer], limit)
        is_finite = bool(torch.isfinite(norm))
        if is_finite:
            optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return norm if is_finite else None

    def _next_lr(self, progress: float) -> float:
        config = self.config
        return config.lr * learning_rate_factor(
            progress=progress,
            warmup_steps=config.warmup_steps,
            updates_after_warmup=self.updates_after_warmup,
            schedule=config.lr_schedule,
            decay_updates=config.lr_decay_updates,
            end_fraction=config.lr_end_fraction,
        )

    @torch.no_grad()
    def _measure_gap(
        self, micro: MicroBatch, fwd_out: dict[str, Tensor], *, is_first: bool
    ) -> None:
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

    @override(Learner)
    def _create_iterator_if_necessary(
        self, *, training_data: GroupTrainingData, **kwargs: Any
    ) -> Iterable[MiniBatch]:
        """The planned mini-batches, with what must be computed before the policy moves."""
        (plans,) = training_data.shards
        minibatches = [
            MicroBatches(
                batches=self.collate(plan, training_data),
                progress=self._weights_seq_no - 1 + (i + 1) / len(plans),
                is_first=i == 0,
            )
            for i, plan in enumerate(plans)
        ]
        prepare(
            minibatches,
            self.config,
            forward=self.forward_micro_batch,
            reference=self.policy_module.reference_logprobs,
        )
        return [MiniBatch(policy_batches={DEFAULT_MODULE_ID: micro}) for micro in minibatches]

    def collate(self, plan: Any, training_data: GroupTrainingData) -> list[MicroBatch]:
        """The tensors of a planned mini-batch, and which response each row of them is."""
        pad = self.policy_module.lm.config.pad_token_id
        batches = []
        for micro in plan:
            batch = collate(
                micro, training_data.groups, pad_token_id=0 if pad is None else int(pad)
            )
            batch["groups"] = torch.tensor([r.group for r in micro.responses], dtype=torch.long)
            batch["indices"] = torch.tensor([r.index for r in micro.responses], dtype=torch.long)
            batches.append({name: tensor.to(self._device) for name, tensor in batch.items()})
        return batches

    def measure_start_gap(self, shards: list[GroupTrainingData]) -> GapReport:
        """Scores responses that the engine sampled under the same weights; see `learner.gap`.

        Args:
            shards: For each Learner, responses to score.
        """
        data = shards[rank()]
        data.solve_refs()
        ((plan,),) = data.shards
        return measure_gap(self.collate(plan, data), self.policy_module, self.forward_micro_batch)

    def weight_pieces(self) -> list[ray.ObjectRef]:
        """Puts the weights, as an engine wants them, into the object store piece by piece.

        All Learners must be asked at the same time; the first of them has the answer, the others'
        is empty.
        """
        return [
            ray.put(piece)
            for piece in cut_into_pieces(self._engine_weights(), dtype=self.policy_module.settings.dtype)
        ]

    def _engine_weights(self) -> Iterator[tuple[str, Tensor]]:
        """The language model's weights by their Hugging Face names, on the first Learner; nothing on the others."""
        if rank() == 0:
            yield from self.policy_module.lm.state_dict().items()

    def save_rank(self, checkpoint: Path, node_ip: str) -> int:
        """Saves this Learner's part of a checkpoint on the driver's node; all Learners at the same time.

        Returns:
            The fingerprint of its weights.
        """
        with folder_to_write(checkpoint, node_ip) as folder:
            return save_rank(self, folder)

    def load_rank(self, checkpoint: Path, node_ip: str) -> int:
        """Restores what `save_rank` saved, and returns the fingerprint of the weights that it then has."""
        with folder_to_read(checkpoint, node_ip) as folder:
            return load_rank(self, folder)

    def training_state(self, checkpoint: Path) -> dict[str, Any]:
        """What `save_rank` keeps: tensors and plain values. Equal on all Learners, so the first one's is enough."""
        optimizer = self.get_optimizer(DEFAULT_MODULE_ID)
        return {"optimizer": optimizer.state_dict()} if rank() == 0 else {}

    def set_training_state(self, state: dict[str, Any], checkpoint: Path) -> None:
        """Takes `training_state` back."""
        if rank() > 0:
            state = read_rank(checkpoint, 0)
        self.get_optimizer(DEFAULT_MODULE_ID).load_state_dict(state["optimizer"])

    def fingerprint(self) -> int:
        """A number that changes with any weight that this Learner holds."""
        return fingerprint(self.policy_module.parameters())

    @property
    def weights_version(self) -> int:
        """How many updates the weights have seen (RLlib's `weights_seq_no`)."""
        return self._weights_seq_no

    @property
    def sharding(self) -> str:
        """What a checkpoint says of how the training state is spread over Learners."""
        return "none"

    @override(Learner)
    def get_state(
        self,
        components: Any = None,
        *,
        not_components: Any = None,
        for_checkpoint: bool = False,
        **kwargs: Any,
    ) -> dict[str, Any]:
        """RLlib's state.

        Args:
            components: RLlib's.
            not_components: RLlib's.
            for_checkpoint: Without weights and optimizer: every Learner writes its own to disk
                itself.
            **kwargs: RLlib's.
        """
        if not for_checkpoint:
            return super().get_state(components, not_components=not_components, **kwargs)
        state = super().get_state(
            not_components=[COMPONENT_RL_MODULE, COMPONENT_OPTIMIZER], **kwargs
        )
        return state | {COMPONENT_RL_MODULE: {module_id: {} for module_id in self.module.keys()}}  # noqa: SIM118

    @property
    def policy_module(self) -> CausalLMModule:
        """The module itself, without DDP's wrapper."""
        return self.module[DEFAULT_MODULE_ID].unwrapped()

    @override(TorchLearner)
    def after_gradient_based_update(self, *, timesteps: dict[str, Any]) -> None:
        """Logs the update's totals as token-weighted figures, the same on every Learner."""
        super().after_gradient_based_update(timesteps=timesteps)
        self._statistics.reduce()
        self.metrics.log_dict(learner_metrics(self._statistics), key=DEFAULT_MODULE_ID, window=1)
        self.metrics.log_value(
            (DEFAULT_MODULE_ID, names.NUM_GRADIENT_UPDATES_LIFETIME),
            # RLlib adds up what Learners report.
            int(self._statistics.sum("gradient_updates")) if rank() == 0 else 0,
            reduce="lifetime_sum",
        )
        self._statistics = TokenStatistics()

    @override(Learner)
    def _set_slicing_by_batch_id(self, batch: MiniBatch, *, value: bool) -> MiniBatch:
        """Nothing is sliced: the plan already says what belongs together."""
        return batch
