"""Which settings inherited from RLlib have an effect here, and what to use in place of the others.

Every attribute of RLlib's `AlgorithmConfig` stands in one of three tables. A test compares them
with RLlib, so a setting that a new version adds cannot be ignored without a word.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Unused:
    """A setting of RLlib's that nothing reads here.

    Attributes:
        setting: `section.argument` by which users set it; the attribute where no method does.
        is_refused: Whether a run with it would not be what was asked for. A setting that can do no
            harm is only warned of.
        instead: Why it has no effect, and what to use.
    """

    setting: str
    is_refused: bool
    instead: str


# Attributes that begin with an underscore while the arguments that set them do not.
_WITHOUT_UNDERSCORE = frozenset(
    {
        "_train_batch_size_per_learner",
        "_env_to_module_connector",
        "_module_to_env_connector",
        "_learner_connector",
        "_model_config",
        "_is_atari",
    }
)


def _unused(section: str, instead: str, attributes: str, *, refused: bool) -> dict[str, Unused]:
    """Entries for several attributes, by attribute."""
    return {
        name: Unused(
            setting=f"{section}.{_argument(name)}" if section else name,
            is_refused=refused,
            instead=instead,
        )
        for name in attributes.split()
    }


def _argument(attribute: str) -> str:
    """The argument of RLlib's method that sets an attribute."""
    name = attribute.removeprefix("callbacks_").removesuffix("_str")
    return name.removeprefix("_") if name in _WITHOUT_UNDERSCORE else name


def _refused(section: str, instead: str, attributes: str) -> dict[str, Unused]:
    return _unused(section, instead, attributes, refused=True)


def _warned(section: str, instead: str, attributes: str) -> dict[str, Unused]:
    return _unused(section, instead, attributes, refused=False)


_OLD_STACK = "it belongs to RLlib's old API stack"
_NO_CONNECTORS = "no connectors run, because text needs none: change texts in the environment"
_NO_EPISODES = "an environment is stepped with whole responses, and tokens are carried as they are"
_ONE_POLICY = "there is one policy, the language model of section language_model"
_NO_OFFLINE = "training samples its own responses from the environment"
_NO_OFFLINE_EVALUATION = (
    "evaluation samples from the environment: use evaluation_interval and evaluation_num_prompts"
)
_NO_EVALUATION_RUNNERS = "evaluation runs on the training EnvRunners, under sample_timeout_s"
_COMPILE = "the model runs as transformers makes it"

