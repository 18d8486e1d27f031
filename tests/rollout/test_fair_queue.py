"""Requests of several clients are admitted in fair shares."""

from __future__ import annotations

from collections import Counter

from rllib_dapo.rollout.engine import Request, Sampling
from rllib_dapo.rollout.fair_queue import FairQueue


def _request(key: int, responses: int = 4) -> Request:
    sampling = Sampling(num_responses=responses, max_tokens=2)
    return Request(key=key, prompt_ids=[1], sampling=sampling, seed=0)


def _admitted(queue: FairQueue) -> list[tuple[str, int]]:
    found = []
    while (admitted := queue.pop()) is not None:
        client, request = admitted
        found.append((client, request.key))
    return found


def test_a_client_alone_has_all_places_and_no_more() -> None:
    queue = FairQueue(capacity=10)
    for key in range(4):
        queue.put("a", _request(key))
    assert _admitted(queue) == [("a", 0), ("a", 1)]

    queue.finish("a", 3)
    assert _admitted(queue) == [("a", 2)]
    queue.finish("a", 2)
    assert not _admitted(queue)  # 7 are under way
    queue.finish("a", 1)
    assert _admitted(queue) == [("a", 3)]
    assert queue.is_empty


def test_what_becomes_free_goes_to_those_who_have_less() -> None:
    queue = FairQueue(capacity=12)
    for key in range(100):
        queue.put("greedy", _request(key))
    assert len(_admitted(queue)) == 3
    for key in range(5):
        queue.put("late", _request(key))
        queue.put("later", _request(key))

    shares = Counter({"greedy": 3})
    for _ in range(2):
        queue.finish("greedy", 4)
        shares["greedy"] -= 1
        shares.update(client for client, _ in _admitted(queue))
    assert shares == {"greedy": 1, "late": 1, "later": 1}


def test_equals_take_turns_and_each_ones_requests_keep_their_order() -> None:
    queue = FairQueue(capacity=4)
    for key in range(3):
        for client in ("a", "b", "c"):
            queue.put(client, _request(key))
    order = []
    for _ in range(9):
        order += _admitted(queue)
        queue.finish(order[-1][0], 4)
    assert order == [(client, key) for key in range(3) for client in ("a", "b", "c")]


def test_a_request_that_is_larger_than_the_engine_is_admitted_alone() -> None:
    queue = FairQueue(capacity=4)
    queue.put("a", _request(0, responses=2))
    queue.put("b", _request(0, responses=9))
    assert _admitted(queue) == [("a", 0)]
    queue.finish("a", 2)
    assert _admitted(queue) == [("b", 0)]


def test_what_a_client_takes_back_is_never_admitted() -> None:
    queue = FairQueue(capacity=100)
    for key in range(3):
        queue.put("a", _request(key))
        queue.put("b", _request(key))
    assert queue.remove("a", [1]) == 4
    queue.forget("b")
    assert _admitted(queue) == [("a", 0), ("a", 2)]
    assert queue.is_empty
