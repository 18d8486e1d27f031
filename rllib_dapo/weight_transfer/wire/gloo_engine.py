"""Both ends of the way over gloo, as vLLM's interface for weight transfers wants them.

They do on CPUs what vLLM's own `nccl_engine` does on GPUs: the same calls in the same order, a
broadcast from the first Learner to every worker, weights in buckets that follow from what was
announced. What is added: buckets are packed, and received, while another one is under way.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Self

import torch
from torch import Tensor
from torch.distributed import Work
from vllm.distributed.weight_transfer.base import (
    TrainerInitInfo,
    TrainerWeightTransferEngine,
    WeightTransferEngine,
    WeightTransferInitInfo,
    WeightTransferUpdateInfo,
)
from vllm.distributed.weight_transfer.factory import (
    WeightTransferEngineFactory,
    WeightTransferTrainerFactory,
)

from rllib_dapo.threads import one_thread
from rllib_dapo.weight_transfer.wire.buckets import Bucket, metas_of, plan_buckets
from rllib_dapo.weight_transfer.wire.buffer_pool import BufferPool
from rllib_dapo.weight_transfer.wire.transfer_group import SENDER, TransferGroup

BACKEND = "gloo"
# Buffers of the sender: one is filled while the other one is sent.
SENDING_BUFFERS = 2


@dataclass(kw_only=True)
class GlooInitInfo(WeightTransferInitInfo):
    """What a worker needs to join the group; see `TransferGroup`.

    Attributes:
        host: Where the meeting place is.
        port: Its port.
        rank_offset: Place of the engine's first worker.
        world_size: Number of members.
        timeout_seconds: Longest time that members wait for each other.
        bucket_bytes: Largest size of a bucket.
    """

    host: str
    port: int
    rank_offset: int
    world_size: int
    timeout_seconds: float | None
    bucket_bytes: int


@dataclass(kw_only=True)
class GlooTrainerInitInfo(TrainerInitInfo):
    """What a Learner needs to join the group; as `GlooInitInfo`, with the Learner's rank."""

    backend: ClassVar[str] = BACKEND

    host: str
    port: int
    world_size: int
    timeout_seconds: float | None
    bucket_bytes: int


@dataclass
class GlooUpdateInfo(WeightTransferUpdateInfo):
    """The weights that are about to come, in their order; the same form as vLLM's for NCCL."""

    names: list[str]
    dtype_names: list[str]
    shapes: list[list[int]]


class GlooWeightTransferEngine(WeightTransferEngine[GlooInitInfo, GlooUpdateInfo]):
    """A worker's end: receives buckets and has its model load them, layer by layer."""

    init_info_cls = GlooInitInfo
    update_info_cls = GlooUpdateInfo

    _group: TransferGroup | None = None
    _bucket_bytes = 0

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._pool = BufferPool()

    def init_transfer_engine(self, init_info: GlooInitInfo) -> None:
        """Joins the group."""
        # As in vLLM's engine for NCCL: each worker of an engine has a place of its own.
        config = self.parallel_config
        place = config.data_parallel_index * config.world_size + config.rank
        self._bucket_bytes = init_info.bucket_bytes
        self._group = TransferGroup(
            host=init_info.host,
            port=init_info.port,
            rank=init_info.rank_offset + place,
            world_size=init_info.world_size,
            timeout_seconds=init_info.timeout_seconds,
        )

    def start_weight_update(self) -> None:
        """Has vLLM take its layers apart."""
        from vllm.model_executor.model_loader.reload import initialize_layerwise_reload

        initialize_layerwise_reload(self.model)

    def update_weights(self, update_info: dict[str, Any]) -> None:
        """Receives and loads; vLLM's would wait for an accelerator, which a CPU has not."""
        self.receive_weights(self.parse_update_info(update_info))
        if torch.accelerator.is_available():
            torch.accelerator.synchronize()

    def receive_weights(self, update_info: GlooUpdateInfo) -> None:
        """Loads the weights as they come.

        Raises:
            RuntimeError: If this worker has joined no group.
            PeerLostError: If another member of the group has failed.
        """
        if self._group is None:
            raise RuntimeError("this engine has not joined a group for weights")

        metas = metas_of(update_info.names, update_info.dtype_names, update_info.shapes)
        buckets = plan_buckets(metas, max_bytes=self._bucket_bytes)
        weights = _received(self._group, buckets, self._pool)
        try:
            with closing(weights):
                self.model.load_weights(weights)
                # What the model has not asked for has been sent all the same.
                deque(weights, maxlen=0)
        except BaseException:
            self.shutdown()
            raise

    def finish_weight_update(self) -> None:
        """Has vLLM put its layers together again."""
        from vllm.model_executor.model_loader.reload import finalize_layerwise_reload

        finalize_layerwise_reload(self.model, self.model_config)
        if self._group is not None:
            self._group.note("done")

    def shutdown(self) -> None:
        """Leaves the group."""
        if self._group is not None:
            self._group.close()
            self._group = None