UNUSED: Mapping[str, Unused] = {
    # Batches
    **_refused(
        "training",
        "a batch is training.prompts_per_step groups of training.group_size responses",
        "train_batch_size _train_batch_size_per_learner",
    ),
    **_refused(
        "training",
        "a rollout is trained on once, in mini-batches of training.minibatch_size responses",
        "shuffle_batch_per_epoch",
    ),
    **_refused(
        "env_runners",
        "a rollout is training.prompts_per_step groups of whole responses",
        "rollout_fragment_length batch_mode",
    ),
    **_refused(
        "env_runners",
        "an EnvRunner works on rollout.max_concurrent_responses responses at a time",
        "num_envs_per_env_runner",
    ),
    # Exploration
    **_refused(
        "env_runners",
        "responses are always sampled: use rollout.temperature and rollout.top_p, in evaluation "
        "evaluation_temperature and evaluation_top_p",
        "explore exploration_config",
    ),
    **_refused("", "use rollout.temperature and rollout.top_p", "_prior_exploration_config"),
    # Model and optimizer
    **_refused(
        "rl_module",
        "the model is that of section language_model; settings for a module of your own belong "
        "into its RLModuleSpec",
        "_model_config",
    ),
    **_refused("training", "the model is that of section language_model", "model"),
    **_refused(
        "",
        "use training.optimizer, lr, weight_decay, adam_betas and adam_epsilon",
        "optimizer",
    ),
    **_refused(
        "experimental",
        "use training.lr_schedule, lr_decay_updates and lr_end_fraction",
        "_torch_lr_scheduler_classes",
    ),
    **_refused(
        "experimental",
        "language_model.dtype=bfloat16 needs no scaling of gradients",
        "_torch_grad_scaler_class",
    ),
    **_warned(
        "framework",
        "an update with such a gradient is always left out: see training.max_skipped_updates",
        "torch_skip_nan_gradients",
    ),
    **_warned(
        "framework",
        _COMPILE,
        "torch_compile_learner torch_compile_learner_what_to_compile torch_compile_worker "
        "torch_compile_learner_dynamo_backend torch_compile_learner_dynamo_mode "
        "torch_compile_worker_dynamo_backend torch_compile_worker_dynamo_mode",
    ),
    **_refused("framework", "this package needs torch", "framework_str"),
    **_warned(
        "framework",
        "this package needs torch",
        "eager_tracing eager_max_retraces tf_session_args local_tf_session_args",
    ),
    # Policies
    **_refused(
        "multi_agent",
        _ONE_POLICY,
        "policies policy_mapping_fn policies_to_train observation_fn count_steps_by",
    ),
    **_warned("multi_agent", _ONE_POLICY, "policy_map_capacity policy_states_are_swappable"),
    **_refused(
        "rl_module",
        "there is one module: change the settings themselves",
        "algorithm_config_overrides_per_module",
    ),
    # Environments and connectors
    **_refused(
        "env_runners",
        _NO_CONNECTORS,
        "_env_to_module_connector _module_to_env_connector observation_filter",
    ),
    **_refused("learners", _NO_CONNECTORS, "_learner_connector"),
    **_warned(
        "env_runners",
        _NO_CONNECTORS,
        "add_default_connectors_to_env_to_module_pipeline merge_env_runner_states "
        "add_default_connectors_to_module_to_env_pipeline broadcast_env_runner_states "
        "use_env_runner_state_server env_runner_state_server_max_concurrency",
    ),
    **_warned("learners", _NO_CONNECTORS, "add_default_connectors_to_learner_pipeline"),
    **_warned("", _NO_CONNECTORS, "_dont_auto_sync_env_runner_states"),
    **_refused(
        "environment", "rewards are used as the environment gives them", "clip_rewards _is_atari"
    ),
    **_warned(
        "environment",
        "observations and actions are text",
        "normalize_actions clip_actions action_mask_key observation_space action_space",
    ),
    **_warned("environment", "rllib-dapo check-env checks an environment", "disable_env_checking"),
    **_warned("environment", "section reporting keeps responses to look at", "render_env"),
    **_warned(
        "env_runners",
        _NO_EPISODES,
        "gym_env_vectorize_mode episodes_to_numpy episode_lookback_horizon "
        "create_env_on_local_worker",
    ),
    **_warned(
        "env_runners",
        "each EnvRunner has one call at a time, for up to rollout.max_groups_in_flight groups",
        "max_requests_in_flight_per_env_runner",
    ),
    # Learners
    **_refused(
        "learners",
        "Learners fetch the responses that they train on themselves",
        "num_aggregator_actors_per_learner",
    ),
    **_warned(
        "learners",
        "Learners are updated one rollout at a time",
        "max_requests_in_flight_per_learner max_requests_in_flight_per_aggregator_actor",
    ),
    # Evaluation
    **_refused(
        "evaluation",
        "use evaluation_num_prompts and evaluation_samples_per_prompt",
        "evaluation_duration evaluation_duration_unit",
    ),
    **_refused(
        "evaluation",
        "use an environment of its own in evaluation_config, or a callback on_evaluate_end",
        "custom_evaluation_function",
    ),
    **_warned(
        "evaluation",
        _NO_EVALUATION_RUNNERS,
        "evaluation_sample_timeout_s evaluation_unhealthy_workers_timeout_s "
        "evaluation_error_after_n_consecutive_skips "
        "evaluation_force_reset_envs_before_iteration "
        "evaluation_auto_duration_min_env_steps_per_sample "
        "evaluation_auto_duration_max_env_steps_per_sample",
    ),
    **_refused(
        "evaluation",
        _NO_OFFLINE_EVALUATION,
        "off_policy_estimation_methods offline_evaluation_interval num_offline_eval_runners "
        "offline_eval_runner_class offline_loss_for_module_fn offline_evaluation_type",
    ),
    **_warned(
        "evaluation",
        _NO_OFFLINE_EVALUATION,
        "ope_split_batch_by_episode offline_evaluation_timeout_s num_cpus_per_offline_eval_runner "
        "num_gpus_per_offline_eval_runner custom_resources_per_offline_eval_runner "
        "restart_failed_offline_eval_runners ignore_offline_eval_runner_failures "
        "max_num_offline_eval_runner_restarts offline_eval_runner_restore_timeout_s "
        "max_requests_in_flight_per_offline_eval_runner "
        "validate_offline_eval_runners_after_construction "
        "offline_eval_runner_health_probe_timeout_s offline_eval_rl_module_inference_only "
        "broadcast_offline_eval_runner_states offline_eval_batch_size_per_runner",
    ),
    **_refused(
        "",
        _NO_OFFLINE_EVALUATION,
        "offline_evaluation_duration offline_evaluation_parallel_to_training "
        "dataset_num_iters_per_eval_runner",
    ),
    # Recorded data
    **_refused(
        "offline_data",
        f"{_NO_OFFLINE}: `rllib-dapo replay` repeats recorded updates",
        "input_ offline_data_class input_read_method input_read_method_kwargs input_read_schema "
        "input_read_episodes input_read_sample_batches input_read_batch_size input_filesystem "
        "input_filesystem_kwargs input_compress_columns materialize_data materialize_mapped_data "
        "map_batches_kwargs iter_batches_kwargs ignore_final_observation prelearner_class "
        "prelearner_buffer_class prelearner_buffer_kwargs prelearner_module_synch_period "
        "prelearner_use_recorded_module_states dataset_num_iters_per_learner input_config "
        "actions_in_input_normalized postprocess_inputs shuffle_buffer_size offline_sampling",
    ),
    **_refused("", _NO_OFFLINE, "input_spaces_jsonable replay_sequence_length"),
    **_refused(
        "offline_data",
        "use rollout.record_groups",
        "output output_config output_compress_columns output_max_file_size "
        "output_max_rows_per_file output_write_remaining_data output_write_method "
        "output_write_method_kwargs output_filesystem output_filesystem_kwargs "
        "output_write_episodes",
    ),
    # Figures, checkpoints, failures
    **_warned(
        "reporting",
        "every figure is of one iteration alone",
        "metrics_num_episodes_for_smoothing keep_per_episode_custom_metrics "
        "metrics_episode_collection_timeout_s",
    ),
    **_warned(
        "reporting", "results always have gradient_norm and gradient_norm_max", "log_gradients"
    ),
    **_warned(
        "checkpointing",
        "every checkpoint has the model as a Hugging Face folder: `rllib-dapo export`",
        "export_native_model_files checkpoint_trainable_policies_only",
    ),
    **_warned("debugging", "Ray's dashboard shows the use of every machine", "log_sys_usage"),
    **_refused("debugging", "sampling is real", "fake_sampler"),
    **_refused(
        "fault_tolerance",
        "use restart_failed_env_runners and max_num_env_runner_restarts",
        "num_consecutive_env_runner_failures_tolerance",
    ),
    **_warned(
        "fault_tolerance",
        "an environment's failure is a missing verdict, and weights reach restarted EnvRunners "
        "within weights.timeout_s",
        "restart_failed_sub_environments env_runner_restore_timeout_s",
    ),
    # The old API stack, and what became of its settings
    **_refused(
        "api_stack",
        "only RLlib's new API stack trains here",
        "enable_rl_module_and_learner enable_env_runner_and_connector_v2",
    ),
    **_refused("resources", "use learners.num_gpus_per_learner", "num_gpus _fake_gpus"),
    **_refused("env_runners", _OLD_STACK, "remote_worker_envs enable_tf1_exec_eagerly"),
    **_warned(
        "env_runners",
        _OLD_STACK,
        "compress_observations remote_env_batch_wait_ms sample_collector preprocessor_pref "
        "update_worker_filter_stats use_worker_filter_stats sampler_perf_stats_ema_coef",
    ),
    **_warned("", _OLD_STACK, "sync_filters_on_rollout_workers_timeout_s"),
    **_warned(
        "experimental",
        _OLD_STACK,
        "_tf_policy_handles_more_than_one_loss _disable_preprocessor_api "
        "_disable_action_flattening _disable_initialize_loss_from_dummy_batch",
    ),
    **_refused(
        "python_environment",
        "give variables to Ray: ray.init(runtime_env={'env_vars': {...}})",
        "extra_python_environs_for_driver extra_python_environs_for_worker",
    ),
    # Events of episodes that are stepped one action at a time
    **_refused(
        "callbacks",
        "a response is sampled as a whole: use on_episode_end or on_sample_end",
        "callbacks_on_episode_created callbacks_on_episode_start callbacks_on_episode_step",
    ),
    **_refused(
        "callbacks",
        _NO_OFFLINE_EVALUATION,
        "callbacks_on_evaluate_offline_start callbacks_on_evaluate_offline_end "
        "callbacks_on_offline_eval_runners_recreated",
    ),
}

