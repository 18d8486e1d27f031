"""What a user touches: `DAPOConfig`, whose defaults are the paper's."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self

from ray.rllib.algorithms.algorithm_config import AlgorithmConfig, NotProvided
from ray.rllib.core.rl_module.rl_module import RLModuleSpec
from ray.rllib.utils.annotations import override

from rllib_dapo.config.kinds import KLPlacement, OnStartGap
from rllib_dapo.config.value_checks import check_known_settings, check_settings
from rllib_dapo.core import AdvantageEstimator, KLEstimator, LossAggregation, RatioLevel
from rllib_dapo.learner.schedule import LRSchedule


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

    Every setting of a method is a key of the section of that name in a YAML file
    (`training.epsilon_high`). `DAPOConfig()` is DAPO; `.grpo()` and `.ppo()` set every row of the
    objective to that of GRPO and PPO, and what is set after them is set on top.

    To compare sets of settings that belong together, a run file has a section `variants` of named
    ones; their names stand in results as `config/variant`. In Python no names are needed: give
    `tune.grid_search` or any other search space to the settings themselves, and
    `tune.sample_from(lambda config: ...)` to those that follow from others.
    """

    def __init__(self, algo_class: type | None = None) -> None:
        """Sets the defaults: the paper's hyper-parameters (Section 4.1), and of its public recipe where it is silent.

        Args:
            algo_class: The Algorithm to build; `DAPO` by default.
        """
        from rllib_dapo.algorithm import DAPO
        from rllib_dapo.rollout.env_runner import TextEnvRunner

        super().__init__(algo_class=algo_class or DAPO)

        # Which of a run file's variants this is, and what a search drew for both clip bounds
        # together.
        self.variant: str | None = None
        self.epsilon_draw: float | str | None = None

        # `self.language_model()`
        self.model_name: str | None = None
        self.model_dtype = "bfloat16"
        self.trust_remote_code = False
        self.gradient_checkpointing = False
        self.freeze_fraction = 0.0
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
        self.max_turns = 16
        self.num_env_threads = 1
        self.cpu_kv_cache_gib = 1.0
        self.record_groups = False

        # `self.training()`
        self.lr = 1e-6
        self.gamma = 1.0
        self.warmup_steps: float = 20
        self.lr_schedule: LRSchedule = "constant"
        self.lr_decay_updates: int | None = None
        self.lr_end_fraction = 0.0
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
        self.ratio_level: RatioLevel = "token"
        self.loss_aggregation: LossAggregation = "token_mean"
        self.advantage_estimator: AdvantageEstimator = "group"
        self.normalize_advantages_by_std = True
        self.entropy_coefficient = 0.0
        self.entropy_mask_fraction: float | None = None
        self.token_mask: str | Callable[..., Any] | None = None
        self.old_logprobs = "trainer"
        self.max_tokens_per_microbatch = 32768
        self.max_shared_row_tokens = 0

        # `self.kl()`
        self.kl_coefficient = 0.0
        self.kl_estimator: KLEstimator = "k3"
        self.kl_placement: KLPlacement = "loss"

        # `self.importance_sampling()`
        self.importance_cap: float | None = None
        self.importance_sequence_bounds: tuple[float, float] | None = None
        self.start_gap_limit: float | None = 0.2
        self.on_start_gap: OnStartGap = "raise"

        # `self.critic()`
        self.gae_lambda = 1.0
        self.value_loss_coefficient = 0.5
        self.value_clip: float | None = 0.2

        # `self.dynamic_sampling()`
        self.dynamic_sampling_enabled = True
        self.max_rounds = 10
        self.max_oversampling = 3.0
        self.on_shortfall = "train_partial"

        # `self.overlong()`
        self.overlong_buffer_tokens = 4096
        self.overlong_penalty = 1.0
        self.overlong_filtering = False
        self.truncated_in_baseline = True

        # `self.evaluation()`
        self.evaluation_num_prompts = 128
        self.evaluation_samples_per_prompt = 8
        self.evaluation_temperature = 1.0
        self.evaluation_top_p = 0.7
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
        self.create_local_env_runner = False  # it would be a second engine
        self.sample_timeout_s = None  # a slow rollout is a long answer, not a fault
        self.weight_sync_timeout_s = 600.0
        # There are no connectors, whose states these would merge and send around after every
        # iteration.
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
        freeze_fraction: float | None = NotProvided,
        logprob_chunk_tokens: int | None = NotProvided,
        num_threads: int | str | None = NotProvided,
    ) -> Self:
        """Which model is trained, and how it is computed.

        Args:
            name: A folder in Hugging Face format, a hub name, `"tiny"` or `"smollm2-135m"`.
            dtype: `"bfloat16"` or `"float32"`: the engine's type and that of the Learner's
                computation; the Learner's weights are float32 either way. `"float64"` is for
                proofs, and for the engine `"transformers"` alone.
            trust_remote_code: Whether the model may run code of its own. Leave off unless you have
                read that code.
            gradient_checkpointing: Recompute activations in the backward pass: less memory, about a
                third slower.
            freeze_fraction: Share of the decoder layers, from the first on, that is not trained, in
                [0, 1).
            logprob_chunk_tokens: Tokens whose logits are held at a time.
            num_threads: CPU threads of each Learner and engine; `"auto"` shares the machine's
                cores.
        """
        _assign(
            self,
            model_name=name,
            model_dtype=dtype,
            trust_remote_code=trust_remote_code,
            gradient_checkpointing=gradient_checkpointing,
            freeze_fraction=freeze_fraction,
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
        max_turns: int | None = NotProvided,
        num_env_threads: int | None = NotProvided,
        cpu_kv_cache_gib: float | None = NotProvided,
        engine_kwargs: dict[str, Any] | None = NotProvided,
        record_groups: bool | None = NotProvided,
    ) -> Self:
        """How responses are sampled.

        Args:
            engine: `"vllm"` or `"transformers"`.
            max_prompt_tokens: Longer prompts are dropped and counted, never cut.
            max_response_tokens: `L_max`: hard limit on a response, in tokens; where an environment
                answers back, on all turns of an episode and the answers between them.
            temperature: Of training rollouts. The Learner divides its logits by the same.
            top_p: Of training rollouts; below 1 the sampler's log-probabilities are no longer the
                policy's.
            max_concurrent_responses: Responses one engine works on at a time.
            max_groups_in_flight: Groups under way on one EnvRunner.
            max_turns: An episode is cut off after so many responses, if the environment does not
                end it before.
            num_env_threads: Threads of an EnvRunner that step environments which take several
                steps, or do not derive from `SingleStepTextEnv`: more than 1 where they wait for a
                server. 1: in the EnvRunner's own thread.
            cpu_kv_cache_gib: vLLM's key-value cache on a machine without a GPU, in GiB.
            engine_kwargs: Passed on to `vllm.LLM`, or to transformers' `generate`.
            record_groups: Keep the groups that are trained on as Parquet files in the trial's
                folder `recording`, for `rllib-dapo replay`; see `recording`.
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
            max_turns=max_turns,
            num_env_threads=num_env_threads,
            cpu_kv_cache_gib=cpu_kv_cache_gib,
            engine_kwargs=engine_kwargs,
            record_groups=record_groups,
        )
        return self

    @override(AlgorithmConfig)
    def training(
        self,
        *,
        warmup_steps: float | None = NotProvided,
        lr_schedule: LRSchedule | None = NotProvided,
        lr_decay_updates: int | None = NotProvided,
        lr_end_fraction: float | None = NotProvided,
        weight_decay: float | None = NotProvided,
        adam_betas: tuple[float, float] | None = NotProvided,
        adam_epsilon: float | None = NotProvided,
        prompts_per_step: int | None = NotProvided,
        group_size: int | None = NotProvided,
        epsilon_low: float | None = NotProvided,
        epsilon_high: float | None = NotProvided,
        dual_clip: float | None = NotProvided,
        ratio_level: RatioLevel | None = NotProvided,
        loss_aggregation: LossAggregation | None = NotProvided,
        advantage_estimator: AdvantageEstimator | None = NotProvided,
        normalize_advantages_by_std: bool | None = NotProvided,
        entropy_coefficient: float | None = NotProvided,
        entropy_mask_fraction: float | None = NotProvided,
        token_mask: str | Callable[..., Any] | None = NotProvided,
        old_logprobs: str | None = NotProvided,
        max_tokens_per_microbatch: int | None = NotProvided,
        max_shared_row_tokens: int | None = NotProvided,
        **kwargs: Any,
    ) -> Self:
        """Hyper-parameters of the update. Any of them may be a Tune search space.

        Args:
            warmup_steps: Linear warm-up of the learning rate, in training steps (rollouts), as the
                paper counts.
            lr_schedule: After the warm-up: `"constant"` (the paper's), `"linear"` or `"cosine"`.
            lr_decay_updates: Optimizer steps from the end of the warm-up to the end of the decay;
                needed by the latter two, refused by the first.
            lr_end_fraction: Share of the learning rate that is left at the end of the decay, in [0,
                1].
            weight_decay: AdamW's.
            adam_betas: AdamW's.
            adam_epsilon: AdamW's.
            prompts_per_step: Informative groups a training step wants.
            group_size: `G`, responses per prompt.
            epsilon_low: Lower clip range. With one mini-batch per step the ratio is 1 and neither
                bound does anything.
            epsilon_high: Upper clip range.
            dual_clip: Bound `c` on the loss of tokens with negative advantage (arXiv 1912.09729),
                or None.
            ratio_level: `"token"` (Eq. 10), or `"sequence"` for one ratio per response, the
                geometric mean of its tokens' (GSPO, arXiv 2507.18071, Eq. 7).
            loss_aggregation: See `core.normalizer`.
            advantage_estimator: `"group"`: the reward less the group's mean (Eq. 9).
                `"leave_one_out"`: less the mean of the group's other responses (RLOO, arXiv
                2402.14740). `"gae"`: of a value model, see `critic`.
            normalize_advantages_by_std: False leaves out the division by the group's standard
                deviation (arXiv 2503.20783); with `"gae"` that of all tokens of the batch.
            entropy_coefficient: The loss has this times the mean entropy taken off; 0, the paper's,
                leaves it out.
            entropy_mask_fraction: Train only this share of a mini-batch's tokens, those where the
                policy is least certain (arXiv 2506.01939: 0.2), or None for all.
            token_mask: Chooses the tokens that are trained: a function, or
                `"package.module:function"`, called with `response_ids`, `entropy` and `mask`, each
                `[B, T]`, that gives bool `[B, T]`; or None for all.
            old_logprobs: `"trainer"` recomputes the ratio's denominator; `"sampler"` takes the
                engine's.
            max_tokens_per_microbatch: Bound on a micro-batch's padded size, in tokens; bounds
                memory, not the result.
            max_shared_row_tokens: Responses of one prompt share its computation in rows up to this
                long, in tokens; 0 computes the prompt anew for each response.
            **kwargs: RLlib's: `lr`, `minibatch_size` (responses per optimizer step), `grad_clip`,
                `gamma` (discount per token, for `advantage_estimator="gae"`), ...
        """
        super().training(**kwargs)
        _assign(
            self,
            warmup_steps=warmup_steps,
            lr_schedule=lr_schedule,
            lr_decay_updates=lr_decay_updates,
            lr_end_fraction=lr_end_fraction,
            weight_decay=weight_decay,
            adam_betas=adam_betas,
            adam_epsilon=adam_epsilon,
            prompts_per_step=prompts_per_step,
            group_size=group_size,
            epsilon_low=epsilon_low,
            epsilon_high=epsilon_high,
            dual_clip=dual_clip,
            ratio_level=ratio_level,
            loss_aggregation=loss_aggregation,
            advantage_estimator=advantage_estimator,
            normalize_advantages_by_std=normalize_advantages_by_std,
            entropy_coefficient=entropy_coefficient,
            entropy_mask_fraction=entropy_mask_fraction,
            token_mask=token_mask,
            old_logprobs=old_logprobs,
            max_tokens_per_microbatch=max_tokens_per_microbatch,
            max_shared_row_tokens=max_shared_row_tokens,
        )
        return self

    def kl(
        self,
        *,
        coefficient: float | None = NotProvided,
        estimator: KLEstimator | None = NotProvided,
        placement: KLPlacement | None = NotProvided,
    ) -> Self:
        """Divergence from the frozen model that training started from. DAPO has none (Section 2.3), GRPO has.

        Args:
            coefficient: `beta`; 0 leaves it out, and no reference model is held.
            estimator: `"k1"`, `"k2"` or `"k3"` (arXiv 2402.03300, Eq. 4), see `core.kl`.
            placement: `"loss"` adds it to the loss (GRPO); `"reward"` takes it off the rewards
                (arXiv 2203.02155).
        """
        _assign(self, kl_coefficient=coefficient, kl_estimator=estimator, kl_placement=placement)
        return self

    def importance_sampling(
        self,
        *,
        cap: float | None = NotProvided,
        sequence_bounds: tuple[float, float] | None = NotProvided,
        start_gap_limit: float | None = NotProvided,
        on_start_gap: OnStartGap | None = NotProvided,
    ) -> Self:
        """What is done about the engine's probabilities not being quite the trainer's.

        Args:
            cap: Truncated importance sampling: token losses times `min(pi_trainer_old / pi_sampler,
                cap)`, with a cap of at least 1; 2 is usual. None leaves it out.
            sequence_bounds: Responses whose geometric mean of these ratios lies outside `(low,
                high)` have no loss. None keeps all.
            start_gap_limit: The largest mean difference of a token's log-probabilities between
                trainer and sampler, in nats, that the first step may show: a larger one means that
                the two are not the same model. None does not look.
            on_start_gap: Beyond it: `"raise"` stops, `"correct"` switches truncated importance
                sampling on with a cap of 2, `"warn"` goes on.
        """
        _assign(
            self,
            importance_cap=cap,
            importance_sequence_bounds=sequence_bounds,
            start_gap_limit=start_gap_limit,
            on_start_gap=on_start_gap,
        )
        return self

    def critic(
        self,
        *,
        gae_lambda: float | None = NotProvided,
        value_loss_coefficient: float | None = NotProvided,
        value_clip: float | None = NotProvided,
    ) -> Self:
        """The value model of `training(advantage_estimator="gae")`; of no effect without.

        Args:
            gae_lambda: Of generalized advantage estimation (arXiv 1506.02438, Eq. 16); its discount
                is `training(gamma=...)`.
            value_loss_coefficient: Weight of the value loss beside the policy loss.
            value_clip: How far a value may move in one update, in units of return (PPO, arXiv
                1707.06347), or None.
        """
        _assign(
            self,
            gae_lambda=gae_lambda,
            value_loss_coefficient=value_loss_coefficient,
            value_clip=value_clip,
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
            on_shortfall: When the rounds are used up: `"train_partial"` trains on what there is,
                `"raise"` stops.
        """
        _assign(
            self,
            dynamic_sampling_enabled=enabled,
            max_rounds=max_rounds,
            max_oversampling=max_oversampling,
            on_shortfall=on_shortfall,
        )
        return self

    def overlong(
        self,
        *,
        buffer_tokens: int | None = NotProvided,
        penalty: float | None = NotProvided,
        filtering: bool | None = NotProvided,
        truncated_in_baseline: bool | None = NotProvided,
    ) -> Self:
        """What becomes of responses that are too long: soft punishment (Eq. 13), filtering (Section 3.4), or both.

        Args:
            buffer_tokens: `L_cache`, in tokens, at the end of `rollout.max_response_tokens`.
            penalty: Factor on the punishment; 0 switches it off.
            filtering: Truncated responses have no loss.
            truncated_in_baseline: Whether the rewards of responses without loss still count in
                their group's mean and standard deviation.
        """
        _assign(
            self,
            overlong_buffer_tokens=buffer_tokens,
            overlong_penalty=penalty,
            overlong_filtering=filtering,
            truncated_in_baseline=truncated_in_baseline,
        )
        return self

    def deepspeed(self, config: dict[str, Any] | str | None = NotProvided) -> Self:
        """Training with DeepSpeed, which shards optimizer, gradients and weights over Learners.

        Args:
            config: DeepSpeed's settings, or the path of a JSON file with them, which is read here
                and now: Learners may run where it is not. What stands there as `"auto"` is filled
                in from this configuration. None trains without.

        Raises:
            ValueError: If a file cannot be read.
        """
        from rllib_dapo.learner.deepspeed_config import read_deepspeed_config

        _assign(
            self,
            deepspeed_config=read_deepspeed_config(config) if isinstance(config, str) else config,
        )
        return self

    def grpo(self) -> Self:
        """Sets each row of the objective to GRPO's (arXiv 2402.03300; Section 2.2 of the paper).

        Symmetric clipping, the loss a mean over responses of their token means (Eq. 5), a KL term
        of 0.04 in the loss, no filtering of groups, no treatment of long responses. The paper's own
        experiments leave the KL out (Section 2.3): `.grpo().kl(coefficient=0.0)`.
        """
        return (
            self._objective_without_additions()
            .training(loss_aggregation="sequence_mean")
            .kl(coefficient=0.04)
        )

    def ppo(self) -> Self:
        """Sets each row of the objective to PPO's (arXiv 1707.06347), as it is used on language models.

        Symmetric clipping, the loss a mean over tokens, advantages of a value model. Lambda and
        gamma are 1: the only reward comes at a response's end, and any decay would hide it from the
        first tokens of a long one, as would the bias of a value model that has only begun to learn.
        No KL, which is optional in PPO. `training(group_size=1)` is then possible, and usual.
        """
        return (
            self._objective_without_additions()
            .training(advantage_estimator="gae", gamma=1.0)
            .critic(gae_lambda=1.0, value_loss_coefficient=0.5, value_clip=0.2)
        )

    def _objective_without_additions(self) -> Self:
        """The clipped objective without what DAPO and others have added to it."""
        return (
            self.training(
                epsilon_low=0.2,
                epsilon_high=0.2,
                dual_clip=None,
                ratio_level="token",
                loss_aggregation="token_mean",
                advantage_estimator="group",
                normalize_advantages_by_std=True,
                entropy_coefficient=0.0,
                entropy_mask_fraction=None,
                token_mask=None,
            )
            .kl(coefficient=0.0, estimator="k3", placement="loss")
            .dynamic_sampling(enabled=False)
            .overlong(penalty=0.0, filtering=False)
        )

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
            evaluate_before_training: Also evaluate once before the first update, reported with the
                first result.
            **kwargs: RLlib's: `evaluation_interval`, `evaluation_config` (overrides, e.g. of
                `env_config`), ...
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
    def reporting(
        self,
        *,
        sample_table_interval: int | None = NotProvided,
        sample_table_prompts: int | None = NotProvided,
        sample_table_responses: int | None = NotProvided,
        **kwargs: Any,
    ) -> Self:
        """What a run shows of its responses, beside its curves.

        Args:
            sample_table_interval: Iterations between tables of the responses trained on, see
                `samples.SampleTable`; 0 keeps none, of evaluations neither.
            sample_table_prompts: Prompts in a table.
            sample_table_responses: Responses to each of them.
            **kwargs: RLlib's: `min_time_s_per_iteration`, `log_gradients`, ...
        """
        super().reporting(**kwargs)
        _assign(
            self,
            sample_table_interval=sample_table_interval,
            sample_table_prompts=sample_table_prompts,
            sample_table_responses=sample_table_responses,
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
        self._train_batch_size_per_learner = -(
            -self.train_batch_responses // max(1, self.num_learners)
        )
        super().validate()

    @property
    def train_batch_responses(self) -> int:
        """Responses in a full training batch."""
        return self.prompts_per_step * self.group_size

    @property
    def has_critic(self) -> bool:
        """Whether a value model is trained beside the policy."""
        return self.advantage_estimator == "gae"

    @property
    def needs_reference(self) -> bool:
        """Whether a frozen copy of the first policy is held."""
        return self.kl_coefficient != 0

    @property
    def clip_is_idle(self) -> bool:
        """Whether every ratio is 1: one update per rollout, of a policy that is still the ratio's denominator."""
        return (
            self.old_logprobs == "trainer"
            and (self.minibatch_size or 0) >= self.train_batch_responses
        )

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

    @property
    @override(AlgorithmConfig)
    def _model_config_auto_includes(self) -> dict[str, Any]:
        return super()._model_config_auto_includes | {
            "name": self.model_name,
            "dtype": self.model_dtype,
            "trust_remote_code": self.trust_remote_code,
            "gradient_checkpointing": self.gradient_checkpointing,
            "freeze_fraction": self.freeze_fraction,
            "value_head": self.has_critic,
            "reference": self.needs_reference,
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


OWN_SECTIONS = (
    "language_model",
    "rollout",
    "training",
    "kl",
    "importance_sampling",
    "critic",
    "dynamic_sampling",
    "overlong",
    "evaluation",
    "reporting",
    "deepspeed",
)
RLLIB_SECTIONS = (
    "environment",
    "env_runners",
    "learners",
    "resources",
    "debugging",
    "fault_tolerance",
)
# What a run file's `preset` may be, and what is done to a new configuration for it.
PRESETS: Mapping[str, Callable[[DAPOConfig], DAPOConfig]] = {
    "dapo": lambda config: config,
    "grpo": DAPOConfig.grpo,
    "ppo": DAPOConfig.ppo,
}


def sections() -> Sequence[str]:
    """The methods whose names and arguments make up a YAML file's sections and keys."""
    return (*OWN_SECTIONS, *RLLIB_SECTIONS)
