import copy
import pickle
from collections.abc import Callable
from typing import Any

import gymnasium
import pytest

from rllib_dapo.envs import TextSpace


@pytest.mark.parametrize(
    "text", ["", "x = 1/2", "π ≈ 3.14", "\x00", "😀" * 10, "\u202eright to left", "\ud800"]
)
def test_any_text_that_is_not_too_long_is_in_the_space(text: str) -> None:
    assert text in TextSpace(20)


def test_text_that_is_too_long_and_what_is_no_text_is_not_in_the_space() -> None:
    space = TextSpace(5)
    assert "12345" in space
    assert "123456" not in space
    assert all(thing not in space for thing in (None, 5, b"12345", ["1"]))


def test_it_pickles_to_less_than_a_kilobyte_even_after_sampling() -> None:
    space = TextSpace(1_000_000)
    assert len(pickle.dumps(space)) < 200
    space.sample()
    assert len(pickle.dumps(space)) < 1_000


@pytest.mark.parametrize(
    "duplicate", [copy.deepcopy, lambda space: pickle.loads(pickle.dumps(space))]
)
def test_a_copy_is_equal_and_goes_on_sampling_as_the_original(
    duplicate: Callable[[Any], Any],
) -> None:
    space = TextSpace(100, seed=3)
    space.sample()
    twin = duplicate(space)
    assert twin == space
    assert [twin.sample() for _ in range(5)] == [space.sample() for _ in range(5)]


def test_samples_follow_the_seed_and_are_short_printable_ascii() -> None:
    one, two, other = TextSpace(1_000, seed=1), TextSpace(1_000, seed=1), TextSpace(1_000, seed=2)
    samples = [one.sample() for _ in range(50)]
    assert samples == [two.sample() for _ in range(50)]
    assert samples != [other.sample() for _ in range(50)]
    assert all(
        text.isascii() and (text.isprintable() or not text) and len(text) <= 32 for text in samples
    )
    assert len(set(samples)) > 40


def test_samples_of_a_tiny_space_fit_into_it() -> None:
    space = TextSpace(2, seed=0)
    assert {len(space.sample()) for _ in range(50)} == {0, 1, 2}


def test_a_sample_can_be_given_a_length() -> None:
    assert len(TextSpace(100).sample(mask=(7, None))) == 7


def test_equality_hash_and_repr_tell_the_length() -> None:
    assert TextSpace(5) == TextSpace(5)
    assert len({TextSpace(5), TextSpace(5), TextSpace(6)}) == 2
    assert TextSpace(5) != gymnasium.spaces.Text(5, min_length=0)
    assert repr(TextSpace(5)) == "TextSpace(5)"


def test_a_space_without_room_is_refused() -> None:
    with pytest.raises(ValueError, match="max_length=0"):
        TextSpace(0)