# What RLlib's code or this package's reads, by section.
_USED = {
    "resources": "placement_strategy num_cpus_for_main_process custom_resources_for_main_process",
    "framework": "torch_ddp_kwargs",
    "environment": "env env_config",
    "env_runners": (
        "env_runner_cls num_env_runners create_local_env_runner num_cpus_per_env_runner "
        "num_gpus_per_env_runner custom_resources_per_env_runner "
        "validate_env_runners_after_construction sample_timeout_s"
    ),
    "learners": (
        "num_learners num_gpus_per_learner num_cpus_per_learner custom_resources_per_learner "
        "local_gpu_idx learner_config_dict _learner_class"
    ),
    # `grad_clip_by` and `num_epochs` may only be what they are.
    "training": "gamma lr grad_clip grad_clip_by num_epochs minibatch_size",
    "callbacks": (
        "callbacks_class callbacks_on_algorithm_init callbacks_on_env_runners_recreated "
        "callbacks_on_checkpoint_loaded callbacks_on_environment_created callbacks_on_episode_end "
        "callbacks_on_evaluate_start callbacks_on_evaluate_end callbacks_on_sample_end "
        "callbacks_on_train_result"
    ),
    # The last two may only be off.
    "evaluation": (
        "evaluation_interval evaluation_config evaluation_num_env_runners "
        "evaluation_parallel_to_training"
    ),
    "reporting": (
        "min_time_s_per_iteration min_train_timesteps_per_iteration "
        "min_sample_timesteps_per_iteration stats_cls_lookup"
    ),
    "debugging": "log_level seed",
    "fault_tolerance": (
        "restart_failed_env_runners ignore_env_runner_failures max_num_env_runner_restarts "
        "delay_between_env_runner_restarts_s env_runner_health_probe_timeout_s"
    ),
    "rl_module": "_rl_module_spec",
    "experimental": "_validate_config _use_msgpack_checkpoints",
}
USED = frozenset(name for names in _USED.values() for name in names.split())

# What RLlib keeps for itself in a configuration.
INTERNAL = frozenset(
    {
        "algo_class",
        "_is_online",
        "_is_frozen",
        "_per_module_overrides",
        "in_evaluation",
        "simple_optimizer",  # set by RLlib's own `validate`
    }
)
