"""Asks a model behind HTTP what responses are worth, whatever the question looks like."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

import httpx2
import openai

from rllib_dapo.envs.base import Problem
from rllib_dapo.envs.judge.answer_cache import AnswerCache
from rllib_dapo.envs.judge.endpoint_settings import EndpointSettings
from rllib_dapo.envs.judge.limits_share import share_of, share_of_count
from rllib_dapo.envs.judge.pacer import Pacer
from rllib_dapo.envs.shown_value import shown
from rllib_dapo.envs.verify.verdict import MissingReason, Verdict, missing

_CHARACTERS_A_TOKEN = 4  # about: what a request takes is corrected by what the server says


class AskedModel(ABC):
    """Judges responses. It belongs to one event loop, in which many calls wait side by side.

    Whatever goes wrong between here and the model is a missing verdict with its reason, and never a
    bad mark. Requests that fail in a way that may pass (429, 5xx, time-outs, connections that are
    refused) are sent again, by OpenAI's client: after a time that doubles, with jitter, or after
    what the server asks for in `Retry-After`.

    Attributes:
        noun: What it is called in the reasons of missing verdicts.
        base_url: What the paths of requests are added to.
    """

    noun: ClassVar[str]

    def __init__(self, settings: EndpointSettings, *, base_url: str) -> None:
        """Connects to nothing yet.

        Args:
            settings: Whom to ask, and how much at a time.
            base_url: What the paths of requests are added to.

        Raises:
            ValueError: If the cache's file cannot be used.
        """
        self._endpoint = settings
        self.base_url = base_url
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
            base_url=base_url,
            max_retries=settings.retries,
            http_client=_PacedClient(self._requests, settings.timeout),
        )

    @abstractmethod
    def question(self, problem: Problem, response: str) -> dict[str, Any]:
        """Returns all that an answer depends on beside the address: a body of JSON."""

    @abstractmethod
    def most_answered(self) -> int:
        """Returns how many tokens an answer has at most."""

    @abstractmethod
    async def ask(self, question: Mapping[str, Any]) -> tuple[str | None, int | None]:
        """Asks once.

        Returns:
            The answer, None if what came is none; and how many tokens the server counted, None if
            it does not say.

        Raises:
            Exception: Whatever OpenAI's client raises.
        """

    @abstractmethod
    def read(self, answer: str) -> float | None:
        """Returns the reward that an answer stands for; None if it stands for none."""

    async def judge(self, problem: Problem, response: str) -> Verdict:
        """Judges a response; never raises. Equal questions are asked once."""
        started = time.monotonic()
        question = self.question(problem, response)
        if self._cache is None:
            verdict, is_cached = await self._ask(question), False
        else:
            verdict, is_cached = await self._ask_once(question, self._cache)

        figures = {"cached": float(is_cached), "seconds": time.monotonic() - started}
        return Verdict(
            is_correct=None, reward=verdict.reward, reason=verdict.reason, metrics=figures
        )

    async def _ask_once(
        self, question: Mapping[str, Any], cache: AnswerCache
    ) -> tuple[Verdict, bool]:
        key = self._key_of(question)
        answer = cache.get(key)
        if answer is not None and (value := self.read(answer)) is not None:
            return Verdict(is_correct=None, reward=value), True
        if key in self._asked:
            return await asyncio.shield(self._asked[key]), True

        self._asked[key] = asyncio.ensure_future(self._ask(question, key))
        try:
            return await asyncio.shield(self._asked[key]), False
        finally:
            self._asked.pop(key, None)

    async def _ask(self, question: Mapping[str, Any], key: str = "") -> Verdict:
        characters = len(json.dumps(question, ensure_ascii=False))
        expected = characters // _CHARACTERS_A_TOKEN + self.most_answered()
        try:
            async with self._slots:
                await self._tokens.take(expected)
                answer, used = await self.ask(question)
        except Exception as error:
            return self._failure(error)

        if used is not None:
            self._tokens.give_back(expected - used)
        value = None if answer is None else self.read(answer)
        if value is None:
            told = "nothing" if answer is None else shown(answer)
            return missing(MissingReason.UNREADABLE, f"the {self.noun} answered {told}")
        if key and self._cache is not None and answer is not None:
            self._cache.put(key, answer)
        return Verdict(is_correct=None, reward=value)

    def _key_of(self, question: Mapping[str, Any]) -> str:
        """Returns a fingerprint of all that an answer depends on."""
        content = json.dumps([self.base_url, dict(question)], sort_keys=True)
        return hashlib.blake2b(content.encode(), digest_size=16).hexdigest()

    def _failure(self, error: Exception) -> Verdict:
        """Makes a missing verdict of what went wrong, with its cause and without the key."""
        if isinstance(error, openai.APIStatusError):
            told = f"HTTP {error.status_code}"
            if error.status_code == 429:
                return missing(MissingReason.RATE_LIMITED, f"the {self.noun} says {told}")
            if error.status_code >= 500:
                return missing(MissingReason.UNREACHABLE, f"the {self.noun} says {told}")
            said = " ".join(str(error.message).replace(self._key, "***").split())
            return missing(MissingReason.CRASH, f"the {self.noun} says {told}: {shown(said)}")

        if isinstance(error, openai.APITimeoutError):
            told = f"the {self.noun} took more than {self._endpoint.timeout:g} s"
            return missing(MissingReason.TIMEOUT, told)
        if isinstance(error, openai.APIConnectionError):
            return missing(MissingReason.UNREACHABLE, f"no connection to {self._endpoint.url}")
        told = f"the {self.noun}'s answer cannot be read ({type(error).__name__})"
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
