"""Transformers' own `generate` as the sampler: slow, simple, and the cross-check for vLLM."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rllib_dapo.models import load_causal_lm
from rllib_dapo.rollout.engine import Completion, Engine, Finished, Request, Sampling


class TransformersEngine(Engine):
    """A `rollout.engine.Engine` around `PreTrainedModel.generate`.

    Groups are generated one after the other, each from its own seed, so what is sampled for a
    prompt does not depend on which other prompts an EnvRunner was given.
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
        """Loads the model; see `rollout.engine.make_engine` for the arguments."""
        device = "cuda" if torch.cuda.is_available() else "cpu"
        self._model = load_causal_lm(
            model, dtype=getattr(torch, dtype), trust_remote_code=trust_remote_code
        ).to(device)
        self._model.eval()
        self._max_num_seqs = max_num_seqs
        self._generate_kwargs = generate_kwargs
        self._waiting: deque[Request] = deque()
        eos = self._model.generation_config.eos_token_id
        self._eos_ids = np.atleast_1d(np.asarray([] if eos is None else eos))
        self._pad_id = int(self._eos_ids[0]) if self._eos_ids.size else 0

    def add(self, request: Request) -> None:
        """See `Engine.add`."""
        self._waiting.append(request)

    def step(self) -> list[Finished]:
        """See `Engine.step`: all responses of one request."""
        request = self._waiting.popleft()
        group = self._one_group(request.prompt_ids, request.sampling, request.seed)
        return [
            Finished(key=request.key, index=index, completion=one)
            for index, one in enumerate(group)
        ]

    @property
    def is_idle(self) -> bool:
        """See `Engine.is_idle`."""
        return not self._waiting

    def load_weights(self, weights: Iterable[tuple[str, Tensor]]) -> None:
        """See `Engine.load_weights`."""
        self._model.load_state_dict(dict(weights))

    def abort(self) -> None:
        """See `Engine.abort`: nothing is ever half done between two steps."""
        self._waiting.clear()

    def close(self) -> None:
        """See `Engine.close`."""
        del self._model

    def _one_group(self, prompt: Sequence[int], sampling: Sampling, seed: int) -> list[Completion]:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            group: list[Completion] = []
            while len(group) < sampling.num_responses:
                rows = min(self._max_num_seqs, sampling.num_responses - len(group))
                group += self._sample(prompt, sampling, rows)
        return group

    @torch.inference_mode()
    def _sample(self, prompt: Sequence[int], sampling: Sampling, rows: int) -> list[Completion]:
        ids = torch.tensor([list(prompt)] * rows, device=self._model.device)
        output = self._model.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            do_sample=True,
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            top_k=0,
            max_new_tokens=sampling.max_tokens,
            pad_token_id=self._pad_id,
            return_dict_in_generate=True,
            output_scores=True,
            **self._generate_kwargs,
        )
        tokens = output.sequences[:, len(prompt) :]
        scores = torch.stack(output.scores, dim=1).float().log_softmax(-1)
        logprobs = scores.gather(-1, tokens[..., None]).squeeze(-1)
        return [
            self._completion(t, p)
            for t, p in zip(tokens.cpu().numpy(), logprobs.cpu().numpy(), strict=True)
        ]

    def _completion(self, tokens: np.ndarray, logprobs: np.ndarray) -> Completion:
        ends = np.flatnonzero(np.isin(tokens, self._eos_ids))
        length = int(ends[0]) + 1 if ends.size else len(tokens)
        return Completion(
            token_ids=tokens[:length].astype(np.int32),
            logprobs=logprobs[:length].astype(np.float32),
            finish_reason="stop" if ends.size else "length",
        )
