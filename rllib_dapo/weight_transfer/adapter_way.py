"""The way of an adapter (LoRA): some megabytes through Ray's object store, to any engine.

An engine that takes no adapters is given whole weights, with the adapter merged into them.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import ray
from ray.rllib.core import DEFAULT_MODULE_ID
from ray.rllib.utils.annotations import override

from rllib_dapo.learner.collectives import rank
from rllib_dapo.rollout.adapter import Adapter
from rllib_dapo.weight_transfer.both_sides import ask_both_sides
from rllib_dapo.weight_transfer.object_store import ObjectStoreWay
from rllib_dapo.weight_transfer.transfer import Holding, TransferWay, WeightTransfer
from rllib_dapo.weight_transfer.wire.weight_arrays import to_numpy, to_tensors

if TYPE_CHECKING:
    from rllib_dapo.learner.learner import DAPOTorchLearner
    from rllib_dapo.rollout.engine import Engine
    from rllib_dapo.rollout.env_runner import TextEnvRunner

logger = logging.getLogger(__name__)

# The policy's name among the adapters of an engine.
POLICY = "policy"


class AdapterWay(TransferWay):
    """The first Learner puts the adapter into the store, and every engine fetches it."""

    def __init__(self, *args: Any, **options: Any) -> None:
        """Nothing is known yet of the engines.

        Args:
            *args: Of `TransferWay`.
            **options: Of `TransferWay`.
        """
        super().__init__(*args, **options)
        self._whole = ObjectStoreWay(*args, **options)
        self._engines_take_adapters: bool | None = None

    @override(TransferWay)
    def transfer(self) -> WeightTransfer:
        """See `TransferWay.transfer`."""
        members = self._members()
        if self._engines_take_adapters is None and members:
            self._engines_take_adapters = self._ask_engines(members)
        if self._engines_take_adapters is False:
            return self._whole.transfer()

        started = time.monotonic()
        answers = ask_both_sides(
            self._learner_group,
            self._env_runner_group,
            of_learner=lambda learner: (put_adapter(learner), learner.weights_version),
            runners=[],
            timeout_seconds=self._timeout_seconds,
            what="handing out the adapter",
        )
        stored, version = answers.learners[0]

        answers = ask_both_sides(
            self._learner_group,
            self._env_runner_group,
            of_learner=None,
            of_runner=take_adapter(stored, version),
            runners=members,
            timeout_seconds=self._time_left(started),
            timeout_setting=self._timeout_seconds,
            what=f"the transfer of version {version} of the adapter",
            deaths_end_it=not self._tolerates_deaths,
        )
        return self._outcome(version, answers.runners)

    def _ask_engines(self, members: list[int]) -> bool:
        answers = ask_both_sides(
            self._learner_group,
            self._env_runner_group,
            of_learner=None,
            of_runner=lambda runner: runner.module[DEFAULT_MODULE_ID].engine.takes_adapters,
            runners=members,
            timeout_seconds=self._timeout_seconds,
            what="the preparation of a transfer of the adapter",
        )
        takes = all(answers.runners.values())
        if not takes:
            logger.warning(
                "language_model.lora: the engines take no adapter for this model, so after each "
                "update they are given whole weights with the adapter merged into them"
            )
        return takes


def put_adapter(learner: DAPOTorchLearner) -> list[ray.ObjectRef]:
    """Puts a Learner's adapter, in the type of its engines, into the object store.

    All Learners must be asked at the same time.

    Args:
        learner: The Learner.

    Returns:
        A reference, in a list: a bare one would be fetched on the way. None on any Learner but the
        first.
    """
    module = learner.policy_module
    assert module.adapter is not None
    # Whoever puts nothing takes part in the gathering of sharded weights.
    weights = {
        name: to_numpy(tensor, module.settings.dtype)
        for name, tensor in module.adapter.weights(learner.gather)
    }
    if rank() > 0:
        return []
    return [ray.put((module.adapter.peft_config(str(module.model_config["name"])), weights))]


def take_adapter(stored: list[ray.ObjectRef], version: int) -> Callable[[TextEnvRunner], Holding]:
    """Gives an EnvRunner's engine the adapter, which its requests then ask for.

    Args:
        stored: What `put_adapter` returned.
        version: Version of the weights.
    """

    def take(runner: TextEnvRunner) -> Holding:
        config, arrays = ray.get(stored[0])
        adapter = Adapter(name=POLICY, config=config, weights=dict(to_tensors(arrays.items())))

        def load(engine: Engine) -> None:
            # Where another EnvRunner was restarted in the middle of a batch, all are given the same
            # weights again. An engine may not lose an adapter that it samples from.
            if not runner.samples_from(version):
                engine.load_adapter(adapter)

        holding = Holding.after(runner, load, version)
        runner.adapter = POLICY
        return holding

    return take
