"""Stop strings: where a response is cut, in ids, and what its environment reads."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rllib_dapo.rollout.engine import Completion
from rllib_dapo.rollout.sampling_options import SamplingOptions
from rllib_dapo.rollout.stop_strings import cut_at_stop, first_stop, read_text

# Token id -> its bytes: some tokens hold several characters, some a half.
PIECES = (b"a", b"b", b"END", b"bE", b"ND", b"\n", b"3\n", b"\n\n", b"\xc3", b"\xa9", b"x\xc3")


def decode(token_ids: Sequence[int]) -> str:
    return b"".join(PIECES[i] for i in token_ids).decode(errors="replace")


def ids_of(*pieces: str | bytes) -> list[int]:
    return [PIECES.index(p if isinstance(p, bytes) else p.encode()) for p in pieces]


def completion(token_ids: Sequence[int]) -> Completion:
    ids = np.array(token_ids, np.int32)
    starts = tuple((i, i) for i in range(len(ids)))
    return Completion(
        token_ids=ids,
        logprobs=-ids.astype(np.float32),
        finish_reason="stop",
        version_starts=starts,
    )


@pytest.mark.parametrize(
    ("sampled", "stop", "kept", "read"),
    [
        (["a", "END"], "END", ["a"], "a"),
        (["a", "b", "END"], "bEND", ["a"], "a"),  # over two tokens
        (["a", "bE", "ND"], "END", ["a", "bE"], "ab"),  # it begins inside a token, which stays
        (["3\n"], "\n", ["3\n"], "3"),
        (["a", "3\n", "\n"], "\n\n", ["a", "3\n"], "a3"),
        (["a", "\n\n"], "\n", ["a"], "a"),  # it ends inside a token
        (["END"], "END", ["END"], ""),  # a response has a token
        (["bE", "ND"], "bEND", ["bE"], ""),
        (["a", b"\xc3", b"\xa9"], "é", ["a"], "a"),  # in two halves
        (["a", b"x\xc3", b"\xa9"], "é", ["a", b"x\xc3"], "ax"),
    ],
)
def test_a_response_is_cut_between_two_tokens_and_its_text_at_the_stop_string(
    sampled: list[str], stop: str, kept: list[str], read: str
) -> None:
    whole = completion(ids_of(*sampled))
    cut = cut_at_stop(whole, stop, SamplingOptions(stop=(stop,), include_stop=False), decode)

    assert cut.token_ids.tolist() == ids_of(*kept)
    assert cut.logprobs.tolist() == whole.logprobs[: len(kept)].tolist()
    assert cut.version_starts == whole.version_starts[: len(kept)]
    assert cut.finish_reason == "stop"
    assert read_text(cut, decode) == read

    included = cut_at_stop(whole, stop, SamplingOptions(stop=(stop,)), decode)
    assert included is whole
    assert read_text(included, decode) == decode(ids_of(*sampled))


def test_a_stop_token_of_the_user_is_cut_and_the_models_own_end_is_not() -> None:
    options = SamplingOptions(stop_token_ids=(1,), include_stop=False)
    assert cut_at_stop(completion([0, 1]), 1, options, decode).token_ids.tolist() == [0]
    assert cut_at_stop(completion([0, 2]), 2, options, decode).token_ids.tolist() == [0, 2]
    assert cut_at_stop(completion([0, 1]), None, options, decode).token_ids.tolist() == [0, 1]

    alone = cut_at_stop(completion([1]), 1, options, decode)
    assert (alone.token_ids.tolist(), read_text(alone, decode)) == ([1], "")


def test_a_token_that_environments_do_not_see_takes_no_text_with_it() -> None:
    hidden = PIECES.index(b"END")

    def read(token_ids: Sequence[int]) -> str:
        return decode([i for i in token_ids if i != hidden])

    options = SamplingOptions(stop=("ND",), include_stop=False)
    cut = cut_at_stop(completion(ids_of("a", "b", "END")), "ND", options, decode)
    assert cut.token_ids.tolist() == ids_of("a", "b", "END")
    assert read_text(cut, read) == "ab"


def test_the_stop_string_that_is_complete_first_counts() -> None:
    ids = ids_of("a", "b", "END", "\n")
    assert first_stop(ids, ["\n", "END"], decode) == (3, "END")
    assert first_stop(ids, ["D", "EN"], decode) == (3, "EN")
    assert first_stop(ids, ["z"], decode) is None
    assert first_stop([], ["z"], decode) is None


@given(
    st.lists(st.integers(0, len(PIECES) - 1), min_size=1, max_size=12),
    st.lists(st.sampled_from(["a", "ab", "END", "\n", "\n\n", "é", "x", "3"]), min_size=1),
)
def test_whatever_was_sampled_what_is_kept_begins_it_and_reads_as_the_text_before_the_stop(
    ids: list[int], stop: list[str]
) -> None:
    found = first_stop(ids, stop, decode)
    if found is None:
        assert not any(one in decode(ids) for one in stop)
        return

    length, by = found
    assert not any(one in decode(ids[: length - 1]) for one in stop)
    options = SamplingOptions(stop=tuple(stop), include_stop=False)
    cut = cut_at_stop(completion(ids[:length]), by, options, decode)

    assert 1 <= len(cut.token_ids) <= length
    assert cut.token_ids.tolist() == ids[: len(cut.token_ids)]
    assert read_text(cut, decode) == decode(ids[:length]).partition(by)[0]
