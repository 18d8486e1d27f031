"""Places for episodes: how many are taken, and who comes next."""

from __future__ import annotations

from rllib_dapo.rollout.environment_places import EnvironmentPlaces


def test_who_finds_no_place_begins_when_one_is_given_back() -> None:
    begun: list[str] = []
    places = EnvironmentPlaces(2)
    for name in "abcd":
        places.take(name, lambda name=name: begun.append(name))
    assert begun == ["a", "b"]
    places.give_back()
    assert begun == ["a", "b", "c"]
    assert places.forget("d")
    assert not places.forget("a")
    places.give_back()
    assert begun == ["a", "b", "c"]


def test_an_overdue_one_is_stood_in_for_up_to_twice_the_number() -> None:
    begun: list[int] = []
    places = EnvironmentPlaces(1)
    for number in range(4):
        places.take(number, lambda number=number: begun.append(number))
    with places.while_overdue():
        assert begun == [0, 1]
        with places.while_overdue():
            assert begun == [0, 1]  # two are taken, which is twice the number
    places.give_back()
    assert begun == [0, 1]  # the one that stood in is still there
    places.give_back()
    assert begun == [0, 1, 2]


def test_without_a_number_everybody_begins_at_once() -> None:
    begun: list[int] = []
    places = EnvironmentPlaces(None)
    for number in range(100):
        places.take(number, lambda number=number: begun.append(number))
    assert begun == list(range(100))
