"""One engine serves several clients: each gets its own responses, errors and a fair share."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rllib_dapo.models import load_tokenizer, prompt_token_ids
from rllib_dapo.rollout.engine import (
    Engine,
    EngineDiedError,
    FinishedResponse,
    Request,
    Sampling,
)
from rllib_dapo.rollout.engine_host import EngineHost
from rllib_dapo.rollout.host_clients import EngineFacts, HostAnswer
from rllib_dapo.rollout.shared_engine import STEP_SECONDS, SharedEngine
from rllib_dapo.rollout.transformers_engine import TransformersEngine

SAMPLING = Sampling(num_responses=4, max_tokens=3)
FATAL_SEED = 666


class FragileEngine(TransformersEngine):
    """Refuses an empty prompt, and fails for good at one seed."""

    def add(self, request: Request) -> None:
        if not request.prompt_ids:
            raise ValueError("a prompt has at least one token")
        super().add(request)

    def step(self) -> list[FinishedResponse]:
        if any(request.seed == FATAL_SEED for request in self._waiting):
            raise FloatingPointError("the device has failed")
        return super().step()


def make(model: Path, kind: type[TransformersEngine] = TransformersEngine) -> Callable[[], Engine]:
    """Makes engines of a kind."""
    return lambda: kind(
        model=str(model),
        dtype="float32",
        trust_remote_code=False,
        max_num_seqs=8,
        generate_kwargs={},
    )


@pytest.fixture
def start(raw_model: Path) -> Iterator[Callable[..., EngineHost]]:
    """Starts hosts, and closes them in the end."""
    hosts = []

    def host(kind: type[TransformersEngine] = TransformersEngine, **options: Any) -> EngineHost:
        hosts.append(EngineHost(make(raw_model, kind), **{"capacity": 8, "places": 4, **options}))
        return hosts[-1]

    yield host
    for one in hosts:
        one.close()


def client(host: EngineHost, **options: Any) -> SharedEngine:
    """A client in this process."""

    def ask(method: str, *arguments: Any) -> HostAnswer:
        answer: HostAnswer = getattr(host, method)(*arguments)
        return answer

    return SharedEngine(ask, **options)


@pytest.fixture(scope="module")
def prompts(raw_model: Path) -> list[list[int]]:
    """Six prompts."""
    tokenizer = load_tokenizer(raw_model)
    return [prompt_token_ids(tokenizer, f"{n}+{n + 1}=") for n in range(6)]


def requests(prompts: list[list[int]], *, seed: int) -> list[Request]:
    """A request for each prompt."""
    return [
        Request(key=key, prompt_ids=prompt, sampling=SAMPLING, seed=seed + 10 * key)
        for key, prompt in enumerate(prompts)
    ]


def exhaust(engine: Engine) -> None:
    """Steps an engine until an error ends it."""
    while True:
        engine.step()


def tokens(groups: Any) -> list[list[list[int]]]:
    """Token ids of responses."""
    return [[completion.token_ids.tolist() for completion in group] for group in groups]


def test_clients_at_the_same_time_get_what_each_gets_alone(
    start: Callable[..., EngineHost], raw_model: Path, prompts: list[list[int]]
) -> None:
    host = start()
    seeds = {name: [100 * name + n for n in range(len(prompts))] for name in (1, 2, 3)}
    found: dict[int, Any] = {}

    def sample(name: int) -> None:
        engine = client(host)
        found[name] = tokens(engine.generate(prompts, sampling=SAMPLING, seeds=seeds[name]))
        engine.close()

    threads = [threading.Thread(target=sample, args=(name,)) for name in seeds]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    alone = make(raw_model)()
    for name, own in seeds.items():
        assert found[name] == tokens(alone.generate(prompts, sampling=SAMPLING, seeds=own))
    assert not host._clients


def test_a_greedy_client_cannot_keep_another_waiting(
    start: Callable[..., EngineHost], prompts: list[list[int]]
) -> None:
    host = start()
    greedy, modest = client(host), client(host)
    for request in requests(prompts * 10, seed=1):
        greedy.add(request)
    greedy.step()
    for request in requests(prompts[:2], seed=2):
        modest.add(request)
    while not modest.is_idle:
        modest.step()
    # Two of the greedy client's were in the engine when the other came, and then every other one.
    served = sum(len(found.finished) for found in host._clients.values())
    assert served <= 8 * SAMPLING.num_responses
    greedy.abort()
    assert greedy.is_idle
    assert not host._clients[greedy._client].under_way
    assert host._clients[greedy._client].asked == 0


def test_what_is_wrong_with_one_clients_request_is_told_to_it_alone(
    start: Callable[..., EngineHost], prompts: list[list[int]]
) -> None:
    host = start(FragileEngine)
    careless, other = client(host), client(host)
    other_requests = requests(prompts, seed=3)
    for request in other_requests:
        other.add(request)
    other.step()

    careless.add(replace(requests(prompts, seed=4)[0], prompt_ids=[]))
    with pytest.raises(RuntimeError, match="a prompt has at least one token"):
        exhaust(careless)
    careless.abort()
    # Both go on.
    assert len(careless.generate(prompts[:1], sampling=SAMPLING, seeds=[5])[0]) == 4
    while not other.is_idle:
        other.step()


def test_a_client_that_dies_leaves_its_place_and_nothing_under_way(
    start: Callable[..., EngineHost], prompts: list[list[int]]
) -> None:
    host = start(places=2, silence_seconds=1.0)
    dead, alive = client(host), client(host)
    for request in requests(prompts * 20, seed=6):
        dead.add(request)
    dead.step()
    dead._left.set()  # as with its process, its signs of life end

    until = time.monotonic() + 20
    while dead._client in host._clients:
        alive._ask_host("sign", alive._client)
        assert time.monotonic() < until
        time.sleep(0.1)
    new = client(host)  # there is a place again
    assert len(new.generate(prompts[:1], sampling=SAMPLING, seeds=[7])[0]) == 4
    with pytest.raises(EngineDiedError, match=r"nothing was heard of it for 1 s"):
        dead.step()


def test_a_client_more_than_there_are_places_is_refused(
    start: Callable[..., EngineHost], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rllib_dapo.rollout.shared_engine._JOIN_SECONDS", 0.1)
    host = start(places=1)
    first = client(host)
    with pytest.raises(RuntimeError, match="others have all places of the engine"):
        client(host, place_seconds=0.2)
    first.close()
    client(host, place_seconds=0.2)


def test_an_engine_that_dies_is_told_to_all_and_replaced(
    start: Callable[..., EngineHost], prompts: list[list[int]]
) -> None:
    host = start(FragileEngine)
    one, other = client(host), client(host)
    before = one.facts
    expected = tokens(other.generate(prompts[:1], sampling=SAMPLING, seeds=[8]))

    one.add(replace(requests(prompts, seed=0)[0], seed=FATAL_SEED))
    with pytest.raises(EngineDiedError, match="the device has failed"):
        exhaust(one)
    other.add(requests(prompts, seed=9)[0])
    with pytest.raises(EngineDiedError, match="the device has failed"):
        other.step()
    other.abort()

    new = client(host)
    assert new.facts != before
    assert tokens(new.generate(prompts[:1], sampling=SAMPLING, seeds=[8])) == expected


def test_an_engine_that_never_works_ends_with_its_cause(
    start: Callable[..., EngineHost], prompts: list[list[int]]
) -> None:
    host = start(FragileEngine)
    one = client(host)
    one.add(replace(requests(prompts, seed=0)[0], seed=FATAL_SEED))
    with pytest.raises(EngineDiedError, match="the device has failed"):
        exhaust(one)
    with pytest.raises(EngineDiedError, match="the device has failed"):
        client(host)

    lost = EngineHost(make(Path("nowhere")), capacity=8, places=1)
    with pytest.raises(EngineDiedError, match="nowhere"):
        client(lost)


def test_whole_weights_are_refused(start: Callable[..., EngineHost]) -> None:
    with pytest.raises(RuntimeError, match=r"set language_model\.lora"):
        client(start()).load_weights([])


def test_a_client_that_waits_in_vain_asks_less_often(prompts: list[list[int]]) -> None:
    """Each call takes time of the process that samples for all."""
    waited = []

    def ask(method: str, *arguments: Any) -> HostAnswer:
        if method == "exchange":
            waited.append(arguments[-1])
            return HostAnswer(value=[])
        facts = EngineFacts(pid=1, started="", num_workers=1, takes_adapters=True)
        return HostAnswer(value=facts)

    engine = SharedEngine(ask)
    engine.add(requests(prompts, seed=0)[0])
    for _ in range(6):
        engine.step()
    engine.close()
    assert waited == [STEP_SECONDS, STEP_SECONDS, *(STEP_SECONDS * n for n in (2, 4, 8, 8))]
