"""The Learner on DeepSpeed: training state sharded over all Learners (ZeRO 0 to 3).

Micro-batches, loss and schedule are `DAPOTorchLearner`'s. Here is only what DeepSpeed does itself:
the wrapped forward pass, reduction and clipping of gradients, the step, and the way weights and
optimizer state get out and in. In float32 all kinds of Learners agree to 3e-7.

Under ZeRO-3 the module's weights were sharded while they were read; see `learner.zero_weights`.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import deepspeed
import torch
import torch.distributed as dist
from deepspeed.runtime.zero.partition_parameters import ZeroParamStatus
from ray.rllib.core import DEFAULT_MODULE_ID
from ray.rllib.core.learner.learner import Learner
from ray.rllib.core.learner.torch.torch_learner import TorchLearner
from ray.rllib.core.rl_module.multi_rl_module import MultiRLModule
from ray.rllib.utils.annotations import override
from torch import Tensor, nn
from torch._C._distributed_c10d import HashStore

from rllib_dapo.learner.collectives import rank, world_size
from rllib_dapo.learner.deepspeed_config import (
    frozen_config,
    resolve_deepspeed_config,
    zero_stage,
)
from rllib_dapo.learner.learner import DAPOTorchLearner
from rllib_dapo.learner.model_folder import MODULE_PATH, VALUE_HEAD
from rllib_dapo.learner.optimizer import parameter_groups, set_learning_rates
from rllib_dapo.learner.rank_checkpoint import fingerprint
from rllib_dapo.learner.reference import Reference
from rllib_dapo.learner.schedule import LearningRates
from rllib_dapo.learner.training_data import MicroBatch

FOLDER, TAG = "deepspeed", "state"
PARAMETER_GROUPS = "parameter_groups"


class DeepSpeedLearner(DAPOTorchLearner):
    """Trains under DeepSpeed, with the configuration of `DAPOConfig.deepspeed`."""

    @override(TorchLearner)
    def build(self) -> None:
        """Joins the process group of all Learners, or makes one of its own, then builds."""
        self._settings = resolve_deepspeed_config(self.config)
        self._stage = zero_stage(self._settings)

        # On CPUs DeepSpeed would compile a library for messages in shared memory, which gloo does
        # without a compiler.
        deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False

        self._reference_engines: list[Any] = []
        self._owns_process_group = _join_process_group()
        super().build()

    @override(Learner)
    def shutdown(self) -> None:
        """Frees what DeepSpeed holds, and ends a process group that nobody else is in."""
        super().shutdown()
        for engine in (self._engine, *self._reference_engines):
            engine.destroy()
        if self._owns_process_group:
            deepspeed.comm.destroy_process_group()
            self._owns_process_group = False

    @override(TorchLearner)
    def _map_module_to_device(self, module: MultiRLModule) -> None:
        """Leaves weights that are to be sharded in main memory, where DeepSpeed takes them from."""
        if self._stage < 3:
            super()._map_module_to_device(module)

    @override(TorchLearner)
    def _make_modules_ddp_if_necessary(self) -> None:
        """Has DeepSpeed take the module over, where RLlib would wrap it for DDP."""
        module = self.policy_module
        if self._stage == 3 and module.adapter is None:
            module.wrap_reference(self._shard_reference)

        own_optimizer = self.get_optimizer(DEFAULT_MODULE_ID)
        self._engine, *_ = deepspeed.initialize(
            model=module,
            optimizer=None if "optimizer" in self._settings else own_optimizer,
            model_parameters=parameter_groups(module),
            config=self._settings,
        )
        if self._stage == 3 and module.adapter is not None:  # the engine gathers what is asked
            module.wrap_reference(lambda reference: reference.asked_through(self._engine))

    def _shard_reference(self, reference: Reference) -> Reference:
        """Has DeepSpeed gather the reference's weights as they are needed."""
        engine, *_ = deepspeed.initialize(model=reference, config=frozen_config(self._settings))
        self._reference_engines.append(engine)
        return engine

    @override(DAPOTorchLearner)
    def forward_micro_batch(self, batch: MicroBatch) -> dict[str, Tensor]:
        """The module's outputs, through DeepSpeed's hooks, which gather what is sharded."""
        return self._engine(batch)

    @override(DAPOTorchLearner)
    def _accumulation(self, module_id: str, *, is_last: bool) -> AbstractContextManager[None]:
        if self._stage == 0:
            # Without ZeRO the last backward pass reduces, so the norm is known before the step.
            self._engine.set_gradient_accumulation_boundary(is_last)
        return nullcontext()

    @override(DAPOTorchLearner)
    def _backward(self, loss: Tensor) -> None:
        """Adds to the gradient. DeepSpeed takes the mean over Learners of what is a sum."""
        self._engine.backward(loss * world_size())

    @property
    @override(DAPOTorchLearner)
    def waits_for_every_gradient(self) -> bool:
        """Always: it reduces, shards and releases as gradients come in."""
        return True

    @property
    @override(DAPOTorchLearner)
    def step_optimizer(self) -> torch.optim.Optimizer:
        """The optimizer inside DeepSpeed's."""
        return self._engine.basic_optimizer

    @override(DAPOTorchLearner)
    def _step(self, module_id: str, *, rates: LearningRates) -> Tensor | None:
        for optimizer in (self.get_optimizer(module_id), self.step_optimizer):
            set_learning_rates(optimizer, rates)
        if self._stage == 0:
            return self._step_unsharded()

        self._engine.step()
        if not self._engine.was_step_applied():
            return None
        return torch.as_tensor(float(self._engine.get_global_grad_norm()))

    def _step_unsharded(self) -> Tensor | None:
        """Stage 0: DeepSpeed reduces and steps; torch clips, and returns the norm."""
        params = [p for p in self._engine.module.parameters() if p.requires_grad]
        limit = self.config.grad_clip if self.config.grad_clip is not None else float("inf")
        norm = torch.nn.utils.clip_grad_norm_(params, limit)
        if not torch.isfinite(norm):
            self._engine.zero_grad()
            return None
        self._engine.step()
        return norm

    @override(DAPOTorchLearner)
    def engine_weights(self, *, everywhere: bool = False) -> Iterator[tuple[str, Tensor]]:
        """See `DAPOTorchLearner.engine_weights`; sharded weights are gathered on the way."""
        module = self.policy_module
        if module.adapter is not None:
            weights = module.adapter.merged_weights(module.lm, self.gather)
        else:
            weights = self._whole_weights(module.lm)
        if rank() == 0 or everywhere:
            yield from module.checkpoint_format.to_checkpoint(weights)
        else:
            deque(weights, maxlen=0)  # takes part in the gathering, and keeps nothing

    def _whole_weights(self, model: nn.Module) -> Iterator[tuple[str, Tensor]]:
        """All weights and buffers by name, on every Learner.

        The parameters of one module are gathered at a time. All Learners must take part, so all of
        them must go through the whole iterator.
        """
        saved = set(model.state_dict(keep_vars=True))
        for prefix, module in model.named_modules():
            own = dict(
                module.named_parameters(prefix=prefix, recurse=False, remove_duplicate=False)
            )
            with self.gather(list(own.values())) as is_gathered:
                # A gathered weight is gone when the next one comes, but a layer may be converted
                # as a whole.
                yield from (
                    (name, p.data.clone() if is_gathered else p.data)
                    for name, p in own.items()
                    if name in saved
                )

            buffers = module.named_buffers(prefix=prefix, recurse=False)
            yield from ((name, buffer) for name, buffer in buffers if name in saved)

    @contextmanager
    def gather(self, parameters: list[nn.Parameter]) -> Iterator[bool]:
        """Gathers what is sharded among some parameters, and says whether anything was.

        Args:
            parameters: Whole and sharded ones; the same on all Learners.
        """
        sharded = [
            p
            for p in parameters
            if hasattr(p, "ds_status") and p.ds_status is not ZeroParamStatus.AVAILABLE
        ]
        with deepspeed.zero.GatheredParameters(sharded) if sharded else nullcontext():
            yield bool(sharded)

    @override(DAPOTorchLearner)
    def move_training_state(self, device: torch.device) -> None:
        """Nothing: on a GPU, `rollout.colocate` wants it offloaded to main memory at all times."""

    @override(DAPOTorchLearner)
    def training_state(self, checkpoint: Path) -> dict[str, Any]:
        """Has DeepSpeed write its shards, and gathers sharded weights for the model's folder."""
        (checkpoint / FOLDER / TAG).mkdir(parents=True, exist_ok=True)
        self._engine.save_checkpoint(
            str(checkpoint / FOLDER), tag=TAG, exclude_frozen_parameters=self._has_adapter
        )
        if self._stage == 3:
            self._write_model(checkpoint / MODULE_PATH)
        return {PARAMETER_GROUPS: len(self.step_optimizer.param_groups)}

    @property
    def _has_adapter(self) -> bool:
        """Whether most of the module is a base that every Learner has read by itself."""
        return self.policy_module.adapter is not None

    def _write_model(self, folder: Path) -> None:
        """Writes what the module cannot save by itself; see `CausalLMModule.save_to_path`."""
        weights = self._saved_weights()
        try:
            if rank() == 0:
                folder.mkdir(parents=True, exist_ok=True)
                self.policy_module.write_model(folder, weights)
        finally:
            # Whoever writes nothing, or can write no more, still takes part in the gathering.
            deque(weights, maxlen=0)

    def _saved_weights(self) -> Iterator[tuple[str, Tensor]]:
        """All weights by their names in a checkpoint, on the first Learner alone."""
        adapter = self.policy_module.adapter
        for named in self.engine_weights() if adapter is None else adapter.weights(self.gather):
            if rank() == 0:
                yield named

        head = self.policy_module.value_head
        for name, tensor in () if head is None else self._whole_weights(head):
            if rank() == 0:
                yield VALUE_HEAD + name, tensor

    @override(DAPOTorchLearner)
    def set_training_state(self, state: dict[str, Any], checkpoint: Path) -> None:
        """Has DeepSpeed read its shards.

        Raises:
            FileNotFoundError: If there are none.
            ValueError: If parameters were in other groups then, by which shards are cut.
        """
        groups, own = state.get(PARAMETER_GROUPS, 1), len(self.step_optimizer.param_groups)
        if groups != own:
            raise ValueError(
                f"{checkpoint} was written with {groups} group(s) of parameters under "
                f"{self.sharding}, but policy and value head now make {own} (critic.lr), and "
                "shards cannot be cut anew: resume with the version that wrote it, or go on from "
                "its model (`rllib-dapo export`)"
            )

        path, _ = self._engine.load_checkpoint(
            str(checkpoint / FOLDER), tag=TAG, load_module_strict=not self._has_adapter
        )
        if path is None:
            raise FileNotFoundError(f"DeepSpeed found no state in {checkpoint / FOLDER}")

    @property
    @override(DAPOTorchLearner)
    def sharding(self) -> str:
        """The ZeRO stage."""
        return f"ZeRO {self._stage}"

    @override(DAPOTorchLearner)
    def fingerprint(self) -> int:
        """A number that changes with the part of any weight that this Learner holds."""
        return fingerprint(getattr(p, "ds_tensor", p) for p in self.policy_module.parameters())


def _join_process_group() -> bool:
    """Sets the variables in which DeepSpeed looks for the process group.

    RLlib has connected the Learners by now, but without these variables. A Learner without a
    process of its own has nobody to connect to: it is a group of one.

    Returns:
        Whether the group was made here.
    """
    is_alone = not dist.is_initialized()
    if is_alone:
        # Whoever ended an earlier group may not have told DeepSpeed, as vLLM does not. It would go
        # on with its copies of that one, and forgets them only when it ends a group itself.
        _connect(alone=True)
        deepspeed.comm.destroy_process_group()
    _connect(alone=is_alone)
    return is_alone


def _connect(*, alone: bool) -> None:
    """Has DeepSpeed use the process group, which is made first for a Learner that is alone."""
    if alone:
        backend = "nccl" if torch.cuda.is_available() else "gloo"
        dist.init_process_group(backend, store=HashStore(), rank=0, world_size=1)

    os.environ.update(
        RANK=str(dist.get_rank()),
        WORLD_SIZE=str(dist.get_world_size()),
        LOCAL_RANK="0",  # a Learner sees only the GPU that is its own
    )
    # Sharding begins before `deepspeed.initialize` would do this.
    deepspeed.init_distributed(dist.get_backend(), auto_mpi_discovery=False)
