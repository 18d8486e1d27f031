"""Asks a reward model, or a classifier, behind a server of vLLM's."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, ClassVar

from rllib_dapo.envs.base import Problem
from rllib_dapo.envs.env_settings import is_finite_number
from rllib_dapo.envs.judge.asked_model import AskedModel
from rllib_dapo.envs.judge.reward_model_settings import RewardModelSettings
from rllib_dapo.envs.messages import as_conversation, as_messages


class RewardModel(AskedModel):
    """A model for sequence classification behind `/classify` of vLLM's server.

    The server batches what is under way at the same time. A model with one output gives that as it
    is, before any activation; one with several gives the probability of the output that `label`
    names.

    Args:
        settings: Whom to ask, and how much at a time.

    Raises:
        ValueError: If the cache's file cannot be used.
    """

    noun: ClassVar[str] = "reward model"

    def __init__(self, settings: RewardModelSettings) -> None:
        # vLLM has this way beside those of OpenAI's interface, not below them.
        root = settings.url.rstrip("/").removesuffix("/v1")
        super().__init__(settings, base_url=root)
        self.settings = settings

    def question(self, problem: Problem, response: str) -> dict[str, Any]:
        """See `AskedModel.question`."""
        asked: dict[str, Any] = {
            "model": self.settings.model,
            "use_activation": self.settings.label is not None,
        }
        if self.settings.max_tokens is not None:
            asked["truncate_prompt_tokens"] = self.settings.max_tokens
            asked["truncation_side"] = "left"
        if self.settings.template is not None:
            return {**asked, "input": self.settings.template.fill(problem, response)}
        prompt = as_messages(as_conversation(problem.prompt))
        return {**asked, "messages": [*prompt, {"role": "assistant", "content": response}]}

    def most_answered(self) -> int:
        """See `AskedModel.most_answered`."""
        return 0

    async def ask(self, question: Mapping[str, Any]) -> tuple[str | None, int | None]:
        """See `AskedModel.ask`."""
        answer = await self._client.post("/classify", body=dict(question), cast_to=object)
        fields = answer if isinstance(answer, Mapping) else {}
        used = _at(fields, "usage", "total_tokens")
        outputs = _at(fields, "data", 0, "probs")
        told = json.dumps(outputs) if isinstance(outputs, list) else None
        return told, used if isinstance(used, int) else None

    def read(self, answer: str) -> float | None:
        """See `AskedModel.read`."""
        outputs: list[Any] = json.loads(answer)
        label = self.settings.label
        if label is None:
            value = outputs[0] if len(outputs) == 1 else None
        else:
            value = outputs[label] if label < len(outputs) else None
        return float(value) if value is not None and is_finite_number(value) else None


def _at(value: Any, *keys: str | int) -> Any:
    """Looks into what a server sent, which may be anything; None if there is nothing."""
    for key in keys:
        if isinstance(key, int) and isinstance(value, list):
            value = value[key] if key < len(value) else None
        elif isinstance(key, str) and isinstance(value, Mapping):
            value = value.get(key)
        else:
            return None
    return value
