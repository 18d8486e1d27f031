"""Groups of made-up tokens, a small configuration, and a Learner in this process."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ray.rllib.core import DEFAULT_MODULE_ID
from torch import Tensor
from transformers import AutoModelForCausalLM, PretrainedConfig, PreTrainedModel

from rllib_dapo import DAPOConfig
from rllib_dapo.core import PromptGroup, Response, TrainResponse, plan_minibatch
from rllib_dapo.core.batching import split_evenly
from rllib_dapo.envs import TextSpace
from rllib_dapo.learner.learner import DAPOTorchLearner
from rllib_dapo.learner.module import CausalLMModule
from rllib_dapo.learner.old_logprobs import prepare_minibatches
from rllib_dapo.learner.planned_batch import PlannedBatch
from rllib_dapo.learner.training_data import GroupTrainingData, MicroBatches
from rllib_dapo.models import load_tokenizer

VOCABULARY = 100
TEMPERATURE = 0.7
# Ways to cut the same groups into micro-batches and rows.
CUTS = (
    {},
    {"max_tokens_per_microbatch": 40},
    {"max_tokens_per_microbatch": 1},
    {"max_row_tokens": 20},
)
REWARDS = (-1.0, 1.0, 0.25, 0.5)


@pytest.fixture(autouse=True)
def _tiny_tensors(one_thread: None) -> None:
    """All tests of this room compute with tiny tensors."""


@pytest.fixture(scope="session")
def learner_config(raw_model: Path) -> Callable[..., DAPOConfig]:
    """Makes configurations that train `raw_model` in float32 in this process."""

    def make(name: Path = raw_model) -> DAPOConfig:
        return (
            DAPOConfig()
            .environment("rllib_dapo/Arithmetic-v0")
            .language_model(str(name), dtype="float32", num_threads=1)
            .rollout(
                engine="transformers",
                max_prompt_tokens=8,
                max_response_tokens=8,
                temperature=TEMPERATURE,
            )
            .training(lr=1e-2, warmup_steps=0, prompts_per_step=4, group_size=4, minibatch_size=16)
            .overlong(buffer_tokens=2)
            .env_runners(num_env_runners=0)
        )

    return make


@pytest.fixture
def config(learner_config: Callable[..., DAPOConfig]) -> DAPOConfig:
    """In float64, where rounding hardly matters: only the model's norms round to float32."""
    return learner_config().language_model(dtype="float64")


@pytest.fixture(params=CUTS, ids=str)
def plan(request: pytest.FixtureRequest) -> dict[str, int]:
    """Each of the cuts, one a test."""
    return dict(request.param)


@pytest.fixture
def plans() -> list[dict[str, int]]:
    """All of the cuts in one test."""
    return [dict(cut) for cut in CUTS]


@pytest.fixture(scope="session")
def build_module() -> Callable[..., CausalLMModule]:
    """Builds the RLModule of a configuration, as a Learner or (`inference_only`) an EnvRunner."""

    def build(config: DAPOConfig, *, inference_only: bool = False) -> CausalLMModule:
        spaces = {DEFAULT_MODULE_ID: (TextSpace(100), TextSpace(100))}
        spec = config.get_multi_rl_module_spec(spaces=spaces, inference_only=inference_only)
        return spec.build()[DEFAULT_MODULE_ID]

    return build


def _make_groups(count: int = 4, *, seed: int = 0) -> dict[int, PromptGroup]:
    """Groups of four responses of 1 to 8 random tokens; a third of the tokens has no loss."""
    rng = np.random.default_rng(seed)

    def response() -> Response:
        n = int(rng.integers(1, 9))
        mask = rng.random(n) < 2 / 3
        mask[-1] = True
        return Response(
            token_ids=rng.integers(VOCABULARY, size=n, dtype=np.int32),
            loss_mask=mask,
            logprobs=rng.uniform(-6, -3, size=n).astype(np.float32),
            finish_reason="stop",
            reward=0.0,
            is_correct=None,
            text="",
        )

    def group(index: int) -> PromptGroup:
        prompt_ids = rng.integers(VOCABULARY, size=int(rng.integers(2, 9)), dtype=np.int32)
        responses = tuple(response() for _ in range(4))
        return PromptGroup(
            seed=index, prompt="", prompt_ids=prompt_ids, responses=responses, weights_version=0
        )

    return {index: group(index) for index in range(count)}


