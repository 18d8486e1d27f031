"""Asks a language model behind HTTP what responses are worth."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import time
from typing import Any

import httpx2
import openai

from rllib_dapo.envs.base import Problem
from rllib_dapo.envs.judge.answer_cache import AnswerCache
from rllib_dapo.envs.judge.judge_settings import JudgeSettings
from rllib_dapo.envs.judge.limits_share import share_of, share_of_count
from rllib_dapo.envs.judge.pacer import Pacer
from rllib_dapo.envs.shown_value import shown
from rllib_dapo.envs.verify.verdict import MissingReason, Verdict, missing

_CHARACTERS_A_TOKEN = 4  # about: what a request takes is corrected by what the server says


class Judge:
    """Judges responses. It belongs to one event loop, in which many calls wait side by side.

    Whatever goes wrong between here and the model is a missing verdict with its reason, and never a
    bad mark. Requests that fail in a way that may pass (429, 5xx, time-outs, connections that are
    refused) are sent again, by OpenAI's client: after a time that doubles, with jitter, or after
    what the server asks for in `Retry-After`.
    """

    def __init__(self, settings: JudgeSettings) -> None:
        """Connects to nothing yet.

        Args:
            settings: What to ask whom, and how much at a time.

        Raises:
            ValueError: If the cache's file cannot be used.
        """
        self.settings = settings
        self._requests = Pacer(share_of(settings.requests_per_minute))
        self._tokens = Pacer(share_of(settings.tokens_per_minute))
        self._slots = asyncio.Semaphore(share_of_count(settings.concurrency))
        self._cache = (
            AnswerCache(settings.cache_entries, settings.cache_file)
            if settings.cache_entries
            else None
        )
        self._asked: dict[str, asyncio.Future[Verdict]] = {}

        # Always given: without it the client would send the key of OPENAI_API_KEY to any address.
        self._key = os.environ.get(settings.api_key_variable or "", "") or "none"
        self._client = openai.AsyncOpenAI(
            api_key=self._key,
            base_url=settings.url,
            max_retries=settings.retries,
            http_client=_PacedClient(self._requests, settings.timeout),
        )

    async def judge(self, problem: Problem, response: str) -> Verdict:
        """Judges a response; never raises. Equal questions are asked once."""
        started = time.monotonic()
        messages = [{"role": "user", "content": self.settings.template.fill(problem, response)}]
        if self.settings.system is not None:
            messages.insert(0, {"role": "system", "content": self.settings.system})
        if self._cache is None:
            verdict, is_cached = await self._ask(messages), False
        else:
            verdict, is_cached = await self._ask_once(messages, self._cache)

        figures = {"cached": float(is_cached), "seconds": time.monotonic() - started}
        return Verdict(
            is_correct=None, reward=verdict.reward, reason=verdict.reason, metrics=figures
        )

    async def _ask_once(
        self, messages: list[dict[str, str]], cache: AnswerCache
    ) -> tuple[Verdict, bool]:
        key = self._key_of(messages)
        answer = cache.get(key)
        if answer is not None and (value := self.settings.parser.read(answer)) is not None:
            return Verdict(is_correct=None, reward=value), True
        if key in self._asked:
            return await asyncio.shield(self._asked[key]), True

        self._asked[key] = asyncio.ensure_future(self._ask(messages, key))
        try:
            return await asyncio.shield(self._asked[key]), False
        finally:
            self._asked.pop(key, None)

    async def _ask(self, messages: list[dict[str, str]], key: str = "") -> Verdict:
        settings = self.settings
        characters = sum(len(message["content"]) for message in messages)
        expected = characters // _CHARACTERS_A_TOKEN + settings.max_tokens
        try:
            async with self._slots:
                await self._tokens.take(expected)
                completion = await self._client.chat.completions.create(
                    model=settings.model,
                    messages=messages,  # type: ignore[arg-type]  # a TypedDict for each role
                    temperature=settings.temperature,
                    max_tokens=settings.max_tokens,
                    extra_body=dict(settings.extra_body) or None,
                )
        except Exception as error:
            return self._failure(error)

        used = getattr(getattr(completion, "usage", None), "total_tokens", None)
        if isinstance(used, int):
            self._tokens.give_back(expected - used)
        answer = _text_of(completion)
        value = None if answer is None else settings.parser.read(answer)
        if value is None:
            told = "nothing" if answer is None else shown(answer)
            return missing(MissingReason.UNREADABLE, f"the judge answered {told}")
        if key and self._cache is not None and answer is not None:
            self._cache.put(key, answer)
        return Verdict(is_correct=None, reward=value)

    def _key_of(self, messages: list[dict[str, str]]) -> str:
        """Returns a fingerprint of all that an answer depends on."""
        one = self.settings
        asked = [one.url, one.model, one.temperature, one.max_tokens, dict(one.extra_body)]
        content = json.dumps([*asked, messages], sort_keys=True)
        return hashlib.blake2b(content.encode(), digest_size=16).hexdigest()

    def _failure(self, error: Exception) -> Verdict:
        """Makes a missing verdict of what went wrong, with its cause and without the key."""
        if isinstance(error, openai.APIStatusError):
            told = f"HTTP {error.status_code}"
            if error.status_code == 429:
                return missing(MissingReason.RATE_LIMITED, f"the judge says {told}")
            if error.status_code >= 500:
                return missing(MissingReason.UNREACHABLE, f"the judge says {told}")
            said = " ".join(str(error.message).replace(self._key, "***").split())
            return missing(MissingReason.CRASH, f"the judge says {told}: {shown(said)}")

        if isinstance(error, openai.APITimeoutError):
            told = f"the judge took more than {self.settings.timeout:g} s"
            return missing(MissingReason.TIMEOUT, told)
        if isinstance(error, openai.APIConnectionError):
            return missing(MissingReason.UNREACHABLE, f"no connection to {self.settings.url}")
        told = f"the judge's answer cannot be read ({type(error).__name__})"
        return missing(MissingReason.UNREADABLE, told)


class _PacedClient(openai.DefaultAsyncHttpxClient):
    """Sends requests, those that are sent again included, no faster than allowed.

    The time of a request is bounded as a whole: the client's own bound begins anew with each piece
    of an answer.
    """

    def __init__(self, pacer: Pacer, seconds: float) -> None:
        super().__init__()
        self._pacer = pacer
        self._seconds = seconds

    async def send(self, request: Any, **options: Any) -> Any:
        """Sends a request and reads the answer."""
        await self._pacer.take(1)
        try:
            async with asyncio.timeout(self._seconds):
                return await super().send(request, **options)
        except TimeoutError as error:
            # In the kind of error that OpenAI's client tries again after.
            raise httpx2.ReadTimeout("the whole request", request=request) from error


def _text_of(completion: Any) -> str | None:
    """Returns what the judge said; None if the answer is not one. A server may send anything."""
    choices = getattr(completion, "choices", None)
    if not isinstance(choices, list) or not choices:
        return None
    text = getattr(getattr(choices[0], "message", None), "content", None)
    return text if isinstance(text, str) else None
