"""A sweep from Python that prints its own lines alone.

What Ray, its workers and the libraries in them say goes to outputs/workers.log.

python examples/quiet_sweep.py [MODEL]
"""

from __future__ import annotations

import sys
from pathlib import Path

from ray import tune

import rllib_dapo

OUTPUTS = Path("outputs").absolute()


def main(model: str = "tiny") -> None:
    OUTPUTS.mkdir(exist_ok=True)
    config = (
        rllib_dapo.DAPOConfig()
        .environment("rllib_dapo/Arithmetic-v0", env_config={"max_operand": 9})
        .language_model(model, dtype="float32", num_threads=1)
        .rollout(engine="transformers", max_prompt_tokens=16, max_response_tokens=8)
        .training(lr=tune.grid_search([1e-4, 1e-3]), prompts_per_step=4, group_size=4)
        .training(minibatch_size=8)
        .dynamic_sampling(enabled=False)
    )
    with rllib_dapo.quiet(OUTPUTS / "workers.log") as log:
        results = tune.Tuner(
            "DAPO",
            param_space=config,
            run_config=tune.RunConfig(
                name="quiet_sweep",
                storage_path=str(OUTPUTS),
                stop={"training_iteration": 2},
                verbose=0,
            ),
        ).fit()

    for result in results:
        accuracy = result.metrics["env_runners"]["accuracy"]
        print(f"lr {result.config['lr']}: accuracy {accuracy:.3f}")
    if results.num_errors:
        print(*log.exceptions, sep="\n", file=sys.stderr)


if __name__ == "__main__":
    main(*sys.argv[1:])
