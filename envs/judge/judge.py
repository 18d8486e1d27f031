"""Asks a language model behind HTTP, in words, what responses are worth."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from rllib_dapo.envs.base import Problem
from rllib_dapo.envs.judge.asked_model import AskedModel
from rllib_dapo.envs.judge.judge_settings import JudgeSettings


class Judge(AskedModel):
    """A language model behind an endpoint that speaks like OpenAI's.

    Args:
        settings: What to ask whom, and how much at a time.

    Raises:
        ValueError: If the cache's file cannot be used.
    """

    noun: ClassVar[str] = "judge"

    def __init__(self, settings: JudgeSettings) -> None:
        super().__init__(settings, base_url=settings.url)
        self.settings = settings

    def question(self, problem: Problem, response: str) -> dict[str, Any]:
        """See `AskedModel.question`."""
        messages = [{"role": "user", "content": self.settings.template.fill(problem, response)}]
        if self.settings.system is not None:
            messages.insert(0, {"role": "system", "content": self.settings.system})
        return {
            "model": self.settings.model,
            "messages": messages,
            "temperature": self.settings.temperature,
            "max_tokens": self.settings.max_tokens,
            "extra_body": dict(self.settings.extra_body) or None,
        }

    def most_answered(self) -> int:
        """See `AskedModel.most_answered`."""
        return self.settings.max_tokens

    async def ask(self, question: Mapping[str, Any]) -> tuple[str | None, int | None]:
        """See `AskedModel.ask`."""
        completion = await self._client.chat.completions.create(**question)
        used = getattr(getattr(completion, "usage", None), "total_tokens", None)
        return _text_of(completion), used if isinstance(used, int) else None

    def read(self, answer: str) -> float | None:
        """See `AskedModel.read`."""
        return self.settings.parser.read(answer)


def _text_of(completion: Any) -> str | None:
    """Returns what the judge said; None if the answer is not one. A server may send anything."""
    choices = getattr(completion, "choices", None)
    if not isinstance(choices, list) or not choices:
        return None
    text = getattr(getattr(choices[0], "message", None), "content", None)
    return text if isinstance(text, str) else None