def _received(
    group: TransferGroup, buckets: list[Bucket], pool: BufferPool
) -> Generator[tuple[str, Tensor], None, None]:
    """The weights of all buckets. One bucket is received while those of the last one are used."""
    waiting = deque(buckets)
    largest = max((bucket.nbytes for bucket in buckets), default=0)
    coming: deque[tuple[Bucket, Tensor, Work]] = deque()

    def ask() -> None:
        if waiting:
            bucket = waiting.popleft()
            buffer = pool.take(bucket.nbytes, at_least=largest)
            coming.append((bucket, buffer, group.broadcast(buffer)))

    ask()
    for number in range(1, len(buckets) + 1):
        bucket, buffer, work = coming.popleft()
        ask()
        group.note(f"waiting for bucket {number} of {len(buckets)}")
        group.wait(work)
        group.note(f"loading bucket {number} of {len(buckets)}")
        yield from bucket.views(buffer)
        del buffer, work


class GlooTrainerWeightTransferEngine(TrainerWeightTransferEngine[GlooTrainerInitInfo]):
    """A Learner's end: the first Learner sends, the others take part in gathering alone."""

    init_info_cls = GlooTrainerInitInfo

    _group: TransferGroup | None = None
    _bucket_bytes = 0
    _buffers: tuple[Tensor, ...] = ()

    @classmethod
    def trainer_init(
        cls, init_info: GlooTrainerInitInfo, *, client: Any, source: Any = None
    ) -> Self:
        """Joins the group; the client asks the engines to join it at the same time.

        Args:
            init_info: Where the group meets.
            client: Asks the engines; see vLLM's `VLLMWeightSyncClient`.
            source: The weights; see vLLM's `WeightSource`.
        """
        engine = cls(client=client, source=source, is_sender=init_info.is_sender)
        engine._bucket_bytes = init_info.bucket_bytes
        if not engine.is_sender:
            return engine

        meeting = {name: value for name, value in asdict(init_info).items() if name != "rank"}
        workers = asdict(GlooInitInfo(rank_offset=1, **meeting))
        meeting.pop("bucket_bytes")
        with ThreadPoolExecutor(max_workers=1) as executor:
            asked = executor.submit(client.init_weight_transfer_engine, workers)
            engine._group = TransferGroup(rank=SENDER, **meeting)
            asked.result()
        return engine

    def send_weights(self) -> None:
        """Sends all weights; called on every Learner at the same time.

        Raises:
            PeerLostError: If a worker has failed.
            ValueError: If the weights are not those that were announced.
        """
        assert self.source is not None
        metas = self.source.metadata()
        if not self.is_sender:
            deque(iter(self.source), maxlen=0)
            return

        update = GlooUpdateInfo(
            names=[meta.name for meta in metas],
            dtype_names=[str(meta.dtype).removeprefix("torch.") for meta in metas],
            shapes=[list(meta.shape) for meta in metas],
        )
        self.client.start_weight_update()
        executor = ThreadPoolExecutor(max_workers=1)
        try:
            asked = executor.submit(self.client.update_weights, asdict(update))
            self._broadcast(plan_buckets(metas, max_bytes=self._bucket_bytes))
            asked.result()
        except BaseException:
            self.shutdown()
            raise
        finally:
            # After a failure the workers may never answer.
            executor.shutdown(wait=False)
        self.client.finish_weight_update()

    def _broadcast(self, buckets: list[Bucket]) -> None:
        """Packs each bucket while the one before is sent."""
        assert self._group is not None
        assert self.source is not None
        size = max((bucket.nbytes for bucket in buckets), default=0)
        if not self._buffers or self._buffers[0].numel() < size:
            self._buffers = tuple(
                torch.empty(size, dtype=torch.uint8) for _ in range(SENDING_BUFFERS)
            )

        under_way: deque[Work] = deque()
        # On one machine, engines load meanwhile, each with threads of its own.
        with closing(iter(self.source)) as weights, one_thread():
            for number, bucket in enumerate(buckets, start=1):
                self._group.note(f"gathering bucket {number} of {len(buckets)}")
                buffer = self._buffers[number % SENDING_BUFFERS][: bucket.nbytes]
                bucket.fill(buffer, weights)

                # The other buffer's turn comes next: it must have been sent by then.
                under_way.append(self._group.broadcast(buffer))
                self._group.note(f"waiting for bucket {number - 1} of {len(buckets)} to be taken")
                while len(under_way) >= SENDING_BUFFERS:
                    self._group.wait(under_way.popleft())

        self._group.note("waiting for the last bucket to be taken")
        while under_way:
            self._group.wait(under_way.popleft())
        self._group.note("done")

    def shutdown(self) -> None:
        """Leaves the group."""
        if self._group is not None:
            self._group.close()
            self._group = None


def register() -> None:
    """Makes the way known to vLLM in this process, once."""
    WeightTransferEngineFactory.register_engine(BACKEND, GlooWeightTransferEngine)
    WeightTransferTrainerFactory.register_engine(BACKEND, GlooTrainerWeightTransferEngine)


register()
