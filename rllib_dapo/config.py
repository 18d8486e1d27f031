"""What a user touches: `DAPOConfig`, whose defaults are the paper's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self

from ray.rllib.algorithms.algorithm_config import AlgorithmConfig, NotProvided
from ray.rllib.core.rl_module.rl_module import RLModuleSpec
from ray.rllib.utils.annotations import override

from rllib_dapo.core import LossAggregation
from rllib_dapo.validation import check_known_settings, check_settings


class DAPOConfig(AlgorithmConfig):
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

    Every setting of a method is a key of the section of that name in a YAML file (`training.epsilon_high`).
    """

    def __init__(self, algo_class: type | None = None) -> None:
        """Sets the defaults: the paper's hyper-parameters (Section 4.1), and of its public recipe where it is silent.

        Args:
            algo_class: The Algorithm to build; `DAPO` by default.
        """
        from rllib_dapo.algorithm import DAPO
        from rllib_dapo.rollout.env_runner import TextEnvRunner

        super().__init__(algo_class=algo_class or DAPO)

        # `self.language_model()`
        self.model_name: str | None = None
        self.model_dtype = "bfloat16"
        self.trust_remote_code = False
        self.gradient_checkpointing = False
        self.logprob_chunk_tokens = 2048
        self.num_threads: int | str = "auto"

        # `self.rollout()`
        self.engine = "vllm"
        self.engine_kwargs: dict[str, Any] = {}
        self.max_prompt_tokens = 2048
        self.max_response_tokens = 20480
        self.temperature = 1.0
        self.top_p = 1.0
        self.max_concurrent_responses = 256
        self.max_groups_in_flight = 512
        self.cpu_kv_cache_gib = 1.0

        # `self.training()`
        self.lr = 1e-6
        self.warmup_steps: float = 20
        self.weight_decay = 0.1
        self.adam_betas = (0.9, 0.999)
        self.adam_epsilon = 1e-8
        self.grad_clip = 1.0
        self.prompts_per_step = 512
        self.group_size = 16
        self.minibatch_size = 512
        self.epsilon_low = 0.2
        self.epsilon_high = 0.28
        self.dual_clip: float | None = None
        self.loss_aggregation: LossAggregation = "token_mean"
        self.normalize_advantages_by_std = True
        self.old_logprobs = "trainer"
        self.max_tokens_per_microbatch = 32768
        self.max_shared_row_tokens = 0

        # `self.dynamic_sampling()`
        self.dynamic_sampling_enabled = True
        self.max_rounds = 10
        self.max_oversampling = 3.0
        self.on_shortfall = "train_partial"

        # `self.overlong()`
        self.overlong_buffer_tokens = 4096
        self.overlong_penalty = 1.0

        # `self.evaluation()`
        self.evaluation_num_prompts = 128
        self.evaluation_samples_per_prompt = 8
        self.evaluation_temperature = 1.0
        self.evaluation_top_p = 0.7
        self.evaluate_before_training = False

        # RLlib's own, where a language model wants others.
        self.env_runner_cls = TextEnvRunner
        self.seed = 0
        self.num_env_runners = 1
        self.create_local_env_runner = False  # it would be a second engine
        self.sample_timeout_s = None  # a slow rollout is a long answer, not a fault
        self.weight_sync_timeout_s = 600.0
        # There are no connectors, whose states these would merge and send around after every iteration.
        self.merge_env_runner_states = False
        self.broadcast_env_runner_states = False
        self._dont_auto_sync_env_runner_states = True

    def language_model(
        self,
        name: str | None = NotProvided,
        *,
        dtype: str | None = NotProvided,
        trust_remote_code: bool | None = NotProvided,
        gradient_checkpointing: bool | None = NotProvided,
        logprob_chunk_tokens: int | None = NotProvided,
        num_threads: int | str | None = NotProvided,
    ) -> Self:
        """Which model is trained, and how it is computed.

        Args:
            name: A folder in Hugging Face format, a hub name, `"tiny"` or `"smollm2-135m"`.
            dtype: `"bfloat16"` or `"float32"`: the engine's type and that of the Learner's computation; the Learner's
                weights are float32 either way.
            trust_remote_code: Whether the model may run code of its own. Leave off unless you have read that code.
            gradient_checkpointing: Recompute activations in the backward pass: less memory, about a third slower.
            logprob_chunk_tokens: Tokens whose logits are held at a time.
            num_threads: CPU threads of each Learner and engine; `"auto"` shares the machine's cores.
        """
        _assign(
            self,
            model_name=name,
            model_dtype=dtype,
            trust_remote_code=trust_remote_code,
            gradient_checkpointing=gradient_checkpointing,
            logprob_chunk_tokens=logprob_chunk_tokens,
            num_threads=num_threads,
        )
        return self

    def rollout(
        self,
        *,
        engine: str | None = NotProvided,
        max_prompt_tokens: int | None = NotProvided,
        max_response_tokens: int | None = NotProvided,
        temperature: float | None = NotProvided,
        top_p: float | None = NotProvided,
        max_concurrent_responses: int | None = NotProvided,
        max_groups_in_flight: int | None = NotProvided,
        cpu_kv_cache_gib: float | None = NotProvided,
        engine_kwargs: dict[str, Any] | None = NotProvided,
    ) -> Self:
        """How responses are sampled.

        Args:
            engine: `"vllm"` or `"transformers"`.
            max_prompt_tokens: Longer prompts are dropped and counted, never cut.
            max_response_tokens: `L_max`: hard limit on a response, in tokens.
            temperature: Of training rollouts. The Learner divides its logits by the same.
            top_p: Of training rollouts; below 1 the sampler's log-probabilities are no longer the policy's.
            max_concurrent_responses: Responses one engine works on at a time.
            max_groups_in_flight: Groups under way on one EnvRunner.
            cpu_kv_cache_gib: vLLM's key-value cache on a machine without a GPU, in GiB.
            engine_kwargs: Passed on to `vllm.LLM`, or to transformers' `generate`.
        """
        _assign(
            self,
            engine=engine,
            max_prompt_tokens=max_prompt_tokens,
            max_response_tokens=max_response_tokens,
            temperature=temperature,
            top_p=top_p,
            max_concurrent_responses=max_concurrent_responses,
            max_groups_in_flight=max_groups_in_flight,
            cpu_kv_cache_gib=cpu_kv_cache_gib,
            engine_kwargs=engine_kwargs,
        )
        return self

    @override(AlgorithmConfig)
    def training(
        self,
        *,
        warmup_steps: float | None = NotProvided,
        weight_decay: float | None = NotProvided,
        adam_betas: tuple[float, float] | None = NotProvided,
        adam_epsilon: float | None = NotProvided,
        prompts_per_step: int | None = NotProvided,
        group_size: int | None = NotProvided,
        epsilon_low: float | None = NotProvided,
        epsilon_high: float | None = NotProvided,
        dual_clip: float | None = NotProvided,
        loss_aggregation: LossAggregation | None = NotProvided,
        normalize_advantages_by_std: bool | None = NotProvided,
        old_logprobs: str | None = NotProvided,
        max_tokens_per_microbatch: int | None = NotProvided,
        max_shared_row_tokens: int | None = NotProvided,
        **kwargs: Any,
    ) -> Self:
        """Hyper-parameters of the update. Any of them may be a Tune search space.

        Args:
            warmup_steps: Linear warm-up of the learning rate, in training steps (rollouts), as the paper counts.
            weight_decay: AdamW's.
            adam_betas: AdamW's.
            adam_epsilon: AdamW's.
            prompts_per_step: Informative groups a training step wants.
            group_size: `G`, responses per prompt.
            epsilon_low: Lower clip range. With one mini-batch per step the ratio is 1 and neither bound does anything.
            epsilon_high: Upper clip range.
            dual_clip: Bound `c` on the loss of tokens with negative advantage (arXiv 1912.09729), or None.
            loss_aggregation: See `core.normalizer`.
            normalize_advantages_by_std: False leaves out the division by the group's standard deviation.
            old_logprobs: `"trainer"` recomputes the ratio's denominator; `"sampler"` takes the engine's.
            max_tokens_per_microbatch: Bound on a micro-batch's padded size, in tokens; bounds memory, not the result.
            max_shared_row_tokens: Responses of one prompt share its computation in rows up to this long, in tokens; 0
                computes the prompt anew for each response.
            **kwargs: RLlib's: `lr`, `minibatch_size` (responses per optimizer step), `grad_clip`, ...
        """
        super().training(**kwargs)
        _assign(
            self,
            warmup_steps=warmup_steps,
            weight_decay=weight_decay,
            adam_betas=adam_betas,
            adam_epsilon=adam_epsilon,
            prompts_per_step=prompts_per_step,
            group_size=group_size,
            epsilon_low=epsilon_low,
            epsilon_high=epsilon_high,
            dual_clip=dual_clip,
            loss_aggregation=loss_aggregation,
            normalize_advantages_by_std=normalize_advantages_by_std,
            old_logprobs=old_logprobs,
            max_tokens_per_microbatch=max_tokens_per_microbatch,
            max_shared_row_tokens=max_shared_row_tokens,
        )
        return self

    def dynamic_sampling(
        self,
        *,
        enabled: bool | None = NotProvided,
        max_rounds: int | None = NotProvided,
        max_oversampling: float | None = NotProvided,
        on_shortfall: str | None = NotProvided,
    ) -> Self:
        """Filtering of groups without a signal, and the refill.

        Args:
            enabled: False trains on every group.
            max_rounds: Rounds of sampling per training step, at most.
            max_oversampling: Groups asked for in a round over groups still wanted, at most.
            on_shortfall: When the rounds are used up: `"train_partial"` trains on what there is, `"raise"` stops.
        """
        _assign(
            self,
            dynamic_sampling_enabled=enabled,
            max_rounds=max_rounds,
            max_oversampling=max_oversampling,
            on_shortfall=on_shortfall,
        )
        return self

    def overlong(self, *, buffer_tokens: int | None = NotProvided, penalty: float | None = NotProvided) -> Self:
        """Soft overlong punishment (Eq. 13).

        Args:
            buffer_tokens: `L_cache`, in tokens, at the end of `rollout.max_response_tokens`.
            penalty: Factor on the punishment; 0 switches it off.
        """
        _assign(self, overlong_buffer_tokens=buffer_tokens, overlong_penalty=penalty)
        return self

    @override(AlgorithmConfig)
    def evaluation(
        self,
        *,
        evaluation_num_prompts: int | None = NotProvided,
        evaluation_samples_per_prompt: int | None = NotProvided,
        evaluation_temperature: float | None = NotProvided,
        evaluation_top_p: float | None = NotProvided,
        evaluate_before_training: bool | None = NotProvided,
        **kwargs: Any,
    ) -> Self:
        """Evaluation on the training EnvRunners' engines: no second engine is started.

        Args:
            evaluation_num_prompts: Problems: the evaluation environment's seeds from 0 on.
            evaluation_samples_per_prompt: `k` of avg@k.
            evaluation_temperature: Sampling temperature.
            evaluation_top_p: Nucleus (the paper evaluates at 0.7).
            evaluate_before_training: Also evaluate once before the first update, reported with the first result.
            **kwargs: RLlib's: `evaluation_interval`, `evaluation_config` (overrides, e.g. of `env_config`), ...
        """
        super().evaluation(**kwargs)
        _assign(
            self,
            evaluation_num_prompts=evaluation_num_prompts,
            evaluation_samples_per_prompt=evaluation_samples_per_prompt,
            evaluation_temperature=evaluation_temperature,
            evaluation_top_p=evaluation_top_p,
            evaluate_before_training=evaluate_before_training,
        )
        return self

    @override(AlgorithmConfig)
    def update_from_dict(self, config_dict: Mapping[str, Any]) -> Self:
        """Takes settings by attribute name, as Tune hands them over; an unknown name raises instead of being set."""
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
        # RLlib's unit is the episode, which is one response here.
        self._train_batch_size_per_learner = -(-self.train_batch_responses // max(1, self.num_learners))
        super().validate()

    @property
    def train_batch_responses(self) -> int:
        """Responses in a full training batch."""
        return self.prompts_per_step * self.group_size

    @override(AlgorithmConfig)
    def get_default_learner_class(self) -> type:
        """`DAPOTorchLearner`."""
        from rllib_dapo.learner.learner import DAPOTorchLearner

        return DAPOTorchLearner

    @override(AlgorithmConfig)
    def get_default_rl_module_spec(self) -> RLModuleSpec:
        """`CausalLMModule`."""
        from rllib_dapo.learner.module import CausalLMModule

        return RLModuleSpec(module_class=CausalLMModule)

    @property
    @override(AlgorithmConfig)
    def _model_config_auto_includes(self) -> dict[str, Any]:
        return super()._model_config_auto_includes | {
            "name": self.model_name,
            "dtype": self.model_dtype,
            "trust_remote_code": self.trust_remote_code,
            "gradient_checkpointing": self.gradient_checkpointing,
            "logprob_chunk_tokens": self.logprob_chunk_tokens,
            "temperature": self.temperature,
            "engine": self.engine,
            "engine_settings": {
                "max_model_len": self.max_prompt_tokens + self.max_response_tokens,
                "max_concurrent_responses": self.max_concurrent_responses,
                "cpu_kv_cache_gib": self.cpu_kv_cache_gib,
                "seed": self.seed or 0,
                "engine_kwargs": self.engine_kwargs,
            },
        }


def _assign(config: DAPOConfig, **settings: Any) -> None:
    """Sets what was provided. No value is checked here: it may be one of Tune's search spaces."""
    for name, value in settings.items():
        if value is not NotProvided:
            setattr(config, name, value)


def sections() -> Sequence[str]:
    """The methods whose names and arguments make up a YAML file's sections and keys."""
    own = ("language_model", "rollout", "training", "dynamic_sampling", "overlong", "evaluation")
    return (*own, "environment", "env_runners", "learners", "resources", "debugging", "fault_tolerance", "reporting")
