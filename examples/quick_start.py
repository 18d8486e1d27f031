"""Five iterations of DAPO in Python: a tiny model, made on the spot, learns to add.

python examples/quick_start.py
"""

from rllib_dapo import DAPOConfig

if __name__ == "__main__":
    config = (
        DAPOConfig()
        .environment("rllib_dapo/Arithmetic-v0", env_config={"max_operand": 49})
        .language_model("tiny", dtype="float32")
        .rollout(max_prompt_tokens=16, max_response_tokens=8)
        .training(lr=3e-4, warmup_steps=2, prompts_per_step=16, group_size=16, minibatch_size=64)
    )
    algo = config.build_algo()
    for iteration in range(5):
        result = algo.train()
        print(f"iteration {iteration + 1}: accuracy {result['env_runners']['accuracy']:.3f}")
    algo.stop()
