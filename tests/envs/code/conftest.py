import json
from collections.abc import Callable
from typing import Any

import pytest


@pytest.fixture(scope="session")
def sandbox() -> None:
    """Skips where there is no sandbox, with the reason; with one, everything here is run."""
    from rllib_dapo.envs.code.code_limits import CodeLimits
    from rllib_dapo.envs.code.sandbox_trial import try_sandbox

    if fault := try_sandbox(CodeLimits()):
        pytest.skip(f"programs cannot be run here: {fault}")


@pytest.fixture
def judge_program(sandbox: None) -> Callable[..., Any]:
    """Gives the verdict on a program: `judge_program(tests, program, prompt=..., **options)`."""
    from rllib_dapo.envs.base import Problem
    from rllib_dapo.envs.code.code_reward import code_reward

    def judge(tests: object, program: str, *, prompt: str = "", **options: object) -> Any:
        # However busy the machine is: nothing here is slow by itself.
        generous = {"wall_seconds": 600, "cpu_seconds": 60}
        reward = code_reward("reward.tests.code", "python", **generous | options)
        answer = tests if isinstance(tests, str) else json.dumps(tests)
        problem = Problem(prompt=prompt, answer=answer, problem_id="p")
        return reward(problem, f"Here it is:\n```python\n{program}\n```\nDone.")

    return judge
