"""The transformers engine: slow and simple, for machines without vLLM and as its cross-check."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property, partial
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase

from rllib_dapo.models import CheckpointFormat, load_causal_lm, load_tokenizer
from rllib_dapo.rollout.drawing import drawing
from rllib_dapo.rollout.engine import Completion, Engine, FinishedResponse, Request, Sampling
from rllib_dapo.rollout.stop_strings import Decode, cut_at_stop, first_stop, plain_decode
from rllib_dapo.weight_checksums import BlockPart, WeightBlock, as_matrix, checksum, to_numbers

_SEQUENCES_BY_HAND = 64  # generated at a time, where no setting says it


class TransformersEngine(Engine):
    """Samples with `PreTrainedModel.generate`, one request per step.

    Each request is generated alone, from its own seed, so its responses do not depend on which
    other prompts the EnvRunner was given.
    """

    def __init__(
        self,
        *,
        model: str,
        dtype: str,
        trust_remote_code: bool,
        max_num_seqs: int,
        generate_kwargs: dict[str, Any],
    ) -> None:
        """Loads the model; see `rollout.make_engine` for the arguments."""
        device = "cuda" if torch.cuda.is_available() else "cpu"
        loaded = load_causal_lm(
            model, dtype=getattr(torch, dtype), trust_remote_code=trust_remote_code
        ).to(device)
        loaded.eval()
        load = partial(load_tokenizer, model, trust_remote_code=trust_remote_code)
        self._hold(loaded, max_num_seqs, generate_kwargs, load)

    def _hold(
        self,
        model: PreTrainedModel,
        max_num_seqs: int,
        generate_kwargs: dict[str, Any],
        load_tokenizer: Callable[[], PreTrainedTokenizerBase],
    ) -> None:
        self._model = model
        self._checkpoint_format = CheckpointFormat(model)
        self._load_tokenizer = load_tokenizer
        self._max_num_seqs = max_num_seqs
        self._generate_kwargs = generate_kwargs
        self._waiting: deque[Request] = deque()
        self._version_starts: tuple[tuple[int, int], ...] = ()

        eos = self._model.generation_config.eos_token_id
        self._eos_ids = np.atleast_1d(np.asarray([] if eos is None else eos))
        self._pad_id = int(self._eos_ids[0]) if self._eos_ids.size else 0
        # The model's own would add the sampling that its authors recommend (penalties, top-k, ...),
        # which the Learner knows nothing of.
        self._model.generation_config = GenerationConfig(
            eos_token_id=eos, pad_token_id=self._pad_id
        )

    def add(self, request: Request) -> None:
        """See `Engine.add`."""
        self.refuse_half_weights()
        self._waiting.append(request)

    def step(self) -> list[FinishedResponse]:
        """See `Engine.step`: all responses of one request."""
        self.refuse_half_weights()
        request = self._waiting.popleft()
        completions = self._sample_group(request.prompt_ids, request.sampling, request.seed)
        self.steps += 1
        return [
            FinishedResponse(key=request.key, index=index, completion=completions[index])
            for index in request.wanted
        ]

    @property
    def is_idle(self) -> bool:
        """See `Engine.is_idle`."""
        return not self._waiting

    def load_weights(self, weights: Iterable[tuple[str, Tensor]]) -> None:
        """See `Engine.load_weights`."""
        # Not strict, for second names of tied weights alone: what else is missing is refused.
        state = self._checkpoint_format.from_checkpoint(dict(weights))
        self._model.load_state_dict(state, strict=False)

    def note_version(self, version: int) -> None:
        """See `Engine.note_version`."""
        self._version_starts = ((0, version),)

    def weight_checksums(self, blocks: Sequence[WeightBlock]) -> list[BlockPart]:
        """See `Engine.weight_checksums`: every weight can be read."""
        named = self._model.named_parameters(remove_duplicate=False)
        weights = dict(self._checkpoint_format.to_checkpoint(named))
        there = [block for block in blocks if block.name in weights]
        sums = [
            checksum(
                as_matrix(weights[block.name])[:, block.start : block.stop],
                first_column=block.start,
            )
            for block in there
        ]
        return [
            BlockPart(
                name=block.name,
                holder="model",
                rows=(0, block.rows),
                columns=(block.start, block.stop),
                checksum=number,
            )
            for block, number in zip(there, to_numbers(sums), strict=True)
        ]

    def abort(self, keys: Collection[int] | None = None) -> None:
        """See `Engine.abort`: between two steps nothing is half generated."""
        kept = [] if keys is None else [r for r in self._waiting if r.key not in keys]
        self._waiting = deque(kept)

    def close(self) -> None:
        """See `Engine.close`."""
        del self._model

    def _sample_group(
        self, prompt: Sequence[int], sampling: Sampling, seed: int
    ) -> list[Completion]:
        """Samples all responses to one prompt, at most `max_num_seqs` at a time."""
        # `generate` draws from torch's global generator only.
        with torch.random.fork_rng():
            torch.manual_seed(seed)

            group: list[Completion] = []
            while len(group) < sampling.num_responses:
                rows = min(self._max_num_seqs, sampling.num_responses - len(group))
                group += self._sample(prompt, sampling, rows)

        return group

    @cached_property
    def _decode(self) -> Decode:
        """Text in which stop strings are looked for; without these, no tokenizer is loaded."""
        return plain_decode(self._load_tokenizer())

    @torch.inference_mode()
    def _sample(self, prompt: Sequence[int], sampling: Sampling, rows: int) -> list[Completion]:
        end_ids = [*self._eos_ids.tolist(), *sampling.options.stop_token_ids]
        stop = sampling.options.stop
        ends = {"eos_token_id": end_ids} if sampling.options.stop_token_ids else {}
        ids = torch.tensor([list(prompt)] * rows, device=self._model.device)
        output = self._model.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            **drawing(sampling, prompt_tokens=len(prompt), decode=self._decode if stop else None),
            **ends,
            max_new_tokens=sampling.max_tokens,
            pad_token_id=self._pad_id,
            return_dict_in_generate=True,
            output_scores=True,
            **self._generate_kwargs,
        )

        # Scores are the logits that were drawn from, `[rows, T, V]` once stacked.
        tokens = output.sequences[:, len(prompt) :]
        scores = torch.stack(output.scores, dim=1).float().log_softmax(-1)
        logprobs = scores.gather(-1, tokens[..., None]).squeeze(-1)

        return [
            self._completion(t, p, sampling, end_ids)
            for t, p in zip(tokens.cpu().numpy(), logprobs.cpu().numpy(), strict=True)
        ]

    def _completion(
        self, tokens: np.ndarray, logprobs: np.ndarray, sampling: Sampling, end_ids: Sequence[int]
    ) -> Completion:
        """Cuts the padding off a row `[T]`: everything after what has ended the response."""
        options = sampling.options
        ends = np.flatnonzero(np.isin(tokens, end_ids))
        length = int(ends[0]) + 1 if ends.size else len(tokens)
        stopped_by: str | int | None = int(tokens[length - 1]) if ends.size else None
        if options.stop:
            # A token that ends a response by itself is no text, whatever it is called.
            text_ids = tokens[: length - bool(ends.size)].tolist()
            found = first_stop(text_ids, options.stop, self._decode)
            length, stopped_by = found or (length, stopped_by)

        completion = Completion(
            token_ids=tokens[:length].astype(np.int32),
            logprobs=logprobs[:length].astype(np.float32),
            finish_reason="length" if stopped_by is None else "stop",
            version_starts=self._version_starts,
        )
        if options.include_stop:
            return completion
        return cut_at_stop(completion, stopped_by, options, self._decode)


@contextmanager
def sampling_from(
    model: PreTrainedModel, load_tokenizer: Callable[[], PreTrainedTokenizerBase]
) -> Iterator[TransformersEngine]:
    """Gives an engine that samples from a model that somebody else holds, and goes on with.

    Args:
        model: The model. It is as it was before when the context is left.
        load_tokenizer: Loads its tokenizer, where stop strings need it.
    """
    training, generation_config = model.training, model.generation_config
    model.eval()
    try:
        engine = TransformersEngine.__new__(TransformersEngine)
        engine._hold(model, _SEQUENCES_BY_HAND, {}, load_tokenizer)
        yield engine
    finally:
        model.generation_config = generation_config
        model.train(training)
