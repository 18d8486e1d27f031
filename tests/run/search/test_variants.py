"""Named sets of settings: read from a run file, tried by Tune, told in what it prints."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from ray import tune
from ray.tune.search.variant_generator import generate_variants

from rllib_dapo.findings import SettingsError
from rllib_dapo.run.preflight import check_run, warnings
from rllib_dapo.run.progress import ProgressLine
from rllib_dapo.run.run_settings import RunSettings, read_settings
from rllib_dapo.run.summary import summary_lines
from rllib_dapo.run.tuner import RunResult, trial_name

PRESETS = Path(__file__).parents[3] / "tune_configs"
TWO_CORES = {"GPU": 0.0, "CPU": 2.0}

BASE = """
preset: grpo
language_model: {name: tiny}
environment: {env: rllib_dapo/Arithmetic-v0, env_config: {max_operand: 9}}
training: {prompts_per_step: 4, group_size: 8, minibatch_size: 8}
"""
LADDER = """
variants:
  1_grpo: {}
  2_clip_higher: &clip_higher {training.epsilon_high: 0.28}
  3_token_mean: {<<: *clip_higher, training.loss_aggregation: token_mean}
"""


def _read(folder: Path, text: str, *overrides: str) -> RunSettings:
    file = folder / "run.yaml"
    file.write_text(text)
    return read_settings(file, overrides)


def _trials(settings: RunSettings) -> list[dict[str, Any]]:
    """The configurations that Tune makes of a run file."""
    return [spec["config"] for _, spec in generate_variants({"config": settings.config.to_dict()})]


def _picked(trials: list[dict[str, Any]], *names: str) -> list[tuple[Any, ...]]:
    return [tuple(trial[name] for name in names) for trial in trials]


def test_each_variant_is_one_trial_with_its_name_and_its_settings(tmp_path: Path) -> None:
    settings = _read(tmp_path, BASE + LADDER)
    assert settings.followers == ("epsilon_high", "loss_aggregation")
    assert _picked(
        _trials(settings), "variant", "epsilon_high", "loss_aggregation", "kl_coefficient"
    ) == [
        ("1_grpo", 0.2, "sequence_mean", 0.04),
        ("2_clip_higher", 0.28, "sequence_mean", 0.04),
        ("3_token_mean", 0.28, "token_mean", 0.04),
    ]
    assert [(config.variant, config.epsilon_high) for config in settings.checked] == [
        ("1_grpo", 0.2),
        ("2_clip_higher", 0.28),
        ("3_token_mean", 0.28),
    ]


def test_without_variants_nothing_has_a_name(tmp_path: Path) -> None:
    settings = _read(tmp_path, BASE)
    assert settings.followers == ()
    assert settings.config.variant is None
    assert len(settings.checked) == 1


def test_one_variant_alone_is_one_trial(tmp_path: Path) -> None:
    settings = _read(tmp_path, BASE + "variants: {only: {training.lr: 1e-3}}\n")
    assert _picked(_trials(settings), "variant", "lr") == [("only", 1e-3)]


def test_variants_may_differ_in_nested_settings_that_others_do_not_have(tmp_path: Path) -> None:
    settings = _read(
        tmp_path,
        BASE + "variants:\n  easy: {}\n  hard: {environment.env_config.heldout_fraction: 0.5}\n"
        "  other:\n"
        "    environment.env_config: {max_operand: 4}\n"
        "    evaluation.evaluation_config.env_config.split: heldout\n",
    )
    assert _picked(_trials(settings), "env_config", "evaluation_config") == [
        ({"max_operand": 9}, None),
        ({"max_operand": 9, "heldout_fraction": 0.5}, None),
        ({"max_operand": 4}, {"env_config": {"split": "heldout"}}),
    ]


def test_variants_and_a_search_are_combined(tmp_path: Path) -> None:
    settings = _read(
        tmp_path,
        BASE + "variants:\n"
        "  a: {training.epsilon_high: 0.3}\n"
        "  b: {environment.env_config.heldout_fraction: 0.5}\n"
        "search:\n"
        "  training.lr: {grid: [1e-4, 1e-5]}\n"
        "  environment.env_config.max_operand: {grid: [4, 9]}\n",
    )
    points = {
        (
            t["variant"],
            t["epsilon_high"],
            t["lr"],
            t["env_config"]["max_operand"],
            t["env_config"].get("heldout_fraction"),
        )
        for t in _trials(settings)
    }
    assert len(_trials(settings)) == len(points) == 8
    assert points == {
        (name, high, lr, operand, heldout)
        for name, high, heldout in (("a", 0.3, None), ("b", 0.2, 0.5))
        for lr in (1e-4, 1e-5)
        for operand in (4, 9)
    }
    # each end of each space, for both
    assert sorted(
        (c.variant, c.lr, c.env_config["max_operand"]) for c in settings.checked
    ) == sorted((name, *ends) for name in "ab" for ends in ((1e-4, 4), (1e-5, 4), (1e-4, 9)))


def test_variants_may_be_presets(tmp_path: Path) -> None:
    settings = _read(
        tmp_path, BASE + "variants: {new: {preset: dapo}, old: {}, oldest: {preset: ppo}}\n"
    )
    assert _picked(
        _trials(settings), "variant", "loss_aggregation", "advantage_estimator", "kl_coefficient"
    ) == [
        ("new", "token_mean", "group", 0.0),
        ("old", "sequence_mean", "group", 0.04),
        ("oldest", "token_mean", "gae", 0.0),
    ]


def test_what_is_given_by_hand_holds_for_all_variants(tmp_path: Path) -> None:
    settings = _read(
        tmp_path, BASE + LADDER, "training.epsilon_high=0.4", "variants.4_slow={training.lr: 1e-7}"
    )
    assert _picked(_trials(settings), "variant", "epsilon_high", "lr") == [
        ("1_grpo", 0.4, 1e-6),
        ("2_clip_higher", 0.4, 1e-6),
        ("3_token_mean", 0.4, 1e-6),
        ("4_slow", 0.4, 1e-7),
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "variants: {a: {training.epsilon_hihg: 1}}",
            "variants.a: unknown setting 'training.epsilon_hihg'; did you",
        ),
        (
            "variants: {a: {trainng.lr: 1}}",
            "variants.a: unknown section 'trainng'; did you mean 'training'?",
        ),
        (
            "variants: {a: {training.group_size: many}}",
            "training.group_size='many' must be a whole number",
        ),
        ("variants: {a: {lr: 1}}", "variants.a.lr: write a setting with its section"),
        (
            "variants: {a: {training: {lr: 1}}}",
            "variants.a.training: write a setting with its section",
        ),
        (
            "variants: {a: {preset: trpo}}",
            "variants.a: preset='trpo' must be one of dapo, grpo, ppo",
        ),
        ("variants: {a: {stop.training_iteration: 1}}", "only what differs between trials"),
        ("variants: {a: 3}", "variants.a=3 must be settings"),
        ("variants: {a: null}", "variants.a=null takes away what a base has, and none has it"),
        ("variants: {a/b: {}}", "a variant's name is made of"),
        (
            "variants: {a: {}}\nsearch: {variants.a: {grid: [1]}}",
            "only what differs between trials",
        ),
        ("variants: {a: {}, a: {}}", "'a' stands here for the second time"),
        (
            "variants: {a: {training.lr: 1}}\nsearch: {training.lr: {grid: [1, 2]}}",
            "training.lr stands in variants.a and training.lr in search",
        ),
        (
            "variants: {a: {environment.env_config: {}}}\n"
            "search: {environment.env_config.digits: {grid: [1, 2]}}",
            "environment.env_config stands in variants.a and environment.env_config.digits in "
            "search",
        ),
    ],
)
def test_variants_that_are_nonsense_are_refused_in_one_line(
    tmp_path: Path, text: str, message: str
) -> None:
    with pytest.raises(SettingsError) as refused:
        _read(tmp_path, text)
    assert message in str(refused.value)
    assert "run.yaml" in str(refused.value)
    assert "\n" not in str(refused.value)


def test_every_variant_is_checked_before_anything_starts(tmp_path: Path) -> None:
    settings = _read(tmp_path, BASE + "variants: {good: {}, bad: {training.epsilon_high: 0.1}}\n")
    with pytest.raises(
        SettingsError,
        match=r"run\.yaml: variants\.bad: training\.epsilon_high=0\.1 must not be under",
    ):
        check_run(settings, available=TWO_CORES)


def test_a_warning_names_the_variant(tmp_path: Path) -> None:
    settings = _read(tmp_path, BASE + "variants: {four: {}, one: {training.minibatch_size: 32}}\n")
    (warning,) = warnings(settings)
    assert (
        "run.yaml: variants.one: training.minibatch_size=32 makes one update of the 32 responses"
        in warning
    )


def test_table_1_is_six_cumulative_rows_that_fit_two_cores() -> None:
    settings = read_settings(PRESETS / "table1.yaml")
    check_run(settings, available=TWO_CORES)
    assert warnings(settings) == []
    row: dict[str, Any] = {
        "filtering": False,
        "high": 0.2,
        "penalty": 0.0,
        "mean": "sequence_mean",
        "sampling": False,
    }
    rows = [row]
    for addition in (
        {"filtering": True},
        {"high": 0.28},
        {"penalty": 1.0},
        {"mean": "token_mean"},
        {"sampling": True},
    ):
        row = row | addition
        rows.append(row)
    attributes = (
        "overlong_filtering",
        "epsilon_high",
        "overlong_penalty",
        "loss_aggregation",
        "dynamic_sampling_enabled",
    )
    trials = _trials(settings)
    assert _picked(trials, *attributes) == [tuple(row.values()) for row in rows]
    assert [trial["variant"][0] for trial in trials] == list("123456")
    assert {trial["kl_coefficient"] for trial in trials} == {0.0}
    assert settings.stop["training_iteration"] % settings.config.evaluation_interval == 0


class Recorder(tune.Trainable):
    """Reports what it was given."""

    def step(self) -> dict[str, Any]:
        accuracy = {"accuracy": self.config["epsilon_high"]}
        return {"env_runners": accuracy, "given": self.config["loss_aggregation"], "done": True}

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """One process for all trials: starting one takes seconds."""
        self.config = new_config
        return True


@pytest.fixture(scope="module")
def tried(
    cluster: None, tmp_path_factory: pytest.TempPathFactory
) -> tuple[tune.ResultGrid, RunSettings, str]:
    """The ladder with a search beside it, run by Tune with our names and our progress line."""
    folder = tmp_path_factory.mktemp("run")
    settings = _read(folder, BASE + LADDER + "search: {training.lr: {grid: [1e-4]}}\n")
    stream = io.StringIO()
    tuner = tune.Tuner(
        Recorder,
        param_space=settings.config,
        tune_config=tune.TuneConfig(
            trial_name_creator=trial_name,
            trial_dirname_creator=trial_name,
            reuse_actors=True,
            max_concurrent_trials=1,
        ),
        run_config=tune.RunConfig(
            storage_path=str(folder),
            name="ladder",
            verbose=0,
            callbacks=[_LinesTo(stream, settings.followers)],
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
        ),
    )
    return tuner.fit(), settings, stream.getvalue()


class _LinesTo(ProgressLine):
    """Prints starts and results where a test can read them."""

    def __init__(self, stream: io.StringIO, followers: tuple[str, ...]) -> None:
        super().__init__(followers=followers, stream=stream, every_s=0)

    def on_trial_result(self, *_: Any, **__: Any) -> None:
        """A recorder's results are not those of a training run."""


