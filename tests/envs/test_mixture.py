"""Mixtures: which environment a seed belongs to, and what one does."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rllib_dapo.envs import Problem, SingleStepTextEnv, Verdict
from rllib_dapo.envs.hosts.host_settings import take_host_settings
from rllib_dapo.envs.hosts.hosted_env import HostedEnv
from rllib_dapo.envs.mixture import MIXTURE, environment_names, read_mixture
from rllib_dapo.envs.mixture_env import MixtureEnv

SUMS = "rllib_dapo/Arithmetic-v0"


class SeedEnv(SingleStepTextEnv):
    """Asks for its seed."""

    def problem(self, seed: int) -> Problem:
        return Problem(prompt=f"seed {seed}", answer=str(seed), problem_id=str(seed))

    def score(self, problem: Problem, response: str) -> Verdict:
        return Verdict(is_correct=response == problem.answer)


class BrokenEnv(gymnasium.Env):
    def __init__(self, config: dict[str, Any]) -> None:
        raise LookupError("no disk")


def _environments(*weights: float) -> list[dict[str, Any]]:
    return [
        {"env": SeedEnv, "weight": weight, "name": f"env{i}"} for i, weight in enumerate(weights)
    ]


@pytest.fixture
def mixed() -> Iterator[MixtureEnv]:
    env = MixtureEnv({"environments": _environments(1, 2)})
    yield env
    env.close()


@given(weights=st.lists(st.integers(1, 9), min_size=1, max_size=5), block=st.integers(0, 10**12))
def test_each_stretch_as_long_as_the_weights_has_each_share_exactly(
    weights: list[int], block: int
) -> None:
    mixture = read_mixture(_environments(*weights))
    stretch = range(block * sum(weights), (block + 1) * sum(weights))
    counts = Counter(mixture.place(seed)[0] for seed in stretch)
    assert [counts[i] for i in range(len(weights))] == weights


@given(weights=st.lists(st.floats(0.01, 100), min_size=1, max_size=4))
def test_each_environment_is_asked_with_every_seed_of_its_own_once(weights: list[float]) -> None:
    mixture = read_mixture(_environments(*weights))
    visits: dict[int, list[int]] = {}
    for seed in range(100):
        index, visit = mixture.place(seed)
        visits.setdefault(index, []).append(visit)
    for own in visits.values():
        assert own == list(range(len(own)))


def test_a_seed_gives_the_same_problem_in_any_order_and_instance(mixed: MixtureEnv) -> None:
    forward = [mixed.reset(seed=seed)[0] for seed in range(12)]
    other = MixtureEnv(environments=_environments(1, 2))
    assert [other.reset(seed=seed)[0] for seed in reversed(range(12))] == forward[::-1]
    other.close()


def test_the_name_of_the_environment_goes_with_its_problems_and_verdicts(mixed: MixtureEnv) -> None:
    names = []
    for seed in range(3):
        _, info = mixed.reset(seed=seed)
        _, reward, done, _, end = mixed.step(info["answer"])
        assert (reward, done, end["is_correct"]) == (1.0, True, True)
        assert end["environment"] == info["environment"]
        names.append(info["environment"])
    assert Counter(names) == {"env0": 1, "env1": 2}


def test_epochs_are_those_of_each_environments_own_data(tmp_path: Path) -> None:
    environments = []
    for name, size in (("few", 3), ("many", 6)):
        path = tmp_path / f"{name}.jsonl"
        rows = (f'{{"question": "{name} {i}", "answer": "{i}"}}\n' for i in range(size))
        path.write_text("".join(rows))
        config = {"path": str(path), "template": "{problem}"}
        environments.append({"env": "rllib_dapo/Math-v0", "env_config": config, "name": name})

    env = gymnasium.make(MIXTURE, environments=environments).unwrapped
    prompts = [env.reset(seed=seed)[0] for seed in range(12)]
    assert set(Counter(p for p in prompts if p.startswith("few")).values()) == {2}
    assert set(Counter(p for p in prompts if p.startswith("many")).values()) == {1}
    assert len(set(prompts)) == 9
    assert len(env.problems) == 9
    assert env.data_report.problems == 9
    assert len(env.data_report.sources) == 2
    env.close()


def test_an_environment_without_a_list_of_problems_leaves_the_mixture_without_one() -> None:
    env = MixtureEnv(environments=[{"env": SUMS}])
    assert env.problems is None
    assert env.data_report is None
    env.close()


def test_each_environment_says_where_it_runs() -> None:
    hosted = {"env": SeedEnv, "env_config": {"verify_in": "process"}, "name": "hosted"}
    env = MixtureEnv(environments=[{"env": SeedEnv}, hosted])
    assert [isinstance(one, HostedEnv) for one in env.envs] == [False, True]
    for seed in range(2):
        prompt, _ = env.reset(seed=seed)
        assert prompt == "seed 0"
        assert env.step("0")[1] == 1.0
    env.close()
    assert take_host_settings(MIXTURE, {"environments": []}) == (None, {"environments": []})


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (None, "environments=None: must be a list of mappings"),
        ([], "environments=[]"),
        ([{"env": "rllib_dapo/Aritmetic-v0"}], "did you mean 'rllib_dapo/Arithmetic-v0'"),
        ([{"env": SUMS}, {"env": SUMS}], "called Arithmetic, too"),
        ([{"env": SUMS, "weight": 0}], "environments[0].weight=0"),
        ([{"env": SUMS, "weight": "3"}], "environments[0].weight='3'"),
        ([{"env": SUMS, "wieght": 1}], "did you mean 'weight'"),
        ([{"env": SUMS, "name": "a/b"}], "environments[0].name='a/b'"),
        ([{"env": SUMS, "env_config": 3}], "environments[0].env_config=3"),
        ([{"env": MIXTURE}], "cannot be part of a mixture"),
        ([{"env": "no_such_module:Env"}], "no_such_module cannot be imported"),
        (["rllib_dapo/Arithmetic-v0"], "must be a mapping with env"),
    ],
)
def test_a_wrong_entry_is_refused_in_one_line(given: Any, told: str) -> None:
    with pytest.raises(ValueError, match=r"^environments") as caught:
        MixtureEnv(environments=given)
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


def test_settings_of_where_it_runs_belong_to_its_parts() -> None:
    with pytest.raises(ValueError, match="unknown setting 'verify_in'"):
        gymnasium.make(MIXTURE, environments=_environments(1), verify_in="process")


@pytest.mark.parametrize(
    ("part", "told"),
    [
        ({"env": SUMS, "env_config": {"max_opperand": 3}}, "did you mean 'max_operand'"),
        ({"env": BrokenEnv}, "LookupError: no disk"),
    ],
)
def test_an_environment_that_cannot_be_made_is_named_by_its_entry(
    part: dict[str, Any], told: str
) -> None:
    env = MixtureEnv(environments=[*_environments(1), part])
    with pytest.raises(ValueError, match=r"^environments\[1\] \(") as caught:
        env.reset(seed=0)
    assert told in str(caught.value)


def test_only_a_mixture_names_environments() -> None:
    assert environment_names(SUMS, {}) is None
    assert environment_names(SeedEnv, {}) is None
    for mixture in (MIXTURE, MixtureEnv):
        name_of = environment_names(mixture, {"environments": _environments(1, 1)})
        assert name_of is not None
        assert {name_of(seed) for seed in range(2)} == {"env0", "env1"}
