"""What a user touches: `DAPOConfig`, whose defaults are the paper's."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any, Literal, Self

from ray.rllib.algorithms.algorithm_config import AlgorithmConfig
from ray.rllib.core.rl_module.rl_module import RLModuleSpec
from ray.rllib.utils.annotations import override

from rllib_dapo.config.engine_resources import EngineResources
from rllib_dapo.config.inherited_sections import InheritedSections
from rllib_dapo.config.model_sections import (
    EngineName,
    ExecutorName,
    ModelDtype,
    ModelSections,
    SkipSpecialTokens,
)
from rllib_dapo.config.objective_presets import ObjectivePresets
from rllib_dapo.config.objective_sections import (
    GuardAction,
    KLPlacement,
    OldLogprobs,
    OnShortfall,
    OptimizerName,
)
from rllib_dapo.config.report_sections import ReportSections
from rllib_dapo.config.value_checks import check_known_settings, check_settings
from rllib_dapo.config.weights_section import WeightsSection, WeightTransferName
from rllib_dapo.core import (
    AdvantageEstimator,
    KLEstimator,
    LossAggregation,
    ObjectiveName,
    RatioLevel,
    RowWork,
)
from rllib_dapo.learner.schedule import LRSchedule
from rllib_dapo.rollout.prompt_memory import PromptMemoryChoice
from rllib_dapo.rollout.sampling_settings import trained_sampling_set

logger = logging.getLogger(__name__)


class DAPOConfig(
    ObjectivePresets,
    ModelSections,
    EngineResources,
    WeightsSection,
    ReportSections,
    InheritedSections,
):
    """Configuration of `DAPO`.

    ```python
    config = (
        DAPOConfig()
        .environment("rllib_dapo/Arithmetic-v0", env_config={"digits": 2})
        .language_model("tiny")
        .rollout(max_prompt_tokens=16, max_response_tokens=8)
        .training(lr=3e-4, prompts_per_step=16, group_size=16, minibatch_size=64)
    )
    algo = config.build_algo()
    algo.train()
    ```

    Every setting of a method is a key of the section of that name in a YAML file
    (`training.epsilon_high`). `DAPOConfig()` is DAPO; `.grpo()` and `.ppo()` set every row of the
    objective to that of GRPO and PPO, and what is set after them is set on top.

    To compare sets of settings that belong together, a run file has a section `variants` of named
    ones; their names stand in results as `config/variant`. In Python no names are needed: give
    `tune.grid_search` or any other search space to the settings themselves, and
    `tune.sample_from(lambda config: ...)` to those that follow from others.
    """

    def __init__(self, algo_class: type | None = None) -> None:
        """Sets the defaults: the paper's (Section 4.1), or its public recipe's where it is silent.

        Args:
            algo_class: The Algorithm to build; `DAPO` by default.
        """
        from rllib_dapo.algorithm import DAPO
        from rllib_dapo.rollout.env_runner import TextEnvRunner

        super().__init__(algo_class=algo_class or DAPO)

        # Name of the run file's variant, and the draw of a search over both clip bounds.
        self.variant: str | None = None
        self.epsilon_draw: float | str | None = None

        # `self.language_model()`
        self.model_name: str | None = None
        self.model_dtype: ModelDtype = "bfloat16"
        self.system_prompt = ""
        self.chat_template = ""
        self.chat_template_kwargs: dict[str, Any] = {}
        self.trust_remote_code = False
        self.attn_implementation = "auto"
        self.gradient_checkpointing: bool | int = False
        self.activation_offload = False
        self.freeze_fraction = 0.0
        self.lora: dict[str, Any] | None = None
        self.logprob_chunk_tokens = 2048
        self.num_threads: int | Literal["auto"] = "auto"

        # `self.rollout()`
        self.engine: EngineName = "vllm"
        self.tensor_parallel_size = 1
        self.pipeline_parallel_size = 1
        self.executor: ExecutorName = "mp"
        self.colocate = False
        self.shared_engine = False
        self.engine_kwargs: dict[str, Any] = {}
        self.max_prompt_tokens = 2048
        self.max_response_tokens = 20480
        self.temperature = 1.0
        self.top_p = 1.0
        self.sampling: dict[str, Any] = {}
        self.max_concurrent_responses = 256
        self.max_groups_in_flight = 512
        self.stall_seconds: float | None = 600.0
        self.max_staleness = 0
        self.max_turns = 16
        self.skip_special_tokens: SkipSpecialTokens = "template"
        self.tool_call_parser = ""
        self.num_env_threads = 1
        self.cpu_kv_cache_gib = 1.0
        self.record_groups = False

        # `self.weights()`
        self.weight_transfer: WeightTransferName = "auto"
        self.weight_bucket_mib = 64.0
        self.weight_sync_timeout_s: float | None = 600.0

        # `self.training()`
        self.optimizer_name: OptimizerName = "adamw"
        self.lr = 1e-6
        self.gamma = 1.0
        self.warmup_steps: float = 20
        self.lr_schedule: LRSchedule = "constant"
        self.lr_decay_updates: int | None = None
        self.lr_end_fraction = 0.0
        self.weight_decay = 0.1
        self.adam_betas = (0.9, 0.999)
        self.adam_epsilon = 1e-8
        self.grad_clip: float | None = 1.0
        self.max_skipped_updates: int | None = 10
        self.prompts_per_step = 512
        self.group_size = 16
        self.minibatch_size = 512
        self.objective: ObjectiveName | str | Callable[..., Any] = "clip"
        self.epsilon_low = 0.2
        self.epsilon_high = 0.28
        self.dual_clip: float | None = None
        self.sapo_temperatures = (1.0, 1.05)
        self.ratio_level: RatioLevel = "token"
        self.loss_aggregation: LossAggregation = "token_mean"
        self.advantage_estimator: AdvantageEstimator | str | Callable[..., Any] = "group"
        self.normalize_advantages_by_std = True
        self.entropy_coefficient = 0.0
        self.entropy_mask_fraction: float | None = None
        self.token_mask: str | Callable[..., Any] | None = None
        self.old_logprobs: OldLogprobs = "trainer"
        self.update_stall_seconds: float | None = 1800.0
        self.max_tokens_per_microbatch = 32768
        self.max_shared_row_tokens: int | Literal["auto"] = "auto"

        # `self.kl()`
        self.kl_coefficient = 0.0
        self.kl_estimator: KLEstimator = "k3"
        self.kl_placement: KLPlacement = "loss"
        self.kl_importance_ratio = False

        # `self.importance_sampling()`
        self.importance_cap: float | None = None
        self.importance_sequence_bounds: tuple[float, float] | None = None
        self.importance_token_bounds: tuple[float, float] | None = None

        # `self.start_guard()`
        self.start_gap_limit: float | Literal["auto"] | None = "auto"
        self.on_start_gap: GuardAction = "raise"
        self.guard_every_updates: int | None = 20

        # `self.critic()`
        self.gae_lambda = 1.0
        self.value_loss_coefficient = 0.5
        self.value_clip: float | None = 0.2
        self.critic_lr: float | None = 1e-4
        self.critic_warmup = 0

        # `self.dynamic_sampling()`
        self.dynamic_sampling_enabled = True
        self.max_rounds = 10
        self.max_oversampling = 3.0
        self.on_shortfall: OnShortfall = "train_partial"
        self.max_rounds_without_verdict: int | None = 5
        self.max_steps_without_signal: int | None = 5
        self.prompt_memory: PromptMemoryChoice | None = None

        # `self.overlong()`
        self.overlong_buffer_tokens: int | None = None
        self.overlong_penalty = 1.0
        self.overlong_filtering = False
        self.truncated_in_baseline = True

        # `self.evaluation()`
        self.evaluation_num_prompts = 128
        self.evaluation_samples_per_prompt = 8
        self.evaluation_temperature = 1.0
        self.evaluation_top_p = 0.7
        self.evaluation_sampling: dict[str, Any] = {}
        self.evaluate_before_training = False

        # `self.reporting()`
        self.sample_table_interval = 20
        self.sample_table_prompts = 4
        self.sample_table_responses = 4

        # `self.deepspeed()`
        self.deepspeed_config: dict[str, Any] | str | None = None

        # RLlib's own, where a language model wants others.
        self.env_runner_cls = TextEnvRunner
        self.seed = 0
        self.num_env_runners = 1
        # See EngineResources.
        self.num_cpus_per_env_runner = self.num_gpus_per_env_runner = None
        self.num_gpus_per_learner = None
        self.learner_bytes_at_rest: float | None = None
        self.row_work: RowWork | None = None  # see `model_check`
        self.create_local_env_runner = False  # it would be a second engine
        self.sample_timeout_s = None  # a slow rollout is a long answer, not a fault
        # These merge and send around the states of connectors, and there are no connectors.
        self.merge_env_runner_states = False
        self.broadcast_env_runner_states = False
        self._dont_auto_sync_env_runner_states = True

    @override(AlgorithmConfig)
    def update_from_dict(self, config_dict: Mapping[str, Any]) -> Self:
        """Takes settings by attribute name, as Tune hands them over; refuses unknown names."""
        check_known_settings(self, config_dict)
        return super().update_from_dict(config_dict)

    @override(AlgorithmConfig)
    def validate(self) -> None:
        """Checks every value. Nothing is loaded here: this also runs on a head node without a GPU.

        Raises:
            ValueError: One line naming setting, value and way out.
        """
        for problem in check_settings(self):
            self._value_error(problem)
        super().validate()

    @property
    @override(AlgorithmConfig)
    def train_batch_size_per_learner(self) -> int:
        """What RLlib takes for the size of a batch: it counts episodes, responses here."""
        return -(-self.train_batch_responses // max(1, self.num_learners))

    @train_batch_size_per_learner.setter
    def train_batch_size_per_learner(self, value: int | None) -> None:
        self._train_batch_size_per_learner = value  # `validate` refuses it

    @override(AlgorithmConfig)
    def _value_error(self, errmsg: str) -> None:
        # RLlib adds a line on how to switch all checks off.
        if self._validate_config:
            raise ValueError(errmsg)
        logger.warning(errmsg)

    @property
    def train_batch_responses(self) -> int:
        """Responses in a full training batch."""
        return self.prompts_per_step * self.group_size

    @property
    def overlong_buffer(self) -> int:
        """`L_cache`, in tokens: `overlong_buffer_tokens`, or where that is not set, the paper's.

        The paper's 4096 are a fifth of its longest response, and no response has more than that.
        """
        if self.overlong_buffer_tokens is not None:
            return self.overlong_buffer_tokens
        return min(4096, self.max_response_tokens // 5)

    @property
    def evaluation_responses_per_prompt(self) -> int:
        """Responses to each problem in an evaluation: one where all would be equal."""
        return self.evaluation_samples_per_prompt if self.evaluation_temperature else 1

    @property
    def has_critic(self) -> bool:
        """Whether a value model is trained beside the policy."""
        return self.advantage_estimator == "gae"

    @property
    def needs_reference(self) -> bool:
        """Whether a frozen copy of the first policy is held."""
        return self.kl_coefficient != 0

    @property
    def applied_importance_cap(self) -> float | None:
        """`importance_sampling.cap`; never None where groups may be stale."""
        if self.importance_cap is None and self.max_staleness:
            from rllib_dapo.learner.sampler_correction import USUAL_CAP

            return USUAL_CAP
        return self.importance_cap

    @property
    def clip_is_idle(self) -> bool:
        """Whether no ratio leaves 1: the one update of a rollout starts from what sampled it.

        With `old_logprobs: sampler` it leaves it by what the engine computes otherwise, and that is
        nothing that a bound is meant to cut.
        """
        return (self.minibatch_size or 0) >= self.train_batch_responses

    @override(AlgorithmConfig)
    def get_default_learner_class(self) -> type:
        """`DAPOTorchLearner`, or with a DeepSpeed configuration `DeepSpeedLearner`."""
        if self.deepspeed_config is not None:
            from rllib_dapo.learner.deepspeed_learner import DeepSpeedLearner

            return DeepSpeedLearner
        from rllib_dapo.learner.learner import DAPOTorchLearner

        return DAPOTorchLearner

    @override(AlgorithmConfig)
    def get_default_rl_module_spec(self) -> RLModuleSpec:
        """`CausalLMModule`."""
        from rllib_dapo.learner.module import CausalLMModule

        return RLModuleSpec(module_class=CausalLMModule)

    def _zero3_settings(self) -> dict[str, Any] | None:
        """DeepSpeed's configuration, where it shards weights; they are then sharded when read."""
        from rllib_dapo.learner.deepspeed_config import resolve_deepspeed_config, zero_stage

        settings = None if self.deepspeed_config is None else resolve_deepspeed_config(self)
        return settings if settings is not None and zero_stage(settings) == 3 else None

    @property
    @override(AlgorithmConfig)
    def _model_config_auto_includes(self) -> dict[str, Any]:
        return super()._model_config_auto_includes | {
            "name": self.model_name,
            "dtype": self.model_dtype,
            "trust_remote_code": self.trust_remote_code,
            "tokenizer_settings": self.tokenizer_settings,
            "attn_implementation": self.attn_implementation,
            "gradient_checkpointing": self.gradient_checkpointing,
            "activation_offload": self.activation_offload,
            "freeze_fraction": self.freeze_fraction,
            "lora": self.lora,
            "seed": self.seed,
            "value_head": self.has_critic,
            "reference": self.needs_reference,
            "zero3": self._zero3_settings(),
            "logprob_chunk_tokens": self.logprob_chunk_tokens,
            "temperature": self.temperature,
            "sampling_set": asdict(trained_sampling_set(self)),
            "top_p": self.top_p,
            "sampling": self.sampling,
            "max_prompt_tokens": self.max_prompt_tokens,
            "max_response_tokens": self.max_response_tokens,
            "system_prompt": self.system_prompt,
            "skip_special_tokens": self.skip_special_tokens,
            "engine": self.engine,
            "engine_settings": self.engine_settings,
        }