def test_tune_tries_them_all_and_writes_their_names(
    tried: tuple[tune.ResultGrid, RunSettings, str],
) -> None:
    grid, _, _ = tried
    assert grid.num_errors == 0
    frame = grid.get_dataframe()
    assert sorted(
        zip(frame["config/variant"], frame["env_runners/accuracy"], frame["given"], strict=True)
    ) == [
        ("1_grpo", 0.2, "sequence_mean"),
        ("2_clip_higher", 0.28, "sequence_mean"),
        ("3_token_mean", 0.28, "token_mean"),
    ]
    assert sorted(Path(result.path).name for result in grid) == [
        "trial_00000_1_grpo",
        "trial_00001_2_clip_higher",
        "trial_00002_3_token_mean",
    ]


def test_a_run_with_variants_can_be_restored(
    tried: tuple[tune.ResultGrid, RunSettings, str],
) -> None:
    grid, _, _ = tried
    again = tune.Tuner.restore(str(Path(grid[0].path).parent), trainable=Recorder).get_results()
    assert sorted(result.config["variant"] for result in again) == [
        "1_grpo",
        "2_clip_higher",
        "3_token_mean",
    ]


def test_a_trial_is_told_by_its_variant_and_what_is_searched_for(
    tried: tuple[tune.ResultGrid, RunSettings, str],
) -> None:
    assert sorted(line for line in tried[2].splitlines() if line.startswith("trial")) == [
        "trial 1 of 3 (trial_00000_1_grpo): lr=0.0001",
        "trial 2 of 3 (trial_00001_2_clip_higher): lr=0.0001",
        "trial 3 of 3 (trial_00002_3_token_mean): lr=0.0001",
    ]


def test_the_summary_has_a_row_for_each_variant(
    tried: tuple[tune.ResultGrid, RunSettings, str],
) -> None:
    grid, settings, _ = tried
    folder = str(Path(grid[0].path).parent)
    outcome = RunResult(grid=grid, folder=folder, exceptions=(), record=settings.record)
    lines = [" ".join(line.split()) for line in summary_lines(outcome, settings)]
    assert "trial_00000_1_grpo env_runners/accuracy 0.2 after 1 iterations" in lines
    assert any(
        line.startswith("trial_00001_2_clip_higher env_runners/accuracy 0.28 after")
        for line in lines
    )
    assert any("best" in line and "_2_clip_higher" in line for line in lines)
