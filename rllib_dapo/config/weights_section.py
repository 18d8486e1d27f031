"""The section `weights`: how new weights come from the Learners to the engines."""

from __future__ import annotations

from typing import Literal, Self

from ray.rllib.algorithms.algorithm_config import AlgorithmConfig, NotProvided

from rllib_dapo.config.setting import settings_section

WeightTransferName = Literal["auto", "object_store", "gloo", "nccl", "ipc"]


class WeightsSection(AlgorithmConfig):
    """How new weights come to the engines after each update."""

    @settings_section(
        transfer="weight_transfer",
        bucket_mib="weight_bucket_mib",
        timeout_s="weight_sync_timeout_s",
    )
    def weights(
        self,
        *,
        transfer: WeightTransferName = NotProvided,
        bucket_mib: float = NotProvided,
        timeout_s: float | None = NotProvided,
    ) -> Self:
        """How new weights come to the engines after each update.

        Args:
            transfer: The way that they take. `object_store`: in pieces through Ray's object store,
                to any engine on any machine. To vLLM's workers directly: `nccl` where Learners and
                engines have GPUs of their own, `ipc` where they share one, `gloo` over the network
                without GPUs. `auto` takes `nccl` or `ipc` where these work, else `object_store`.
            bucket_mib: Size of what is on the way at a time, in MiB; a weight that is larger
                travels alone. The first Learner holds two buckets and each engine two or three,
                in addition to their models.
            timeout_s: Longest time that a transfer may take, in seconds; `null` waits without a
                limit.
        """
        return self
