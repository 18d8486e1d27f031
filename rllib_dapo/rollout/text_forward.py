"""One forward pass of RLlib's kind for a model that writes: prompts in, whole responses out.

To RLlib's tools an action is what one forward pass returns. Here it is a response, as it is for
the environments.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from ray.rllib.core.columns import Columns

from rllib_dapo.models import load_tokenizer, prompt_token_ids, response_text
from rllib_dapo.rollout.engine import Completion, Engine, Sampling
from rllib_dapo.rollout.sampling_options import read_sampling_options
from rllib_dapo.rollout.sampling_seed import EVALUATION_STREAM, sampling_seed

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True, kw_only=True, slots=True)
class TextForward:
    """Responds to a batch of prompts.

    Attributes:
        model: Folder or hub name of the model, for its tokenizer.
        settings: The RLModule's configuration.
    """

    model: str
    settings: Mapping[str, Any]

    def __call__(
        self, engine: Engine, batch: Mapping[str, Any], *, explore: bool
    ) -> dict[str, Any]:
        """Samples one response to each observation.

        Args:
            engine: What samples.
            batch: `"obs"`: `[B]` prompts, each a text, a list of messages or token ids; and perhaps
                `"seeds"`, `[B]` whole numbers, of which each chooses the draws of one response.
                Without them they are 0 .. B-1, so that the same batch has the same responses.
            explore: Whether responses are drawn as in training; otherwise each token is the
                likeliest one.

        Returns:
            `"actions"`: `[B]` texts, as environments get them; `"action_logp"`: `[B]` sums of the
            tokens' log-probabilities; `"token_ids"` and `"token_logprobs"`: `[B]` arrays of one
            number for each token; `"finish_reasons"`: `[B]` of `"stop"` and `"length"`.

        Raises:
            ValueError: If the batch is not like that, or a prompt has more than
                `rollout.max_prompt_tokens` tokens; one line.
        """
        prompts = [self._token_ids(observation) for observation in _observations(batch)]
        seeds = batch.get("seeds", range(len(prompts)))
        if len(seeds) != len(prompts):
            raise ValueError(f"{len(prompts)} observations, but {len(seeds)} seeds")

        run_seed = self.settings["seed"] or 0
        groups = engine.generate(
            prompts,
            sampling=self._sampling(explore=explore),
            seeds=[sampling_seed(run_seed, EVALUATION_STREAM, 0, int(seed)) for seed in seeds],
        )
        return self._outputs([group[0] for group in groups])

    def _sampling(self, *, explore: bool) -> Sampling:
        return Sampling(
            num_responses=1,
            max_tokens=self.settings["max_response_tokens"],
            temperature=self.settings["temperature"] if explore else 0.0,
            top_p=self.settings["top_p"] if explore else 1.0,
            options=read_sampling_options(self.settings["sampling"]),
        )

    def _token_ids(self, observation: Any) -> list[int]:
        if _are_token_ids(observation):
            ids = [int(token) for token in observation]
        else:
            ids = prompt_token_ids(
                self._tokenizer,
                observation,
                system_prompt=self.settings["system_prompt"],
            )
        longest = self.settings["max_prompt_tokens"]
        if not 0 < len(ids) <= longest:
            raise ValueError(
                f"a prompt of {len(ids)} tokens, where rollout.max_prompt_tokens={longest}"
            )
        return ids

    def _outputs(self, completions: Sequence[Completion]) -> dict[str, Any]:
        skip = self.settings["skip_special_tokens"]
        return {
            Columns.ACTIONS: [
                response_text(self._tokenizer, one.token_ids.tolist(), skip_special_tokens=skip)
                for one in completions
            ],
            Columns.ACTION_LOGP: np.array(
                [one.logprobs.sum(dtype=np.float64) for one in completions], np.float32
            ),
            "token_ids": [one.token_ids for one in completions],
            "token_logprobs": [one.logprobs for one in completions],
            "finish_reasons": [one.finish_reason for one in completions],
        }

    @property
    def _tokenizer(self) -> PreTrainedTokenizerBase:
        return self.load_tokenizer()

    def load_tokenizer(self) -> PreTrainedTokenizerBase:
        """Loads the model's tokenizer, once in a process."""
        return _load_once(self.model, self.settings["trust_remote_code"])


@lru_cache(maxsize=2)
def _load_once(model: str, trust_remote_code: bool) -> PreTrainedTokenizerBase:
    return load_tokenizer(model, trust_remote_code=trust_remote_code)


def _observations(batch: Mapping[str, Any]) -> Sequence[Any]:
    observations: Any = batch.get(Columns.OBS)
    if isinstance(observations, str | Mapping) or not hasattr(observations, "__len__"):
        raise ValueError(
            'a batch must have "obs": a list of prompts, each a text, a list of messages or token '
            f"ids; it has {', '.join(map(repr, batch)) or 'nothing'}"
        )
    return list(observations)


def _are_token_ids(observation: Any) -> bool:
    return isinstance(observation, list | tuple | np.ndarray) and all(
        hasattr(token, "__index__") for token in observation
    )
