"""Proof of arrival: does every engine hold, bit for bit, the weights that the Learners train?

A transfer may send the model that training began with for ever, leave a tensor out, send a tied
weight's old copy or one layer's tensor under another's name, and an engine may be restarted without
a word. None of it raises. So each engine answers with checksums of what it computes with, after
each transfer and again after each batch that it has sampled, and they are compared with checksums
of the Learners' own parameters: a block of columns of every tensor, another one each time.

Which tensors can be compared is found out, not assumed: at the start an engine has read the model's
folder by itself, as the Learners have. What gives equal checksums then must always do so.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any

from ray.rllib.core import DEFAULT_MODULE_ID

from rllib_dapo.findings import one_line
from rllib_dapo.learner.learner_group import ask_learners
from rllib_dapo.learner.weight_blocks import BlockChecksums, learner_checksums
from rllib_dapo.weight_checksums import MODULUS, BlockPart, WeightBlock

if TYPE_CHECKING:
    from rllib_dapo.algorithm import DAPO
    from rllib_dapo.rollout.env_runner import TextEnvRunner

logger = logging.getLogger(__name__)

# How many elements of every tensor are looked at each time, and now and then. At a learning rate of
# 1e-6 one in a hundred weights changes in bfloat16.
FEW, MANY = 2048, 8192

# A weight, and a module of the engine that holds it.
Held = tuple[str, str]


class WeightArrival:
    """Compares the weights of engines and Learners, over the life of the engines."""

    def __init__(self) -> None:
        """Nothing is known yet of what can be compared."""
        self._comparable: frozenset[Held] | None = None
        # Whether engines hold an adapter beside its base, which is compared as a whole.
        self._of_adapter = False

    def learn_layouts(self, algorithm: DAPO) -> None:
        """Finds out what can be compared, the first time that it is called.

        Args:
            algorithm: Learners with the model that training begins with, and EnvRunners whose
                engines have read the same model and nothing else.

        Raises:
            RuntimeError: If an engine does not answer; one line.
        """
        if self._comparable is not None or algorithm.config.start_gap_limit is None:
            return
        if algorithm.config.lora is not None and _take_adapters(algorithm):
            # No engine has one yet. From the first transfer on, each must hold all of it.
            self._of_adapter, self._comparable = True, frozenset()
            return

        expected = _ask_learners(algorithm, elements=MANY, turn=0)
        agreeing = [_agreeing(parts, expected) for *_, parts in _ask_engines(algorithm, expected)]
        self._comparable = frozenset.intersection(*agreeing) if agreeing else frozenset()

        left_out = sorted(set(expected) - {name for name, _ in self._comparable})
        if left_out or not expected:
            logger.warning(
                "%s of the model's weights cannot be compared bit for bit with what the engines "
                "hold%s: the guard's scores alone look after them (start_guard.every_updates=%s)",
                f"{len(left_out)} of {len(expected)}" if expected else "none",
                f", as {left_out[0]}" if left_out else "",
                algorithm.config.guard_every_updates,
            )

    def check(self, algorithm: DAPO, *, version: int, thorough: bool = False) -> None:
        """Compares what every engine holds now with what the Learners have.

        Args:
            algorithm: Its Learners have not been updated since the last transfer of weights.
            version: Version of the weights.
            thorough: Look at many elements.

        Raises:
            RuntimeError: If an engine holds others and `start_guard.action` is `"raise"`, or if one
                does not answer; one line.
        """
        compared, of_adapter = self._comparable or frozenset(), self._of_adapter
        if not (compared or of_adapter) or algorithm.config.start_gap_limit is None:
            return

        elements = MANY if thorough else FEW
        expected = _ask_learners(algorithm, elements=elements, turn=version, of_adapter=of_adapter)
        for index, facts, parts in _ask_engines(algorithm, expected, of_adapter=of_adapter):
            # One that was restarted a moment ago is given weights before it samples again.
            was_restarted = facts != algorithm.engines.get(str(index), facts)
            if of_adapter:
                compared = _held_or_lacking(parts, expected)
            differing = compared - _agreeing(parts, expected)
            if was_restarted or not differing:
                continue
            line = _describe(
                {name for name, _ in differing},
                of=len({name for name, _ in compared}),
                runner=index,
                version=version,
            )
            if algorithm.config.on_start_gap == "raise":
                raise RuntimeError(line)
            logger.warning(line)

    def restarted(self, algorithm: DAPO, *, besides: Collection[int] = ()) -> list[int]:
        """EnvRunners whose engines have started anew since they were given weights.

        Ray restarts an actor that has died, with the model that training began with. Where it is
        quicker than the next call, no call fails and nobody hears of it.

        Args:
            algorithm: An algorithm that has given its engines weights.
            besides: Indices of EnvRunners that are known to have been restarted.

        Returns:
            Indices of the others.
        """
        given = algorithm.engines
        found = algorithm.env_runner_group.foreach_env_runner(
            lambda runner: (runner.worker_index, runner.engine_facts),
            local_env_runner=False,
            timeout_seconds=algorithm.config.weight_sync_timeout_s,
        )
        restarted = [
            index
            for index, facts in found
            if index not in besides and facts != given.get(str(index), facts)
        ]
        if restarted:
            logger.warning(
                "the engine of EnvRunner %s was restarted after it had been given weights: it is "
                "given them again",
                " and ".join(map(str, restarted)),
            )
        return restarted


def _take_adapters(algorithm: DAPO) -> bool:
    """Whether all engines take adapters."""
    return all(
        algorithm.env_runner_group.foreach_env_runner(
            lambda runner: runner.module[DEFAULT_MODULE_ID].engine.takes_adapters,
            local_env_runner=algorithm.config.num_env_runners == 0,
            timeout_seconds=algorithm.config.weight_sync_timeout_s,
        )
    )


def _ask_learners(
    algorithm: DAPO, *, elements: int, turn: int, of_adapter: bool = False
) -> BlockChecksums:
    return ask_learners(
        algorithm.learner_group,
        lambda learner: learner_checksums(
            learner.policy_module, elements=elements, turn=turn, of_adapter=of_adapter
        ),
    )[0]


def _held_or_lacking(parts: Collection[BlockPart], expected: BlockChecksums) -> frozenset[Held]:
    """What an engine holds of an adapter, and as held nowhere what it lacks."""
    held = frozenset((part.name, part.holder) for part in parts)
    return held | {(name, "") for name in set(expected) - {name for name, _ in held}}


def _ask_engines(
    algorithm: DAPO, expected: BlockChecksums, *, of_adapter: bool = False
) -> list[tuple[int, Any, list[BlockPart]]]:
    """Index, facts and parts of every EnvRunner with an engine.

    Raises:
        RuntimeError: If one cannot say what it holds; one line.
    """
    blocks: Sequence[WeightBlock] = [block for block, _ in expected.values()]

    # An error is returned rather than raised: where EnvRunners are restarted after errors, RLlib
    # would log it and go on.
    def ask(runner: TextEnvRunner) -> tuple[int, Any, list[BlockPart], str]:
        parts, fault = [], ""
        try:
            engine = runner.module[DEFAULT_MODULE_ID].engine
            if of_adapter:  # that which this EnvRunner's requests ask for
                parts = engine.adapter_checksums(runner.adapter or "", blocks)
            else:
                parts = engine.weight_checksums(blocks)
        except Exception as error:  # whatever it is, nobody knows what is sampled from
            fault = one_line(error)
        return runner.worker_index, runner.engine_facts, parts, fault

    answers = algorithm.env_runner_group.foreach_env_runner(
        ask,
        local_env_runner=algorithm.config.num_env_runners == 0,
        timeout_seconds=algorithm.config.weight_sync_timeout_s,
    )
    for index, *_, fault in answers:
        if fault:
            raise RuntimeError(
                f"the engine of EnvRunner {index} cannot say which weights it holds: {fault[:300]};"
                " start_guard.limit=null goes on without asking"
            )
    return [(index, facts, parts) for index, facts, parts, _ in answers]


def _agreeing(parts: Collection[BlockPart], expected: BlockChecksums) -> frozenset[Held]:
    """Weights of an engine whose parts are whole and have the Learners' checksums."""
    # Several workers may hold the same part, and must then hold the same.
    distinct = set(parts)
    numel: Counter[Held] = Counter()
    total: Counter[Held] = Counter()
    for part in distinct:
        numel[part.name, part.holder] += part.numel
        total[part.name, part.holder] += part.checksum

    return frozenset(
        held
        for held in numel
        if numel[held] == expected[held[0]][0].numel
        and total[held] % MODULUS == expected[held[0]][1]
    )


def _describe(names: Collection[str], *, of: int, runner: int, version: int) -> str:
    shown = ", ".join(sorted(names)[:3])
    others = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return (
        f"weights: the engine's are not the Learner's. After {version} update(s), the engine of "
        f"EnvRunner {runner} holds others in {len(names)} of {of} tensors that were compared bit "
        f"for bit ({shown}{others}): their transfer sends old ones, leaves some out or mixes them "
        "up, or the engine was changed or restarted meanwhile. Go on from the last checkpoint, "
        "which hands all weights over again; if this comes back, set rollout.engine to "
        'transformers. start_guard.action="warn" goes on as if nothing were wrong'
    )
