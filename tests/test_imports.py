"""What imports load, each in a fresh interpreter; and Tune knows `"DAPO"` after a bare import."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = ("ray", "torch", "transformers", "vllm", "pandas", "pyarrow", "matplotlib")


def _run(script: str, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=800,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def _loaded_by(statement: str) -> set[str]:
    """Modules in the memory of a new interpreter after a statement."""
    output = _run(f"{statement}\nimport json, sys\nprint(json.dumps(sorted(sys.modules)))")
    return set(json.loads(output.splitlines()[-1]))


@pytest.mark.parametrize(
    ("statement", "heavy"),
    [
        ("import rllib_dapo", set()),
        ("import rllib_dapo.core", {"torch"}),
        ("import rllib_dapo.envs", set()),
        ("import gymnasium, rllib_dapo; gymnasium.make('rllib_dapo/Arithmetic-v0')", set()),
        ("import rllib_dapo.cli", set()),
    ],
)
def test_an_import_loads_only_what_it_needs(statement: str, heavy: set[str]) -> None:
    assert _loaded_by(statement) & set(HEAVY) == heavy


@pytest.mark.parametrize("command", ["", "train", "evaluate", "report", "check-env", "dashboard"])
def test_help_loads_nothing_heavy(command: str) -> None:
    script = (
        "import sys, rllib_dapo.cli\n"
        f"sys.argv = ['rllib-dapo', *{command.split()!r}, '--help']\n"
        "try:\n    rllib_dapo.cli.main()\n"
        "except SystemExit as end:\n    assert not end.code"
    )
    assert _loaded_by(script) & {*HEAVY, "gymnasium", "numpy", "rich"} == set()


def test_a_bare_import_offers_the_algorithm_and_its_configuration() -> None:
    script = (
        "import rllib_dapo\n"
        "assert {'DAPO', 'DAPOConfig'} <= set(dir(rllib_dapo)) & set(rllib_dapo.__all__)\n"
        "from rllib_dapo import DAPO, DAPOConfig\n"
        "assert rllib_dapo.DAPO is DAPO\n"
        "print(DAPO.__module__, DAPOConfig.__module__)"
    )
    assert _run(script).split() == ["rllib_dapo.algorithm", "rllib_dapo.config.dapo_config"]


def test_a_name_that_the_package_does_not_have_is_an_attribute_error() -> None:
    script = (
        "import rllib_dapo\n"
        "try:\n    rllib_dapo.dapo\n"
        "except AttributeError as error:\n    print(error)"
    )
    assert _run(script).strip() == "module 'rllib_dapo' has no attribute 'dapo'"


def test_the_algorithm_is_not_loaded_before_its_name_is_asked_for() -> None:
    loaded = _loaded_by("import rllib_dapo\nfrom ray import tune\nimport ray.rllib.algorithms")
    assert "ray.tune" in loaded
    assert "rllib_dapo.algorithm" not in loaded


RLLIB_FINDS_IT = """
from ray.rllib.algorithms.registry import ALGORITHMS
algorithm, config = ALGORITHMS["DAPO"]()
print(algorithm.__module__, type(config).__module__)
"""


@pytest.mark.parametrize(
    "imports",
    [
        "from ray.rllib.algorithms import registry\nimport rllib_dapo",
        pytest.param("import rllib_dapo", marks=pytest.mark.slow),
        pytest.param("import rllib_dapo.algorithm", marks=pytest.mark.slow),
    ],
)
def test_rllib_lists_the_algorithm_beside_its_own(imports: str) -> None:
    assert _run(imports + RLLIB_FINDS_IT).splitlines()[-1].split() == [
        "rllib_dapo.algorithm",
        "rllib_dapo.config.dapo_config",
    ]


TWO_SWEEPS = """
{imports}
import json, sys
import ray

model, storage = sys.argv[1:]
for number in range(2):
    ray.init(num_cpus=2, include_dashboard=False, logging_level="ERROR")
    results = tune.Tuner(
        "DAPO",
        param_space={{
            "env": "rllib_dapo/Arithmetic-v0",
            "env_config": {{"max_operand": 4}},
            "model_name": model,
            "model_dtype": "float32",
            "num_threads": 1,
            "engine": "transformers",
            "max_prompt_tokens": 16,
            "max_response_tokens": 6,
            "num_env_runners": 0,
            "prompts_per_step": 2,
            "group_size": 4,
            "minibatch_size": 4,
            "dynamic_sampling_enabled": False,
            "overlong_buffer_tokens": 2,
        }},
        run_config=tune.RunConfig(
            name=f"sweep{{number}}",
            stop={{"training_iteration": 1}},
            storage_path=storage,
            verbose=0,
        ),
    ).fit()
    print("ERRORS", results.num_errors, results.errors)
    ray.shutdown()
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    "imports",
    [
        pytest.param("import rllib_dapo\nfrom ray import tune", id="before-tune"),
        pytest.param(
            "from ray import tune\nimport rllib_dapo", id="after-tune", marks=pytest.mark.exhaustive
        ),
    ],
)
def test_tune_runs_a_plain_dictionary_by_name_in_one_ray_after_the_other(
    imports: str, raw_model: Path, tmp_path: Path
) -> None:
    output = _run(TWO_SWEEPS.format(imports=imports), str(raw_model), str(tmp_path / "results"))
    assert output.count("ERRORS 0 []") == 2, output[-3000:]
