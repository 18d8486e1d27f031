"""Sections on the model and on what samples from it: `language_model`, `rollout`, `deepspeed`."""

from __future__ import annotations

from typing import Any, Literal, Self

from ray.rllib.algorithms.algorithm_config import AlgorithmConfig, NotProvided

from rllib_dapo.config.setting import settings_section
from rllib_dapo.models.template_settings import read_template

ModelDtype = Literal["bfloat16", "float32", "float64"]
EngineName = Literal["vllm", "transformers"]
ExecutorName = Literal["mp", "ray"]
SkipSpecialTokens = bool | Literal["template"]


class ModelSections(AlgorithmConfig):
    """Which model is trained, how its responses are sampled, and how its weights are sharded."""

    @settings_section(name="model_name", dtype="model_dtype")
    def language_model(
        self,
        name: str = NotProvided,
        *,
        dtype: ModelDtype = NotProvided,
        system_prompt: str = NotProvided,
        chat_template: str = NotProvided,
        chat_template_kwargs: dict[str, Any] = NotProvided,
        trust_remote_code: bool = NotProvided,
        attn_implementation: str = NotProvided,
        gradient_checkpointing: bool | int = NotProvided,
        activation_offload: bool = NotProvided,
        freeze_fraction: float = NotProvided,
        lora: dict[str, Any] | None = NotProvided,
        logprob_chunk_tokens: int = NotProvided,
        num_threads: int | Literal["auto"] = NotProvided,
    ) -> Self:
        """Which model is trained, and how it is computed.

        Args:
            name: A folder in Hugging Face format, a hub name, `tiny` or `smollm2-135m`; must be
                given.
            dtype: Type of the engine's weights and of the Learner's computation. The Learner's
                weights are float32 either way; `float64` is for proofs, and for the engine
                `transformers` alone.
            system_prompt: System message in front of every prompt that has none of its own; a
                conversation that brings one (of the role `system` or `developer`) keeps it. Refused
                where the model's chat template has no place for it.
            chat_template: Path of a Jinja file (or the template itself) in place of the model's own
                chat template. It is read once and goes into checkpoints and exports. `""` keeps the
                model's own.
            chat_template_kwargs: Values of names that the chat template reads, such as
                `{enable_thinking: false}`; a name that it never reads is refused. They go into
                checkpoints and exports too, as the template's defaults.
            trust_remote_code: Whether the model may run code of its own. Leave it off unless you
                have read that code.
            attn_implementation: Transformers' name of the attention that Learners compute with,
                such as `sdpa`, `eager`, `flex_attention` or `flash_attention_2`; or `sdpa_blocks`,
                which is `sdpa` without a dense mask where responses share a row. `auto` takes the
                fastest one that computes what the model is: `sdpa` or `sdpa_blocks`, and `eager`
                where attention has caps or sinks. Rows are not shared under flash attention.
            gradient_checkpointing: Recompute activations in the backward pass: less memory, about a
                third slower. `true` for all layers, or the number of layers, counted from the
                first, that do.
            activation_offload: Keep what the backward pass needs in main memory meanwhile, and
                bring it back to the GPU layer by layer.
            freeze_fraction: Share of the decoder layers, counted from the first, that is not
                trained, in [0, 1).
            lora: Train an adapter (LoRA) beside the frozen model: `{rank, alpha, target_modules,
                rslora}`, of which `rank` must be given. `alpha` is 32, `target_modules`
                `all-linear` (or a list of layers, such as `[q_proj, v_proj]`), and the adapter is
                scaled by `alpha / rank`, with `rslora` by `alpha / sqrt(rank)`. It alone is in
                optimizer and checkpoint, and on the way to the engines. It wants about ten times
                the learning rate of full training; see docs/lora.md. `null` trains the whole
                model.
            logprob_chunk_tokens: Number of tokens whose logits are held at a time.
            num_threads: CPU threads of each Learner and engine; `auto` shares the machine's cores.

        Raises:
            ValueError: If the file of the chat template cannot be read.
        """
        # The file is read here and now: EnvRunners may run where it is not.
        if isinstance(chat_template, str) and chat_template:
            self.chat_template = read_template(chat_template)
        return self

    @property
    def tokenizer_settings(self) -> dict[str, Any]:
        """How the run's tokenizer is loaded: arguments of `load_tokenizer`."""
        return {
            "trust_remote_code": self.trust_remote_code,
            "chat_template": self.chat_template,
            "chat_template_kwargs": dict(self.chat_template_kwargs or {}),
        }

    @settings_section()
    def rollout(
        self,
        *,
        engine: EngineName = NotProvided,
        tensor_parallel_size: int = NotProvided,
        pipeline_parallel_size: int = NotProvided,
        executor: ExecutorName = NotProvided,
        colocate: bool = NotProvided,
        shared_engine: bool = NotProvided,
        max_prompt_tokens: int = NotProvided,
        max_response_tokens: int = NotProvided,
        temperature: float = NotProvided,
        top_p: float = NotProvided,
        sampling: dict[str, Any] = NotProvided,
        max_concurrent_responses: int = NotProvided,
        max_groups_in_flight: int = NotProvided,
        stall_seconds: float | None = NotProvided,
        max_staleness: int = NotProvided,
        max_turns: int = NotProvided,
        skip_special_tokens: SkipSpecialTokens = NotProvided,
        tool_call_parser: str = NotProvided,
        num_env_threads: int = NotProvided,
        cpu_kv_cache_gib: float = NotProvided,
        engine_kwargs: dict[str, Any] = NotProvided,
        record_groups: bool = NotProvided,
    ) -> Self:
        """How responses are sampled.

        Args:
            engine: Library that samples: `vllm`, or `transformers` as fallback and cross-check.
            tensor_parallel_size: Number of workers, each with a GPU of its own, that share every
                layer of one engine. The GPUs of an EnvRunner follow from it.
            pipeline_parallel_size: Number of groups of such workers, each of which holds a share of
                the layers.
            executor: How an engine of several workers runs them: `mp` as processes beside the
                EnvRunner, on its machine; `ray` as Ray actors, which may be on several machines.
            colocate: Whether each engine shares one GPU with a Learner, in turns: while Learners
                train, engines sleep and give their memory back, and while engines sample, the
                optimizer's state rests in main memory. Ray's GPU shares and the engine's memory
                follow from it.
            shared_engine: Whether the trials of a sweep sample from one engine at the same time,
                each with its own adapter (`language_model.lora`), instead of one engine each. The
                engine has room of its own beside the trials, and lives as long as the sweep; see
                docs/sweeps.md.
            max_prompt_tokens: Longest prompt, in tokens. Longer ones are dropped and counted, never
                cut. Source: recipe.
            max_response_tokens: `L_max`, the hard limit on a response, in tokens. Where an
                environment answers back, it covers all turns of an episode and the observations
                between them. Source: paper 4.1.
            temperature: Sampling temperature of training rollouts. The Learner divides its logits
                by the same number. Source: recipe.
            top_p: Nucleus of training rollouts. Below 1 Learners renormalise over the same tokens
                that engines sample from; see docs/sampling.md. Source: recipe.
            sampling: What else decides on tokens, and on the ends of responses: `{stop,
                stop_token_ids, include_stop, top_k, min_p}`, and for evaluations alone
                `{repetition_penalty, presence_penalty, frequency_penalty, bad_words, regex, choice,
                json_schema}`; see docs/sampling.md.
            max_concurrent_responses: Number of responses that one engine works on at a time.
            max_groups_in_flight: Largest number of groups under way on one EnvRunner. It is not
                given another one either while it has twice `max_concurrent_responses` open.
            stall_seconds: Longest time in which an EnvRunner may make no progress: no step of its
                engine, no answer of an environment. Then it hangs: it is started anew, its prompts
                go out again, and where that does not help the trial ends. A long answer is no hang.
                `null` waits for ever; so does, in training, an EnvRunner in the driver's process.
            max_staleness: By how many updates the weights that sampled a token may be older than
                those that are trained on it. 0 is the paper's loop: sampling and training take
                turns. With 1 or more, EnvRunners sample while Learners train, responses go on under
                new weights, and `importance_sampling.cap` is on; see docs/staleness.md.
            max_turns: Number of responses after which an episode is cut off, if the environment
                does not end it before.
            skip_special_tokens: Special tokens that are left out of the texts which environments,
                rewards and people read: `template` those that end a turn or frame a message, so
                that `<think>` is seen even where it is a special token; true all; false none.
            tool_call_parser: Format in which the model calls the tools that an environment
                declares: one of vLLM's parsers by the name that `--tool-call-parser` has for it,
                such as `hermes`, `qwen3_xml`, `llama3_json` or `mistral`. `""` where there are no
                tools.
            num_env_threads: Threads of an EnvRunner that run environments, beside the engine's. Use
                more than 1 where `score` or `step` waits for a server; a `SingleStepTextEnv` is
                then called by several threads at a time. Environments in processes need none.
            cpu_kv_cache_gib: Size of vLLM's key-value cache on a machine without a GPU, in GiB.
            engine_kwargs: Passed on to `vllm.LLM`, or to transformers' `generate`.
            record_groups: Keep the groups that are trained on as Parquet files in the trial's
                folder `recording`, for `rllib-dapo replay`.
        """
        return self

    @settings_section(config="deepspeed_config")
    def deepspeed(self, config: dict[str, Any] | str | None = NotProvided) -> Self:
        """Training with DeepSpeed, which shards optimizer, gradients and weights over Learners.

        Args:
            config: DeepSpeed's settings, or the path of a JSON file with them. What stands there as
                `"auto"` is filled in from this configuration, and what contradicts another setting
                is refused. `null` trains without DeepSpeed.

        Raises:
            ValueError: If a file cannot be read.
        """
        from rllib_dapo.learner.deepspeed_config import read_deepspeed_config

        # The file is read here and now: Learners may run where it is not.
        if isinstance(config, str):
            self.deepspeed_config: dict[str, Any] | str | None = read_deepspeed_config(config)
        return self
