"""The interface of a sampling engine: requests in, responses out as they end, weights replaced.

An engine is stepped by its caller rather than called for a whole batch. Requests may be added
between two steps, and each response is returned as soon as it ends. So a response goes to its
environment while others are still sampled, and an episode of several turns goes back to the engine
at once. This costs nothing against `vllm.LLM.generate`, which does the same inside.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from rllib_dapo.core.sampling_set import SamplingSet
from rllib_dapo.core.types import FinishReason
from rllib_dapo.rollout.adapter import Adapter
from rllib_dapo.rollout.sampling_options import SamplingOptions
from rllib_dapo.weight_checksums import BlockPart, WeightBlock

# What an engine holds on its device.
EnginePart = Literal["weights", "kv_cache"]

# Names of transformers' classes that an engine has changed in this process. A Learner in the same
# process cannot use them any more.
CHANGED_CLASSES: set[str] = set()


@dataclass(frozen=True, kw_only=True, slots=True)
class Sampling:
    """How responses are drawn.

    Attributes:
        num_responses: Responses per prompt (the group size `G`).
        max_tokens: Hard limit on the length of a response, in tokens.
        temperature: Number that the logits are divided by; 0 always takes the likeliest token.
        top_p: Probability mass of the nucleus that is sampled from.
        options: What else decides on tokens and ends of responses.
        adapter: Name of the adapter whose responses these are (`Engine.load_adapter`); None samples
            from the engine's model itself.
    """

    num_responses: int
    max_tokens: int
    temperature: float = 1.0
    top_p: float = 1.0
    options: SamplingOptions = SamplingOptions()  # noqa: RUF009 (it is frozen)
    adapter: str | None = None

    @property
    def sampling_set(self) -> SamplingSet:
        """The tokens that may be sampled."""
        return SamplingSet(top_k=self.options.top_k, top_p=self.top_p, min_p=self.options.min_p)


@dataclass(frozen=True, kw_only=True, slots=True)
class Completion:
    """One sampled response.

    Attributes:
        token_ids: `[T]` sampled tokens, the end-of-sequence token included.
        logprobs: `[T]` log-probability of each token under the distribution it was drawn from,
            after temperature, and over the tokens alone that may be sampled.
        finish_reason: `"stop"` where the policy ended the response, be it by a stop string,
            `"length"` where the limit did.
        version_starts: The first token that each version of the weights has sampled, and the
            version, in their order; empty where the engine does not know.
        unread: Number of characters at the end of its text that belong to the stop string which
            ended it, and that no environment reads; see `rollout.stop_strings`.
    """

    token_ids: NDArray[np.int32]
    logprobs: NDArray[np.float32]
    finish_reason: FinishReason
    version_starts: tuple[tuple[int, int], ...] = ()
    unread: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """Asks an engine to continue a sequence of tokens.

    Attributes:
        key: The caller's own number for the request; it comes back with every response.
        prompt_ids: Token ids to continue.
        sampling: How to draw responses, and how many.
        seed: The same seed, tokens and weights give the same responses.
        places: Which of `sampling.num_responses` to return, each as if all were asked for; by
            default all.
    """

    key: int
    prompt_ids: Sequence[int]
    sampling: Sampling
    seed: int
    places: Sequence[int] | None = None

    @property
    def wanted(self) -> Sequence[int]:
        """Places of the responses to return."""
        return range(self.sampling.num_responses) if self.places is None else self.places


@dataclass(frozen=True, kw_only=True, slots=True)
class FinishedResponse:
    """One response of a request.

    Attributes:
        key: The request's `key`.
        index: Place of the response among the request's responses.
        completion: The response itself.
    """

    key: int
    index: int
    completion: Completion


class EngineDiedError(RuntimeError):
    """A process that an engine computes in has ended: only a new engine can sample again."""


class Engine(ABC):
    """Samples responses to prompts and takes new weights.

    A caller adds requests and steps the engine until it is idle. It may add more requests between
    two steps, and gets every response as soon as it has ended.
    """

    # Version of the weights of which the engine holds only some; None while it holds all of one.
    _half_held: int | None = None
    # Grows as long as the engine computes: how many of its steps have ended.
    steps = 0
    # The group that the engine's workers have joined for `receive_transfer`; the driver names it.
    transfer_key = ""

    @abstractmethod
    def add(self, request: Request) -> None:
        """Queues a request. Nothing is computed yet.

        Raises:
            RuntimeError: If a hand-over of weights was not finished.
        """

    @contextmanager
    def taking_weights(self, version: int) -> Iterator[None]:
        """Has the engine refuse to sample from now on, until all of the new weights have come.

        Whatever way weights take to an engine, they are handed over inside this context. Where it
        is left by an error, the engine refuses until another hand-over succeeds. Responses under
        way go on under the new weights.

        Args:
            version: Version of the new weights.
        """
        self._half_held = version
        yield
        self._half_held = None
        self.note_version(version)

    def note_version(self, version: int) -> None:  # noqa: B027 (an engine need not know)
        """Says which version of the weights the engine holds from now on.

        Args:
            version: The version, which completions then name.
        """

    def refuse_half_weights(self) -> None:
        """Called before anything is sampled.

        Raises:
            RuntimeError: If a hand-over of weights was not finished.
        """
        if self._half_held is not None:
            raise RuntimeError(
                f"the engine holds half of version {self._half_held} of the weights, because their "
                "hand-over failed: it does not sample before it has all of them"
            )

    @abstractmethod
    def step(self) -> list[FinishedResponse]:
        """Computes for a while and returns the responses that ended meanwhile, often none."""

    @property
    @abstractmethod
    def is_idle(self) -> bool:
        """Whether every requested response has been returned."""

    @abstractmethod
    def load_weights(self, weights: Iterable[tuple[str, Tensor]]) -> None:
        """Replaces the weights. Nothing cached under the old ones is used for new requests.

        Args:
            weights: Every weight under its name in a Hugging Face checkpoint; they may be made one
                after the other, as the engine takes them.

        Raises:
            RuntimeError: If the engine's model has a weight that is not among them.
            ValueError: If they belong to another model.
        """

    @property
    def takes_adapters(self) -> bool:
        """Whether `load_adapter` may be called; an engine that does not is given merged weights."""
        return False

    def load_adapter(self, adapter: Adapter) -> None:
        """Takes an adapter, in the place of one of the same name; others stay as they are.

        Args:
            adapter: The adapter. Nothing that was cached under an old one is used for it.

        Raises:
            RuntimeError: If the engine does not take it.
        """
        raise NotImplementedError(f"{type(self).__name__} takes no adapters")

    def drop_adapter(self, name: str) -> None:
        """Forgets an adapter, if it has one of this name. No request for it may be under way.

        Args:
            name: The adapter's name.
        """
        raise NotImplementedError(f"{type(self).__name__} takes no adapters")

    def adapter_checksums(self, name: str, blocks: Sequence[WeightBlock]) -> list[BlockPart]:
        """Checksums of an adapter that the engine really holds; see `weight_checksums`.

        Args:
            name: The adapter's name.
            blocks: What to look at, by the names of tensors in peft's files. `B` is there times the
                adapter's scaling, with which engines multiply it once.
        """
        raise NotImplementedError(f"{type(self).__name__} takes no adapters")

    def open_transfer(self, init_info: Mapping[str, Any]) -> None:
        """Connects the engine's workers with the Learners, for `receive_transfer`.

        Args:
            init_info: What the engine's own interface for weight transfers wants to know.

        Raises:
            RuntimeError: If the connection is not made.
        """
        raise NotImplementedError(f"{type(self).__name__} takes weights through `load_weights`")

    def receive_transfer(self, update_info: Mapping[str, Any]) -> None:
        """Takes what the Learners send to all engines at the same time, as `load_weights` would.

        Args:
            update_info: The weights that are about to come, or where they lie.

        Raises:
            RuntimeError: As `load_weights`, or if the Learners, or another engine, fail meanwhile.
        """
        raise NotImplementedError(f"{type(self).__name__} takes weights through `load_weights`")

    def start_transfer(self, version: int) -> None:
        """The same in steps, where the Learners say what lies where. Nothing is sampled meanwhile.

        Args:
            version: Version of the weights that will come.
        """
        raise NotImplementedError(f"{type(self).__name__} takes weights through `load_weights`")

    def continue_transfer(self, update_info: Mapping[str, Any]) -> None:
        """Takes some of the weights.

        Args:
            update_info: Where they lie.
        """
        raise NotImplementedError(f"{type(self).__name__} takes weights through `load_weights`")

    def finish_transfer(self) -> None:
        """All weights have come.

        Raises:
            RuntimeError: As `load_weights`.
        """
        raise NotImplementedError(f"{type(self).__name__} takes weights through `load_weights`")

    def sleep(self) -> None:
        """Gives the device's memory back: weights and cache are gone, and nothing is sampled.

        Requests that have not finished are given up. An engine that sleeps already sleeps on.
        """
        raise NotImplementedError(f"{type(self).__name__} cannot sleep")

    def wake(self, part: EnginePart) -> None:
        """Takes memory again, for one part alone; one that has it already keeps it as it is.

        The weights' memory has no weights in it before they are handed over; the engine samples
        when it has both parts.

        Args:
            part: `"weights"`, which come first, or `"kv_cache"`.
        """
        raise NotImplementedError(f"{type(self).__name__} cannot sleep")

    @property
    def facts(self) -> dict[str, Any] | None:
        """Process id of an engine in another process, and when it started; None for one in this."""
        return None

    @property
    def num_workers(self) -> int:
        """Number of processes that hold a part of the model each."""
        return 1

    @abstractmethod
    def weight_checksums(self, blocks: Sequence[WeightBlock]) -> list[BlockPart]:
        """Checksums of weights that the engine really holds.

        Args:
            blocks: What to look at.

        Returns:
            The parts of all blocks, of which a process may hold one each; nothing for a block that
            cannot be read.
        """

    def forget_prompts(self) -> None:  # noqa: B027 (most engines keep nothing)
        """Forgets what is cached of earlier prompts, as if the engine were new."""

    @abstractmethod
    def abort(self, keys: Collection[int] | None = None) -> None:
        """Gives up requests that have not finished.

        Args:
            keys: Keys of the requests; None for all.
        """

    @abstractmethod
    def close(self) -> None:
        """Frees memory and processes; the engine cannot be used afterwards."""

    def generate(
        self, prompts: Sequence[Sequence[int]], *, sampling: Sampling, seeds: Sequence[int]
    ) -> list[list[Completion]]:
        """Samples `sampling.num_responses` responses to each prompt, and waits for all of them.

        Args:
            prompts: Token ids of each prompt.
            sampling: How to draw responses, and how many per prompt.
            seeds: One sampling seed for each prompt.

        Returns:
            The responses to each prompt, in the order of the prompts.
        """
        for key, (prompt_ids, seed) in enumerate(zip(prompts, seeds, strict=True)):
            self.add(Request(key=key, prompt_ids=prompt_ids, sampling=sampling, seed=seed))

        groups: list[dict[int, Completion]] = [{} for _ in prompts]
        while not self.is_idle:
            for finished in self.step():
                groups[finished.key][finished.index] = finished.completion

        return [[group[index] for index in sorted(group)] for group in groups]
