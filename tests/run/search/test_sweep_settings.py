"""Schedulers, searchers and stop rules as a run file names them, and the presets that do."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest
from ray.tune.schedulers import ASHAScheduler, FIFOScheduler, PopulationBasedTraining
from ray.tune.search import BasicVariantGenerator, ConcurrencyLimiter
from ray.tune.search.variant_generator import generate_variants

from rllib_dapo.findings import SettingsError
from rllib_dapo.run.preflight import check_run, warnings
from rllib_dapo.run.preset_files import find_run_file
from rllib_dapo.run.run_settings import RunSettings, read_settings
from rllib_dapo.run.search.mutations import Mutations
from rllib_dapo.run.search.schedulers import make_scheduler
from rllib_dapo.run.search.searchers import make_searcher
from rllib_dapo.run.search.stoppers import StopRules
from rllib_dapo.run.tuner import can_reuse_actors

PRESETS = Path(__file__).parents[3] / "tune_configs"
TWO_CORES = {"GPU": 0.0, "CPU": 2.0}
HAS_OPTUNA = importlib.util.find_spec("optuna") is not None
BASE = """
language_model: {name: tiny}
environment: {env: rllib_dapo/Arithmetic-v0, env_config: {max_operand: 9}}
training: {prompts_per_step: 4, group_size: 8, minibatch_size: 8}
search: {training.epsilon_high: {uniform: [0.2, 0.5]}}
"""


def _read(folder: Path, text: str, *overrides: str) -> RunSettings:
    file = folder / "run.yaml"
    file.write_text(BASE + text)
    return read_settings(file, overrides)


def _scheduler(run: RunSettings) -> Any:
    return make_scheduler(
        run.tune.scheduler,
        iterations=run.stop.get("training_iteration"),
        mutations=Mutations(run.search),
    )


def _searcher(run: RunSettings) -> Any:
    tuning = run.tune
    return make_searcher(
        tuning.searcher,
        search=run.search,
        metric=tuning.metric,
        mode=tuning.mode,
        max_concurrent=tuning.max_concurrent_trials,
        scheduler=tuning.scheduler["type"],
    )


def test_without_a_word_trials_are_drawn_by_chance_and_run_to_their_end(tmp_path: Path) -> None:
    run = _read(tmp_path, "")
    assert type(_scheduler(run)) is FIFOScheduler
    assert type(_searcher(run)) is BasicVariantGenerator
    assert run.rules == StopRules()


def test_asha_takes_rays_options_and_the_trials_length(tmp_path: Path) -> None:
    run = _read(
        tmp_path,
        "tune: {scheduler: {type: asha, grace_period: 2}}\nstop: {training_iteration: 16}\n",
    )
    scheduler = _scheduler(run)
    assert isinstance(scheduler, ASHAScheduler)
    assert scheduler._max_t == 16
    assert _scheduler(_read(tmp_path, "tune: {scheduler: {type: asha, max_t: 8}}\n"))._max_t == 8


def test_pbt_changes_what_is_searched_for_and_keeps_checkpoints_for_others(tmp_path: Path) -> None:
    run = _read(tmp_path, "", "tune.scheduler.type=pbt", "tune.scheduler.perturbation_interval=4")
    scheduler = _scheduler(run)
    assert isinstance(scheduler, PopulationBasedTraining)
    assert list(scheduler._hyperparam_mutations) == ["epsilon_high"]
    assert scheduler._perturbation_interval == 4
    assert scheduler._synch
    assert run.tune.num_to_keep == 4


def test_pbt_and_a_bound_on_trials_at_the_same_time_are_refused(tmp_path: Path) -> None:
    with pytest.raises(
        SettingsError,
        match=r"tune\.max_concurrent_trials=1 must be 0 with pbt: its trials take turns",
    ):
        _read(
            tmp_path,
            "",
            "tune.scheduler.type=pbt",
            "tune.num_samples=4",
            "tune.max_concurrent_trials=1",
        )


def test_rules_stand_beside_limits_and_are_not_taken_for_metrics(tmp_path: Path) -> None:
    run = _read(
        tmp_path,
        "stop: {training_iteration: 5, entropy_below: 0.1, patience: 2}\n",
        "stop.reward_nan=true",
    )
    assert run.stop == {"training_iteration": 5}
    assert run.rules == StopRules(entropy_below=0.1, reward_nan=True, patience=2)


@pytest.mark.skipif(not HAS_OPTUNA, reason="optuna is not installed")
def test_optuna_draws_in_place_of_chance(tmp_path: Path) -> None:
    text = "tune: {searcher: {type: optuna, seed: 3}, max_concurrent_trials: 2}\n"
    run = _read(tmp_path, text)
    searcher = _searcher(run)
    assert isinstance(searcher, ConcurrencyLimiter)
    drawn = [searcher.suggest(name) for name in "ab"]
    assert all(0.2 <= one["epsilon_high"] <= 0.5 for one in drawn)
    assert drawn == [_searcher(run).suggest("a"), drawn[1]]
    # Tune is given a configuration without spaces: what is drawn is put over it.
    assert len(list(generate_variants({"config": run.config.to_dict()}))) == 1
    assert run.config.epsilon_high == 0.2


def test_a_preset_is_found_by_its_name_whatever_dots_are_in_it() -> None:
    for name in (
        "epsilon_grid",
        "dapo_qwen2.5_32b",
        "dapo_qwen2.5_32b.yaml",
        "tune_configs/dapo_qwen2.5_32b.yaml",
    ):
        assert find_run_file(name).stem.startswith(
            name.removeprefix("tune_configs/").partition(".")[0]
        )


REFUSED = {
    "a scheduler without a type": (
        "tune: {scheduler: {grace_period: 1}}",
        "tune.scheduler has no type",
    ),
    "a scheduler that is a word": (
        "tune: {scheduler: asha}",
        "tune.scheduler='asha' must be settings",
    ),
    "a misspelt scheduler": (
        "tune: {scheduler: {type: ahsa}}",
        "tune.scheduler.type='ahsa' must be one of fifo, asha, pbt, race; did you mean 'asha'?",
    ),
    "a misspelt option": (
        "tune: {scheduler: {type: asha, grace_perod: 1}}",
        "unknown setting 'tune.scheduler.grace_perod'; did you mean 'grace_period'?",
    ),
    "an option of another": (
        "tune: {scheduler: {type: fifo, synch: true}}",
        "'tune.scheduler.synch'; fifo has none",
    ),
    "a wrong kind": (
        "tune: {scheduler: {type: asha, grace_period: long}}",
        "tune.scheduler.grace_period='long' must be a whole number of at least 1",
    ),
    "a factor of one": (
        "tune: {scheduler: {type: asha, reduction_factor: 1}}",
        "must be a number over 1",
    ),
    "too large a share": (
        "tune: {scheduler: {type: pbt, quantile_fraction: 0.7}}",
        "must be a number in [0, 0.5]",
    ),
    "no factors": (
        "tune: {scheduler: {type: pbt, perturbation_factors: 2}}",
        "must be a list of numbers over 0",
    ),
    "asha without an end": (
        "tune: {scheduler: {type: asha}}",
        "asha must know how long a trial is",
    ),
    "asha with too much grace": (
        "tune: {scheduler: {type: asha, grace_period: 9}}\nstop: {training_iteration: 8}",
        "tune.scheduler.grace_period=9 must not be over the 8 iterations of a trial",
    ),
    "pbt with variants": (
        "tune: {scheduler: {type: pbt}}\nvariants: {a: {}}",
        "pbt mixes the settings of trials",
    ),
    "pbt with too few checkpoints": (
        "tune: {scheduler: {type: pbt}, num_to_keep: 1}",
        "tune.num_to_keep=1 must be at least 4 with pbt",
    ),
    "pbt by an evaluation that is not there": (
        "tune:\n"
        "  scheduler: {type: pbt, perturbation_interval: 3}\n"
        "  metric: evaluation.env_runners.avg@8\n"
        "evaluation: {evaluation_interval: 2}",
        "perturbation_interval=3 must be a multiple of evaluation.evaluation_interval=2",
    ),
    "a misspelt searcher": ("tune: {searcher: {type: optunna}}", "did you mean 'optuna'?"),
    "a searcher's seed": (
        "tune: {searcher: {type: random, seed: -1}}",
        "tune.searcher.seed=-1 must be a whole number",
    ),
    "a rule of no use": (
        "stop: {entropy_below: -1}",
        "stop.entropy_below=-1 must be a number over 0",
    ),
    "a misspelt rule": ("stop: {entropy_belw: 1}", "no such metric; did you mean 'entropy_below'?"),
    "rules that contradict": ("stop: {entropy_below: 2, entropy_above: 1}", "no trial would go on"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_wrong_setting_of_a_sweep_is_refused_in_one_line(tmp_path: Path, name: str) -> None:
    text, message = REFUSED[name]
    with pytest.raises(SettingsError) as refused:
        _read(tmp_path, text + "\n")
    assert message in str(refused.value)
    assert "run.yaml" in str(refused.value)
    assert "\n" not in str(refused.value)


def test_pbt_without_a_search_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text("language_model: {name: tiny}\ntune: {scheduler: {type: pbt}}\n")
    with pytest.raises(SettingsError, match="pbt changes the settings that are searched for"):
        read_settings(file)


@pytest.mark.skipif(not HAS_OPTUNA, reason="optuna is not installed")
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("tune: {searcher: {type: optuna}, scheduler: {type: pbt}}", "pbt draws values itself"),
        (
            "tune: {searcher: {type: optuna}}\nvariants: {a: {}}",
            "optuna draws numbers and does not know variants",
        ),
        (
            "tune: {searcher: {type: optuna}, metric: evaluation.env_runners.avg@8}",
            "needs a metric of every iteration",
        ),
    ],
)
def test_what_optuna_cannot_do_is_refused_in_one_line(
    tmp_path: Path, text: str, message: str
) -> None:
    with pytest.raises(SettingsError, match=message):
        _read(tmp_path, text + "\n")
    with pytest.raises(SettingsError, match=r"write search\.training\.lr as \{choice"):
        _read(tmp_path, "tune: {searcher: {type: optuna}}\n", "search.training.lr={grid: [1e-4]}")


def test_actors_are_shared_where_trials_differ_in_nothing_that_they_were_made_with(
    tmp_path: Path,
) -> None:
    shared = (
        "search.training.lr={grid: [1e-4, 1e-5]}",
        "search.rollout.temperature={choice: [0.9, 1.0]}",
    )
    assert can_reuse_actors(_read(tmp_path, "", *shared))
    assert not can_reuse_actors(_read(tmp_path, "", *shared, "tune.reuse_actors=false"))
    assert not can_reuse_actors(
        _read(tmp_path, "", "search.rollout.max_response_tokens={grid: [8192, 20480]}")
    )
    assert not can_reuse_actors(
        _read(tmp_path, "variants: {a: {}, b: {environment.env_config.max_operand: 4}}\n")
    )


@pytest.mark.parametrize(
    ("name", "trials"), [("epsilon_grid", 9), ("epsilon_asha", 12), ("epsilon_pbt", 4)]
)
def test_the_epsilon_presets_fit_two_cores_and_share_one_engine(name: str, trials: int) -> None:
    run = read_settings(PRESETS / f"{name}.yaml")
    check_run(run, available=TWO_CORES)
    assert warnings(run) == []
    assert can_reuse_actors(run)
    assert run.rules.entropy_below is not None
    assert run.rules.entropy_above is not None
    assert run.rules.reward_nan
    assert run.tune.max_failures > 0
    specs = [
        s
        for _ in range(run.tune.num_samples)
        for _, s in generate_variants({"config": run.config.to_dict()})
    ]
    pairs = [(spec["config"]["epsilon_low"], spec["config"]["epsilon_high"]) for spec in specs]
    assert len(set(pairs)) == len(pairs) == trials
    assert all(low <= high for low, high in pairs)
    _scheduler(run)


def test_the_grid_has_the_papers_bounds_and_a_symmetric_pair() -> None:
    run = read_settings(PRESETS / "epsilon_grid.yaml")
    pairs = {
        (s["config"]["epsilon_low"], s["config"]["epsilon_high"])
        for _, s in generate_variants({"config": run.config.to_dict()})
    }
    assert {(0.2, 0.28), (0.28, 0.28)} <= pairs
    assert run.stop["training_iteration"] % run.config.evaluation_interval == 0


RECIPE = {
    "model_name": "Qwen/Qwen2.5-32B",
    "lr": 1e-6,
    "lr_schedule": "constant",
    "warmup_steps": 10,
    "weight_decay": 0.1,
    "grad_clip": 1.0,
    "prompts_per_step": 512,
    "group_size": 16,
    "minibatch_size": 512,
    "epsilon_low": 0.2,
    "epsilon_high": 0.28,
    "dual_clip": 10.0,
    "loss_aggregation": "token_mean",
    "advantage_estimator": "group",
    "normalize_advantages_by_std": True,
    "kl_coefficient": 0.0,
    "entropy_coefficient": 0.0,
    "temperature": 1.0,
    "top_p": 1.0,
    "max_prompt_tokens": 2048,
    "max_response_tokens": 20480,
    "overlong_buffer_tokens": 4096,
    "overlong_penalty": 1.0,
    "overlong_filtering": False,
    "dynamic_sampling_enabled": True,
    "max_oversampling": 1536 / 512,
    "max_rounds": 10,
    "on_shortfall": "raise",
    "evaluation_interval": 5,
    "evaluation_num_prompts": 30,
    "evaluation_samples_per_prompt": 32,
    "evaluation_temperature": 1.0,
    "evaluation_top_p": 0.7,
}


def test_the_recipes_preset_has_every_number_of_the_public_recipe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    files = {name: tmp_path / f"{name}.jsonl" for name in ("train", "test")}
    for name, file in files.items():
        file.write_text(
            json.dumps({"question": f"What is the {name} prime?", "answer": "17599"}) + "\n"
        )
    run = read_settings(
        PRESETS / "dapo_qwen2.5_32b.yaml",
        [
            f"environment.env_config.path={files['train']}",
            f"evaluation.evaluation_config.env_config.path={files['test']}",
            # Whether DeepSpeed is installed here is another question.
            *(() if importlib.util.find_spec("deepspeed") else ("deepspeed.config=null",)),
        ],
    )
    assert {name: getattr(run.config, name) for name in RECIPE} == RECIPE
    assert run.config.train_batch_responses // run.config.minibatch_size == 16
    assert run.tune.checkpoint_frequency == 5
    gpus = run.config.num_env_runners * run.config.num_gpus_per_env_runner + run.config.num_learners
    assert gpus == 128
    check_run(run, available={"CPU": 256.0, "GPU": 128.0})
    with pytest.raises(SettingsError, match="asks for 128 GPUs"):
        check_run(run, available={"CPU": 256.0, "GPU": 127.0})
