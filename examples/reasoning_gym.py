"""Five tasks of reasoning-gym, one after the other, with one run file: nothing but its line `task:` differs.

python examples/reasoning_gym.py                                    # SmolLM2-135M, three iterations each
python examples/reasoning_gym.py language_model.name=tiny language_model.dtype=float32    # in a minute or two a task
python examples/reasoning_gym.py stop.training_iteration=100        # arguments override settings
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from rllib_dapo.run import preflight, tuner
from rllib_dapo.run.file import SettingsError
from rllib_dapo.run.settings import read_settings
from rllib_dapo.run.summary import failure_lines, is_interrupted

TASKS = ("gcd", "letter_counting", "maze", "count_bits", "coin_flip")
RUN_FILE = Path(__file__).with_suffix(".yaml")
OUTPUTS = Path("outputs") / "reasoning_gym"
HERE = Path(__file__).resolve().parent
sys.path[:] = [entry for entry in sys.path if Path(entry).resolve() != HERE]  # a file there is called like the package


def main(overrides: list[str]) -> int:
    tuner.silence()
    rewards = {}
    for task in TASKS:
        try:
            settings = read_settings(RUN_FILE, [f"environment.env_config.task={task}", *overrides])
            preflight.check_run(settings)
        except SettingsError as error:
            print(error, file=sys.stderr)
            return 2
        print(f"\n{task}")
        shutil.rmtree(OUTPUTS / task, ignore_errors=True)
        outcome = tuner.run(settings, str((OUTPUTS / task).absolute()))
        failures = failure_lines(outcome)
        if failures or is_interrupted(outcome):
            print(*failures, sep="\n", file=sys.stderr)
            return 1
        rewards[task] = outcome.grid[0].metrics["env_runners"]["reward_mean"]
    print()
    for task, reward in rewards.items():
        print(f"  {task:16} mean reward {reward:.3f} in the last iteration")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