def _train_responses(groups: dict[int, PromptGroup], **fields: Any) -> list[TrainResponse]:
    """Every response, with advantages from -1.5 to 1.5 and `REWARDS` in every group."""
    rows = [(key, group, i) for key, group in groups.items() for i in range(len(group.responses))]
    return [
        TrainResponse(
            **{
                "group": key,
                "index": i,
                "prompt_tokens": len(group.prompt_ids),
                "response_tokens": len(group.responses[i].token_ids),
                "loss_tokens": int(group.responses[i].loss_mask.sum()),
                "advantage": -1.5 + 3.0 * row / max(1, len(rows) - 1),
                "reward": REWARDS[i],
            }
            | fields
        )
        for row, (key, group, i) in enumerate(rows)
    ]


@pytest.fixture(scope="session")
def make_groups() -> Callable[..., dict[int, PromptGroup]]:
    return _make_groups


@pytest.fixture(scope="session")
def train_responses() -> Callable[..., list[TrainResponse]]:
    return _train_responses


@pytest.fixture(scope="session")
def make_data() -> Callable[..., GroupTrainingData]:
    """Makes training data for one Learner, by default from four groups that are made up."""

    def make(
        minibatches: int = 1,
        *,
        groups: dict[int, PromptGroup] | None = None,
        plan: dict[str, Any] | None = None,
        **fields: Any,
    ) -> GroupTrainingData:
        groups = groups or _make_groups()
        settings = {
            "loss_aggregation": "token_mean",
            "max_response_tokens": 8,
            "max_tokens_per_microbatch": 10_000,
        }
        parts = split_evenly(_train_responses(groups, **fields), minibatches)
        plans = [plan_minibatch(part, **settings | (plan or {})) for part in parts]
        return GroupTrainingData(groups=groups, shards=list(zip(*plans, strict=True)))

    return make


# What is expected, from one unpadded sequence at a time and without our code.


def _plain_scores(
    model: PreTrainedModel, group: PromptGroup, index: int, *, temperature: float
) -> tuple[Tensor, Tensor]:
    prompt = torch.tensor(group.prompt_ids.astype(np.int64))
    response = torch.tensor(group.responses[index].token_ids.astype(np.int64))
    logits = model(torch.cat([prompt, response])[None]).logits[0, len(prompt) - 1 : -1]
    logprobs = (logits / temperature).log_softmax(-1)
    return logprobs.gather(-1, response[:, None]).squeeze(-1), -(logprobs.exp() * logprobs).sum(-1)


@pytest.fixture(scope="session")
def plain_scores() -> Callable[..., tuple[Tensor, Tensor]]:
    """Computes log-probabilities and entropies `[T]` of one response, with gradient."""

    def scores(
        model: PreTrainedModel, group: PromptGroup, index: int, *, temperature: float = TEMPERATURE
    ) -> tuple[Tensor, Tensor]:
        return _plain_scores(model, group, index, temperature=temperature)

    return scores


@pytest.fixture(scope="session")
def sampled_by() -> Callable[..., dict[int, PromptGroup]]:
    """Gives groups the log-probabilities that an engine with this model would have reported."""

    @torch.no_grad()
    def relabel(
        model: PreTrainedModel,
        groups: Mapping[int, PromptGroup],
        *,
        temperature: float = TEMPERATURE,
    ) -> dict[int, PromptGroup]:
        def response(group: PromptGroup, i: int) -> Response:
            logprobs, _ = _plain_scores(model, group, i, temperature=temperature)
            return replace(group.responses[i], logprobs=logprobs.float().numpy())

        return {
            key: replace(
                group, responses=tuple(response(group, i) for i in range(len(group.responses)))
            )
            for key, group in groups.items()
        }

    return relabel


@pytest.fixture(scope="session")
def random_model(raw_model: Path) -> Callable[[PretrainedConfig, Path], Path]:
    """Saves an untrained model of any architecture, with the tokenizer of `raw_model`.

    Its weights are far from equal.
    """

    def save(config: PretrainedConfig, folder: Path) -> Path:
        generator = torch.Generator().manual_seed(0)
        model = AutoModelForCausalLM.from_config(config)
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.2, generator=generator)
        model.save_pretrained(folder)
        load_tokenizer(raw_model).save_pretrained(folder)
        return folder

    return save


# A Learner


