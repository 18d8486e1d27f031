"""What of a plan does not fit, and the setting that would change it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from rllib_dapo.capacity.hardware import GIB, Hardware
from rllib_dapo.capacity.layout import WIDTH
from rllib_dapo.capacity.model_shape import ModelShape
from rllib_dapo.capacity.run_plan import RunPlan, make_plan
from rllib_dapo.config.colocation_checks import check_colocation
from rllib_dapo.rollout.vllm_settings import USABLE

if TYPE_CHECKING:
    from rllib_dapo.config.dapo_config import DAPOConfig

MOST_LEARNERS, MOST_GPUS_AN_ENGINE = 512, 16
CHUNK_TOKENS = 512
LORA_RANK = 16
Change = tuple[str, Callable[["DAPOConfig"], Any]]


def plan_findings(
    plan: RunPlan, config: DAPOConfig, *, response_tokens: float | None = None
) -> list[str]:
    """What does not fit, each in one line with setting, value and way out.

    Args:
        plan: The plan.
        config: The configuration that it was made of.
        response_tokens: Mean length of a response that it was made with.
    """
    return [
        *_gpu_findings(plan, config),
        *memory_findings(plan, config, response_tokens=response_tokens),
    ]


def memory_findings(
    plan: RunPlan, config: DAPOConfig, *, response_tokens: float | None = None
) -> list[str]:
    """Of what does not fit, all that is about memory rather than about the number of GPUs.

    Args:
        plan: The plan.
        config: The configuration that it was made of.
        response_tokens: Mean length of a response that it was made with.
    """
    return [
        *_learner_findings(plan, config, response_tokens),
        *_turn_findings(plan),
        *_engine_findings(plan, config),
        *_main_memory_findings(plan, config),
    ]


def _gpu_findings(plan: RunPlan, config: DAPOConfig) -> Iterator[str]:
    if plan.gpus and plan.hardware.gpu is None:
        yield (
            f"the run asks for {plan.gpus:g} GPUs and {plan.hardware.name} has none: name the kind "
            "that it will have, as in --gpu h100-80gb"
        )
    elif not plan.has_gpus:
        yield (
            f"the run asks for {plan.gpus:g} GPUs and {plan.hardware.name} has "
            f"{plan.hardware.gpus}: lower env_runners.num_env_runners={config.num_env_runners} or "
            f"learners.num_learners={config.num_learners}, or give --nodes"
        )

    shared = int(1 / plan.engines.gpus) if 0 < plan.engines.gpus < 1 else 1
    if shared > 1 and plan.engines.kind == "vllm" and shared * plan.engines.utilization > 1:
        yield (
            f"env_runners.num_gpus_per_env_runner={plan.engines.gpus:g} puts {shared} engines on a "
            f"GPU, and each takes {plan.engines.utilization:g} of it: set "
            f"rollout.engine_kwargs.gpu_memory_utilization to {USABLE / shared:.2f}"
        )


def _learner_findings(
    plan: RunPlan, config: DAPOConfig, response_tokens: float | None
) -> Iterator[str]:
    if plan.learner_fits or plan.learner_room is None:
        return

    def fits(changed: DAPOConfig) -> bool:
        return make_plan(
            changed, plan.shape, plan.hardware, response_tokens=response_tokens
        ).learner_fits

    where = "a GPU" if plan.learners.gpus else "main memory"
    yield (
        f"a Learner needs {_gib(plan.learner.total)} of {where}'s {_gib(plan.learner_room)} GiB: "
        f"{_way_out(config, _learner_changes(config, plan.hardware), fits)}"
    )


def _turn_findings(plan: RunPlan) -> Iterator[str]:
    share, given = plan.computed_share, plan.engines.utilization
    if plan.turns_fit or plan.at_rest is None or share is None:
        return
    if plan.engines.utilization_is_given and share < given:
        yield (
            f"rollout.engine_kwargs.gpu_memory_utilization={given:g} leaves a Learner too little "
            f"of the GPU to rest there with {_gib(plan.at_rest)} GiB: leave it out, and it is "
            f"{share:g}"
        )


def _way_out(config: DAPOConfig, changes: list[Change], fits: Callable[[DAPOConfig], bool]) -> str:
    """The first change that is enough, else the first few that are enough together."""
    for told, change in changes:
        if fits(_changed(config, [(told, change)])):
            return told
    for count in range(2, len(changes) + 1):
        if fits(_changed(config, changes[:count])):
            return " and ".join(told for told, _ in changes[:count])
    return "take a smaller model, or GPUs with more memory"


def _changed(config: DAPOConfig, changes: list[Change]) -> DAPOConfig:
    copy = config.copy(copy_frozen=False)
    for _, change in changes:
        change(copy)
    return copy


def _learner_changes(config: DAPOConfig, hardware: Hardware) -> list[Change]:
    """What makes a Learner smaller, the cheapest in time first."""
    longest = config.max_prompt_tokens + config.max_response_tokens
    changes: list[Change] = []
    if config.logprob_chunk_tokens > CHUNK_TOKENS:
        changes.append(
            (
                f"set language_model.logprob_chunk_tokens to {CHUNK_TOKENS}",
                lambda c: setattr(c, "logprob_chunk_tokens", CHUNK_TOKENS),
            )
        )
    if config.max_tokens_per_microbatch > longest:
        changes.append(
            (
                f"set training.max_tokens_per_microbatch to {longest}",
                lambda c: setattr(c, "max_tokens_per_microbatch", longest),
            )
        )
    if not config.gradient_checkpointing:
        changes.append(
            (
                "set language_model.gradient_checkpointing to true",
                lambda c: setattr(c, "gradient_checkpointing", True),
            )
        )
    if _can_take_turns(config):
        changes.append(("set rollout.colocate to true", lambda c: setattr(c, "colocate", True)))
    if config.num_gpus_per_learner and not config.takes_turns:
        changes += _sharding_changes(config)
    if config.lora is None and config.num_gpus_per_learner and not config.freeze_fraction:
        told = f"set language_model.lora to {{rank: {LORA_RANK}}}"
        changes.append((told, lambda c: setattr(c, "lora", {"rank": LORA_RANK})))
    return changes


def _can_take_turns(config: DAPOConfig) -> bool:
    """Whether Learners and engines share GPUs, side by side so far."""
    copy = config.copy(copy_frozen=False)
    copy.colocate = True
    return (
        not config.takes_turns
        and bool(config.num_gpus_per_learner)
        and not any(check_colocation(copy))
    )


def _sharding_changes(config: DAPOConfig) -> list[Change]:
    """ZeRO-3 on these Learners, on more of them, or with the optimizer in main memory."""
    stage3 = {"zero_optimization": {"stage": 3}}
    told = "deepspeed.config to {zero_optimization: {stage: 3}}"
    count = max(1, config.num_learners)
    changes: list[Change] = []
    if count > 1:
        changes.append((f"set {told}", lambda c: setattr(c, "deepspeed_config", stage3)))

    def on(learners: int) -> Callable[[DAPOConfig], Any]:
        def change(changed: DAPOConfig) -> None:
            changed.num_learners = learners
            changed.deepspeed_config = stage3

        return change

    more = count * 2
    while more <= MOST_LEARNERS:
        changes.append((f"set learners.num_learners to {more} and {told}", on(more)))
        more *= 2
    return changes


def _engine_findings(plan: RunPlan, config: DAPOConfig) -> Iterator[str]:
    if plan.engine_fits:
        return
    longest = config.max_prompt_tokens + config.max_response_tokens
    told = (
        f"an engine has {_gib(max(0.0, plan.engine.cache))} GiB left for keys and values, too few "
        f"for one sequence of {longest} tokens"
    )
    if not plan.engines.gpus:
        need = WIDTH[plan.engines.dtype] * plan.shape.kv_elements(longest) / GIB
        yield (
            f"{told}: rollout.cpu_kv_cache_gib={config.cpu_kv_cache_gib:g} must be at least "
            f"{need:.2g}"
        )
        return
    yield f"{told}: {_engine_way_out(plan, config, plan.shape)}"


def _engine_way_out(plan: RunPlan, config: DAPOConfig, shape: ModelShape) -> str:
    degree = plan.engines.tensor_parallel * 2
    # In turns an engine and a Learner have one GPU.
    while degree <= MOST_GPUS_AN_ENGINE and plan.at_rest is None:
        copy = config.copy(copy_frozen=False)
        copy.engine_kwargs = {**config.engine_kwargs, "tensor_parallel_size": degree}
        copy.num_gpus_per_env_runner = degree
        if make_plan(copy, shape, plan.hardware).engine_fits:
            return f"set rollout.tensor_parallel_size to {degree}"
        degree *= 2
    if plan.engine.cached_tokens > config.max_prompt_tokens:
        most = int(plan.engine.cached_tokens - config.max_prompt_tokens)
        return f"lower rollout.max_response_tokens={config.max_response_tokens} to {most}"
    return "take a smaller model, or GPUs with more memory"


def _main_memory_findings(plan: RunPlan, config: DAPOConfig) -> Iterator[str]:
    room = plan.hardware.memory_per_node
    if plan.main_memory_fits or room is None:
        return
    if not plan.learners.gpus and not plan.learner_fits:
        return  # told already
    way_out = "take a smaller model, or machines with more memory"
    if plan.learners.gpus and plan.learners.stage < 3:
        way_out = (
            "each Learner of a machine reads the whole model in float32: set deepspeed.config to "
            "{zero_optimization: {stage: 3}}, or spread the Learners over more machines"
        )
    elif not plan.engines.gpus and plan.engine.cache > 2 * GIB:
        way_out = f"lower rollout.cpu_kv_cache_gib={config.cpu_kv_cache_gib:g}"
    yield (
        f"a machine needs {_gib(plan.main_memory)} of its {_gib(room)} GiB of main memory: "
        f"{way_out}"
    )


def _gib(size: float) -> str:
    return f"{size / GIB:.1f}" if size < 100 * GIB else f"{size / GIB:.0f}"
