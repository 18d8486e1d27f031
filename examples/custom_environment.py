"""How to write an environment and train on it: a tiny model learns the last digit of sums.

    python examples/custom_environment.py [MODEL] [ITERATIONS] [ENGINE]

In this folder, `rllib-dapo check-env custom_environment:LastDigitEnv` checks the environment.
"""

import random
import sys

from rllib_dapo import DAPOConfig
from rllib_dapo.envs import Problem, SingleStepTextEnv, Verdict


class LastDigitEnv(SingleStepTextEnv):
    """Asks for a sum, and looks only at the last digit of the response."""

    default_settings = {"max_operand": 49}  # noqa: RUF012

    def problem(self, seed: int) -> Problem:
        """Makes a problem. The same seed must always give the same one: training relies on it."""
        draw = random.Random(seed)
        a, b = (draw.randint(0, self.settings["max_operand"]) for _ in range(2))
        return Problem(prompt=f"{a}+{b}=", answer=str((a + b) % 10), problem_id=f"{a}+{b}")

    def score(self, problem: Problem, response: str) -> Verdict:
        """Judges a response, which is whatever a model wrote: it may be anything."""
        last_digit = response.strip()[-1:]
        return Verdict(is_correct=last_digit == problem.answer, prediction=last_digit)


def main(model: str = "tiny", iterations: str = "10", engine: str = "vllm") -> None:
    config = (
        DAPOConfig()
        .environment(LastDigitEnv, env_config={"max_operand": 49})
        .language_model(model, dtype="float32")
        .rollout(engine=engine, max_prompt_tokens=16, max_response_tokens=8)
        .training(lr=3e-4, warmup_steps=2, prompts_per_step=16, group_size=16, minibatch_size=64)
        .dynamic_sampling(max_rounds=3)
    )

    algo = config.build_algo()
    for iteration in range(int(iterations)):
        accuracy = algo.train()["env_runners"]["accuracy"]
        print(f"iteration {iteration + 1}: accuracy {accuracy:.3f}", flush=True)
    algo.stop()


if __name__ == "__main__":
    main(*sys.argv[1:])
