"""An environment of one's own, and training on it: a tiny model learns to get the last digit of sums right.

    python examples/custom_environment.py [MODEL] [ITERATIONS] [ENGINE]

`rllib-dapo check-env custom_environment:LastDigitEnv`, in this folder, looks whether the
environment is sound.
"""

import random
import sys

from rllib_dapo import DAPOConfig
from rllib_dapo.envs import Problem, SingleStepTextEnv, Verdict


class LastDigitEnv(SingleStepTextEnv):
    """Asks for a sum, and looks at its last digit alone."""

    default_settings = {"max_operand": 49}  # noqa: RUF012

    def problem(self, seed: int) -> Problem:
        """The same seed always gives the same problem: the one rule that training relies on."""
        draw = random.Random(seed)
        a, b = (draw.randint(0, self.settings["max_operand"]) for _ in range(2))
        return Problem(prompt=f"{a}+{b}=", answer=str((a + b) % 10), problem_id=f"{a}+{b}")

    def score(self, problem: Problem, response: str) -> Verdict:
        """What a model wrote is a text like any other, and may be anything."""
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
        .overlong(buffer_tokens=2)
    )
    algo = config.build_algo()
    for iteration in range(int(iterations)):
        result = algo.train()
        print(
            f"iteration {iteration + 1}: accuracy {result['env_runners']['accuracy']:.3f}",
            flush=True,
        )
    algo.stop()


if __name__ == "__main__":
    main(*sys.argv[1:])
