"""Train with a tool: a tiny model that cannot multiply learns to use a calculator.

    python examples/calculator.py [ITERATIONS] [MODEL] [ENGINE]

The model learns to call the calculator and to copy its result. The script prints an episode of a
problem that is not trained on, before and after training. `tune_configs/tiny_calculator.yaml` is
the same as a run file. For a chat model, leave out `template`, `call_open`, `call_close` and
`result_template`.
"""

import sys

from rllib_dapo import DAPOConfig
from rllib_dapo.core import PromptGroup

PROBLEMS = {"operations": "*", "max_operand": 49}


def show(group: PromptGroup) -> None:
    response = group.responses[0]
    print(f"  problem:    {group.prompt}")
    for turn in response.turns:
        print(f"  model:      {turn.said}")
        if turn.observation:
            print(f"  calculator: {turn.observation}")
    trained, tokens = response.loss_mask.sum(), len(response.token_ids)
    print(f"  reward:     {response.reward:+g}; loss on {trained} of {tokens} tokens")


def main(iterations: str = "20", model: str = "tiny-calculator", engine: str = "vllm") -> None:
    env_config = {
        "template": "{problem}",
        "call_open": "[",
        "call_close": "]",
        "result_template": "{result}=",
    }
    training = {**env_config, "problem_config": PROBLEMS}
    heldout = {**env_config, "problem_config": {**PROBLEMS, "split": "heldout"}}

    config = (
        DAPOConfig()
        .environment("rllib_dapo/CalculatorMath-v0", env_config=training)
        .language_model(model, dtype="float32")
        .rollout(engine=engine, max_prompt_tokens=16, max_response_tokens=32, max_turns=3)
        .training(lr=1e-4, warmup_steps=2, prompts_per_step=16, group_size=16, minibatch_size=64)
        .dynamic_sampling(max_rounds=3)
        .overlong(buffer_tokens=4)
        # All in this process, so that its EnvRunner can be asked for episodes.
        .env_runners(num_env_runners=0)
        .evaluation(evaluation_config={"env_config": heldout}, evaluation_samples_per_prompt=1)
    )
    algo = config.build_algo()

    show(algo.env_runner.sample_groups([0], evaluation=True).groups[0].group())
    for iteration in range(int(iterations)):
        sampled = algo.train()["env_runners"]
        accuracy, turns = sampled["accuracy"], sampled["episode_len_mean"]
        print(f"iteration {iteration + 1}: accuracy {accuracy:.3f}, turns {turns:.2f}", flush=True)
    show(algo.env_runner.sample_groups([0], evaluation=True).groups[0].group())
    algo.stop()


if __name__ == "__main__":
    main(*sys.argv[1:])