class Witness(DAPOTorchLearner):
    """Keeps the loss's batches, each step's gradient and rates, and how each pass was made."""

    def build(self) -> None:
        super().build()
        self.losses: list[dict[str, Tensor]] = []
        self.gradients: list[Tensor] = []
        self.rates: list[float] = []
        self.critic_rates: list[float] = []
        self.passes: list[str] = []
        self.get_optimizer(DEFAULT_MODULE_ID).register_step_pre_hook(self._note_step)

    def _note_step(self, optimizer: torch.optim.Optimizer, *_: Any) -> None:
        params = [p for group in optimizer.param_groups for p in group["params"]]
        gradients = [p.grad.flatten().clone() for p in params if p.grad is not None]
        self.gradients.append(torch.cat(gradients))
        self.rates.append(optimizer.param_groups[0]["lr"])
        self.critic_rates.append(optimizer.param_groups[-1]["lr"])

    def forward_micro_batch(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        self.passes.append("train" if torch.is_grad_enabled() else "score")
        return super().forward_micro_batch(batch)

    def compute_loss_for_module(
        self,
        *,
        module_id: str,
        config: DAPOConfig,
        batch: dict[str, Tensor],
        fwd_out: dict[str, Tensor],
    ) -> Tensor:
        outputs = {name: tensor.detach() for name, tensor in fwd_out.items()}
        loss = super().compute_loss_for_module(
            module_id=module_id, config=config, batch=batch, fwd_out=fwd_out
        )
        self.losses.append({**batch, **outputs, "loss": loss.detach()})
        return loss


@dataclass(frozen=True)
class Trainer:
    """A local Learner, and what tests ask of it."""

    config: DAPOConfig

    @cached_property
    def group(self) -> Any:
        """The `LearnerGroup` around it."""
        self.config.validate()
        config = self.config.learners(learner_class=Witness)
        return config.build_learner_group(
            spaces={DEFAULT_MODULE_ID: (TextSpace(100), TextSpace(100))}
        )

    @property
    def learner(self) -> Witness:
        return self.group._learner

    @property
    def module(self) -> CausalLMModule:
        return self.learner.policy_module

    def update(self, data: GroupTrainingData) -> dict[str, float]:
        """One update; its metrics as plain numbers."""
        (result,) = self.group.update(
            training_data=data, timesteps={"num_env_steps_sampled_lifetime": 0}
        )
        return {name: float(stats.peek()) for name, stats in result[DEFAULT_MODULE_ID].items()}

    def prepared(
        self, data: GroupTrainingData, *, references: list[Tensor] | None = None
    ) -> list[MicroBatches]:
        """The mini-batches of an update as they are before its first step."""
        learner, (plans,) = self.learner, data.shards
        minibatches = [
            MicroBatches(batches=learner.plan_batches(plan, data), progress=0.0, is_first=i == 0)
            for i, plan in enumerate(plans)
        ]

        def reference(batch: dict[str, Tensor]) -> Tensor:
            logprobs = self.module.reference_logprobs(batch)
            if references is not None:
                references.append(logprobs)
            return logprobs

        prepare_minibatches(
            minibatches, learner.config, forward=learner.forward_micro_batch, reference=reference
        )
        return minibatches

    def prepared_batches(self, data: GroupTrainingData) -> list[PlannedBatch]:
        """The same, micro-batch by micro-batch."""
        return [batch for minibatch in self.prepared(data) for batch in minibatch.batches]

    def weights(self) -> dict[str, np.ndarray]:
        return self.group.get_weights()[DEFAULT_MODULE_ID]

    def has_weights(self, weights: Mapping[str, np.ndarray]) -> bool:
        return all(np.array_equal(array, weights[name]) for name, array in self.weights().items())

    @torch.no_grad()
    def shake(self, size: float = 0.05) -> None:
        """Moves every weight of the policy a little, so that it is no longer what it began as."""
        generator = torch.Generator().manual_seed(0)
        for parameter in self.module.lm.parameters():
            parameter += size * torch.randn(
                parameter.shape, generator=generator, dtype=parameter.dtype
            )


@pytest.fixture(scope="session")
def make_trainer() -> Callable[[DAPOConfig], Trainer]:
    return Trainer


@pytest.fixture(scope="session")
def by_response() -> Callable[..., dict[tuple[int, int], Tensor]]:
    """Maps group and index to a response's row of a tensor, at tokens with loss alone."""

    def rows(batches: Iterable[Mapping[str, Tensor]], name: str) -> dict[tuple[int, int], Tensor]:
        return {
            (int(group), int(index)): value[mask] if value.dim() else value
            for batch in batches
            for group, index, value, mask in zip(
                batch["groups"], batch["indices"], batch[name], batch["mask"], strict=True
            )
        }

    return rows
