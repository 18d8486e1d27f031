"""Which random numbers an engine draws: a function of run, weights and prompt alone."""

from __future__ import annotations

import numpy as np

# Keep the draws of evaluation apart from those of training under the same run seed.
TRAINING_STREAM, EVALUATION_STREAM = 0, 1


def sampling_seed(
    run_seed: int, stream: int, weights_version: int, prompt_seed: int, *turn: int
) -> int:
    """Returns the engine's seed for one request.

    The same run, weights and prompt give the same draws on any EnvRunner, so work that was lost
    with an EnvRunner is sampled again exactly as it was.

    Args:
        run_seed: Seed of the run.
        stream: `TRAINING_STREAM` or `EVALUATION_STREAM`.
        weights_version: Version of the weights that sample.
        prompt_seed: Reset seed of the prompt.
        *turn: Nothing for the first turn, which samples a whole group; for a later turn, the
            response's place in its group and the number of turns before this one.

    Returns:
        A seed in `[0, 2**31)`.
    """
    sequence = np.random.SeedSequence([run_seed, stream, weights_version, prompt_seed, *turn])
    return int(sequence.generate_state(1, np.uint32)[0]) >> 1
