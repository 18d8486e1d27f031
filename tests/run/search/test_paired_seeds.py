"""Seeds under which every point of a search runs: what Tune makes of them, and what they refuse."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
from ray.tune.search import BasicVariantGenerator
from ray.tune.search.variant_generator import generate_variants

from rllib_dapo.findings import SettingsError
from rllib_dapo.run.run_settings import RunSettings, read_settings
from rllib_dapo.run.search.race_scheduler import RaceScheduler
from rllib_dapo.run.search.schedulers import make_scheduler
from rllib_dapo.run.search.searchers import OpenVariantGenerator, make_searcher
from rllib_dapo.run.shared_engines import trials_at_a_time

BASE = """
language_model: {name: tiny}
environment: {env: rllib_dapo/Arithmetic-v0, env_config: {max_operand: 9}}
training: {prompts_per_step: 4, group_size: 8, minibatch_size: 8}
"""
RANDOM = "search: {seeds: 3, training.lr: {loguniform: [1e-5, 1e-3]}}\ntune: {num_samples: 4}\n"
BOUNDS = """
search:
  seeds: [3, 5]
  training.epsilon_low: {LOW}
  training.epsilon_high: {HIGH}
"""


def _read(folder: Path, text: str, *overrides: str) -> RunSettings:
    file = folder / "run.yaml"
    file.write_text(BASE + text)
    return read_settings(file, overrides)


def _searcher(run: RunSettings) -> BasicVariantGenerator:
    tuning = run.tune
    searcher = make_searcher(
        tuning.searcher,
        search=run.search,
        metric=tuning.metric,
        mode=tuning.mode,
        max_concurrent=0,
        scheduler=tuning.scheduler["type"],
        has_seeds=bool(run.seeds),
    )
    assert isinstance(searcher, BasicVariantGenerator)
    return searcher


def _drawn(run: RunSettings, *names: str) -> dict[tuple[Any, ...], list[int]]:
    """The seeds of each point, by its values of these settings, as Tune draws them."""
    searcher = _searcher(run)
    variants = [
        variant["config"]
        for _ in range(run.tune.num_samples)
        for _, variant in generate_variants(
            {"config": run.config.to_dict()},
            constant_grid_search=searcher._constant_grid_search,
            random_state=searcher._random_state,
        )
    ]
    found: defaultdict[tuple[Any, ...], list[int]] = defaultdict(list)
    for config in variants:
        found[tuple(config[name] for name in names)].append(config["seed"])
    return dict(found)


def test_every_point_of_a_grid_runs_under_the_same_seeds(tmp_path: Path) -> None:
    run = _read(
        tmp_path,
        "debugging: {seed: 4}\n"
        "search:\n  seeds: 3\n  training.lr: {grid: [1e-4, 1e-5]}\n"
        "  training.epsilon_high: {grid: [0.3]}\n",
    )
    assert run.seeds == (4, 5, 6)
    assert list(run.search) == ["training.lr", "training.epsilon_high"]
    points = _drawn(run, "lr")
    assert {lr: sorted(seeds) for lr, seeds in points.items()} == {
        (1e-4,): [4, 5, 6],
        (1e-5,): [4, 5, 6],
    }


def test_what_is_drawn_at_random_is_the_same_for_all_seeds_of_a_point(tmp_path: Path) -> None:
    run = _read(tmp_path, RANDOM)
    points = _drawn(run, "lr")
    assert [sorted(seeds) for seeds in points.values()] == [[0, 1, 2]] * 4
    # The points are those that the file draws without seeds.
    alone = _read(tmp_path, RANDOM.replace("seeds: 3, ", ""))
    assert list(_drawn(alone, "lr")) == list(points)


@pytest.mark.parametrize(
    ("low", "high"),
    [
        ("grid: [0.1, 0.2, 0.3]", "grid: [0.2, 0.3]"),
        ("uniform: [0.1, 0.4]", "uniform: [0.2, 0.5]"),
        ("grid: [0.1, 0.3]", "uniform: [0.2, 0.5]"),
        ("uniform: [0.1, 0.4]", "grid: [0.2, 0.3]"),
    ],
)
def test_bounds_that_depend_on_each_other_are_drawn_once_for_all_seeds(
    tmp_path: Path, low: str, high: str
) -> None:
    run = _read(tmp_path, BOUNDS.replace("LOW", low).replace("HIGH", high))
    points = _drawn(run, "epsilon_low", "epsilon_high")
    assert len(points) > 1 or "grid" not in low + high
    assert all(sorted(seeds) == [3, 5] for seeds in points.values())
    assert all(low <= high for low, high in points)


def test_variants_run_under_all_seeds_too(tmp_path: Path) -> None:
    run = _read(
        tmp_path,
        "search: {seeds: 2, training.lr: {uniform: [1e-5, 1e-4]}}\n"
        "variants: {a: {}, b: {training.epsilon_high: 0.4}}\n",
    )
    points = _drawn(run, "variant", "epsilon_high", "lr")
    assert sorted(point[:2] for point in points) == [("a", 0.28), ("b", 0.4)]
    assert [sorted(seeds) for seeds in points.values()] == [[0, 1]] * 2


def test_seeds_alone_are_one_point(tmp_path: Path) -> None:
    assert _drawn(_read(tmp_path, "", "search.seeds=2"), "lr") == {(1e-06,): [0, 1]}


def test_the_shared_engine_has_room_for_all_seeds(tmp_path: Path) -> None:
    run = _read(tmp_path, "search: {seeds: 5, training.lr: {grid: [1e-4, 1e-5]}}\n")
    assert trials_at_a_time(run) == 10


def test_a_base_s_seeds_can_be_taken_away_and_are_part_of_the_record(tmp_path: Path) -> None:
    run = _read(tmp_path, RANDOM)
    assert run.record.settings["search.seeds"] == [0, 1, 2]
    without = _read(tmp_path, RANDOM, "search.seeds=null")
    assert without.seeds == ()
    assert "search.seeds" not in without.record.settings


def test_a_race_is_a_scheduler_whose_trials_keep_their_engines(tmp_path: Path) -> None:
    run = _read(
        tmp_path,
        "search: {seeds: 3, training.lr: {grid: [1e-4, 1e-5]}}\n"
        "tune: {scheduler: {type: race, grace_period: 4, interval: 8, confidence: 0.9}}\n"
        "stop: {training_iteration: 24}\n",
    )
    scheduler = make_scheduler(run.tune.scheduler, iterations=24, mutations=None)
    assert isinstance(scheduler, RaceScheduler)
    assert scheduler._milestones == (4, 12, 20)
    assert scheduler._level == pytest.approx(1 - 0.1 / 3)
    assert type(_searcher(run)) is OpenVariantGenerator


def test_a_seed_by_hand_beside_a_list_of_seeds_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"debugging\.seed=7 does nothing beside search\.seeds"):
        _read(tmp_path, "search: {seeds: [0, 1]}\n", "debugging.seed=7")
    assert _read(tmp_path, "search: {seeds: 2}\n", "debugging.seed=7").seeds == (7, 8)


GRID = "training.lr: {grid: [1e-4, 1e-5]}"
RACE = "tune: {scheduler: {type: race}"
REFUSED = {
    "one seed": ("search: {seeds: 1}", "search.seeds=1 must be a number of seeds, at least 2"),
    "the same seed twice": ("search: {seeds: [1, 1]}", "or a list of different seeds"),
    "a word": ("search: {seeds: many}", "search.seeds='many' must be a number of seeds"),
    "a space": ("search: {seeds: {grid: [0, 1]}}", "must be a number of seeds"),
    "a seed that is searched for": (
        "search: {seeds: 2, debugging.seed: {grid: [1, 2]}}",
        "search.debugging.seed searches for the seed itself",
    ),
    "a variant with a seed": (
        "search: {seeds: 2}\nvariants: {a: {debugging.seed: 3}}",
        "variants.a has a debugging.seed of its own",
    ),
    "optuna": (
        "search: {seeds: 2, training.lr: {choice: [1e-4, 1e-5]}}\ntune: {searcher: {type: optuna}}",
        "search.seeds: optuna draws every trial anew",
    ),
    "pbt": (
        "search: {seeds: 2, training.lr: {choice: [1e-4, 1e-5]}}\ntune: {scheduler: {type: pbt}}",
        "search.seeds: pbt changes the settings of trials on the way",
    ),
    "asha": (
        f"search: {{seeds: 2, {GRID}}}\n"
        "tune: {scheduler: {type: asha}}\nstop: {training_iteration: 8}",
        "search.seeds: asha ends trials one by one",
    ),
    "points that are repeated": (
        f"search: {{seeds: 2, {GRID}}}\ntune: {{num_samples: 3}}",
        "tune.num_samples=3 would run every point of the grid that often",
    ),
    "draws inside of what a variant decides": (
        "search: {seeds: 2, environment.env_config.max_operand: {choice: [5, 9]}}\n"
        "variants: {a: {environment.env_config.min_operand: 1}, b: {}}",
        "search.seeds: variants decide env_config",
    ),
    "a race without seeds": (
        f"search: {{{GRID}}}\n{RACE}}}\nstop: {{training_iteration: 8}}",
        "race compares points over seeds: give some, such as search.seeds=5",
    ),
    "a race without an end": (f"search: {{seeds: 2, {GRID}}}\n{RACE}}}", "race must know how long"),
    "a race that never compares": (
        f"search: {{seeds: 2, {GRID}}}\ntune: {{scheduler: {{type: race, grace_period: 8}}}}\n"
        "stop: {training_iteration: 8}",
        "tune.scheduler.grace_period=8: race compares trials on the way",
    ),
    "a race between evaluations": (
        f"search: {{seeds: 2, {GRID}}}\n"
        "tune:\n  scheduler: {type: race, grace_period: 3}\n"
        "  metric: evaluation.env_runners.avg@8\n"
        "evaluation: {evaluation_interval: 2}\nstop: {training_iteration: 8}",
        "must be multiples of evaluation.evaluation_interval=2",
    ),
    "a race with a bound on trials": (
        f"search: {{seeds: 2, {GRID}}}\n{RACE}, max_concurrent_trials: 1}}\n"
        "stop: {training_iteration: 8}",
        "tune.max_concurrent_trials=1 must be 0 with race",
    ),
    "a confidence over one": (
        "tune: {scheduler: {type: race, confidence: 95}}",
        "tune.scheduler.confidence=95 must be a number between 0.5 and 1",
    ),
    "pb2": ("tune: {scheduler: {type: pb2}}", "Ray's PB2 needs scikit-learn"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_paired_is_refused_in_one_line(tmp_path: Path, name: str) -> None:
    text, message = REFUSED[name]
    with pytest.raises(SettingsError) as refused:
        _read(tmp_path, text + "\n")
    assert message in str(refused.value)
    assert "run.yaml" in str(refused.value)
    assert "\n" not in str(refused.value)
