"""Train on five tasks of reasoning-gym with one run file, in which only the line `task:` differs.

    python examples/reasoning_gym.py                                # three iterations of each
    python examples/reasoning_gym.py stop.training_iteration=100    # arguments override settings

The model is SmolLM2-135M; see `reasoning_gym.yaml` in this folder.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

TASKS = ("gcd", "letter_counting", "maze", "puzzle24", "spell_backward")
RUN_FILE = Path(__file__).with_suffix(".yaml")
OUTPUTS = Path("outputs") / "reasoning_gym"
RLLIB_DAPO = Path(sys.executable).with_name("rllib-dapo")


def main(overrides: list[str]) -> int:
    rewards = {}
    for task in TASKS:
        print(f"\n{task}", flush=True)
        folder = OUTPUTS / task
        shutil.rmtree(folder, ignore_errors=True)

        command = [str(RLLIB_DAPO), "train", str(RUN_FILE), "--storage", str(folder.absolute())]
        for setting in (f"environment.env_config.task={task}", *overrides):
            command += ["--set", setting]
        exit_code = subprocess.run(command, check=False).returncode
        if exit_code != 0:
            return exit_code

        (results,) = folder.glob("*/*/result.json")
        last = json.loads(results.read_text().splitlines()[-1])
        rewards[task] = last["env_runners"]["episode_return_mean"]

    print()
    for task, reward in rewards.items():
        print(f"  {task:16} mean reward {reward:.3f} in the last iteration")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
