"""A planned micro-batch: its tensors are made when they are needed, and dropped again."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch
from torch import Tensor

from rllib_dapo.core.batching import MicroBatchPlan
from rllib_dapo.core.collate import collate, collate_responses
from rllib_dapo.core.types import GroupTokens, PromptGroup

MicroBatch = dict[str, Tensor]
Item = TypeVar("Item")
Made = TypeVar("Made")


class PlannedBatch(MutableMapping[str, Tensor]):
    """What `core.collate` gives of a micro-batch, by name, and what is added to it.

    An update computes figures of all its micro-batches before the first step. So what is held of
    each is the plan, the tokens where they already are (9 bytes for each one of a response), and
    what was added, of response tokens with loss alone. Padded tensors exist for one micro-batch at
    a time: `tensors` makes all of them, `batch[name]` one.
    """

    def __init__(
        self,
        plan: MicroBatchPlan,
        groups: Mapping[int, PromptGroup | GroupTokens],
        *,
        pad_token_id: int,
        device: torch.device | str,
    ) -> None:
        """Makes no tensor yet.

        Args:
            plan: Which responses go together, and in which rows.
            groups: The tokens, by group.
            pad_token_id: Token id for padding.
            device: Device of the tensors.
        """
        self._plan, self._groups = plan, groups
        self._pad_token_id, self._device = pad_token_id, torch.device(device)
        self._added: dict[str, Tensor] = {}
        self._is_per_token: dict[str, bool] = {}
        self._same_as: dict[str, str] = {}

    @property
    def num_responses(self) -> int:
        """Number of responses `B`."""
        return len(self._plan.responses)

    def tensors(self) -> MicroBatch:
        """Everything as one dictionary of tensors on the device; later changes do not reach it.

        Beside what `core.collate` gives: the group, and the index within the group, of each
        response, `groups` and `indices`, `[B]`.
        """
        batch = collate(self._plan, self._groups, pad_token_id=self._pad_token_id)
        made = self._on_device(batch | self._places())
        mask = made["mask"]
        made |= {name: self._padded(name, mask) for name in self._added}
        return made | {name: made[other] for name, other in self._same_as.items()}

    def same_as(self, name: str, other: str) -> None:
        """Gives a tensor a second name; it is held once."""
        self._same_as[name] = other

    def __getitem__(self, name: str) -> Tensor:
        name = self._same_as.get(name, name)
        if name in self._added:
            return self._padded(name, self["mask"] if self._is_per_token[name] else None)
        if name in ("groups", "indices"):
            return self._places()[name].to(self._device)

        args = (self._plan, self._groups)
        batch = collate_responses(*args, pad_token_id=self._pad_token_id)
        if name not in batch:
            batch = collate(*args, pad_token_id=self._pad_token_id)
        return batch[name].to(self._device)

    def __setitem__(self, name: str, value: Tensor) -> None:
        """Keeps `[B]` as it is; of `[B, T]` the tokens with loss, as everything else is 0 there."""
        self._is_per_token[name] = value.dim() == 2
        self._added[name] = value[self["mask"]] if value.dim() == 2 else value
        self._same_as.pop(name, None)

    def __delitem__(self, name: str) -> None:
        del self._added[name]

    def __iter__(self) -> Iterator[str]:
        empty = MicroBatchPlan(rows=(), weights=())
        names = [*collate(empty, {}, pad_token_id=0), "groups", "indices"]
        yield from dict.fromkeys((*names, *self._added, *self._same_as))

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def _places(self) -> dict[str, Tensor]:
        responses = self._plan.responses
        return {
            "groups": torch.tensor([r.group for r in responses], dtype=torch.long),
            "indices": torch.tensor([r.index for r in responses], dtype=torch.long),
        }

    def _padded(self, name: str, mask: Tensor | None) -> Tensor:
        value = self._added[name]
        if mask is None or not self._is_per_token[name]:
            return value
        return value.new_zeros(mask.shape).masked_scatter(mask, value)

    def _on_device(self, batch: MicroBatch) -> MicroBatch:
        if self._device.type != "cuda":
            return {name: tensor.to(self._device) for name, tensor in batch.items()}
        # From pinned memory a copy is only queued, so nobody waits for what the GPU computes now.
        return {
            name: tensor.pin_memory().to(self._device, non_blocking=True)
            for name, tensor in batch.items()
        }


def made_ahead(items: Sequence[Item], make: Callable[[Item], Made]) -> Iterator[Made]:
    """Makes one thing of each item, the next one on a thread while this one is in use.

    Args:
        items: What they are made of.
        make: Function that makes one.

    Yields:
        What was made, in order. At most two exist at a time.
    """
    if len(items) < 2:  # a thread would be of no use
        yield from map(make, items)
        return

    with ThreadPoolExecutor(1, thread_name_prefix="collate") as thread:
        waiting = thread.submit(make, items[0])
        for item in items[1:]:
            made, waiting = waiting.result(), thread.submit(make, item)
            yield made
            del made
        yield waiting.result()
