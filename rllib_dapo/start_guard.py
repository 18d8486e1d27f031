"""The guard at the start: do engine and Learner give the same probabilities, and if not, why?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rllib_dapo.learner.logprob_gap import GapReport

if TYPE_CHECKING:
    from rllib_dapo.config.dapo_config import DAPOConfig

# A gap that an assumption explains must shrink to this share of itself under it.
EXPLAINED = 0.5
CHANGES_SAMPLING = (
    "top_k",
    "top_p",
    "min_p",
    "repetition_penalty",
    "presence_penalty",
    "frequency_penalty",
)


def describe_gap(
    report: GapReport, config: DAPOConfig, *, prompt_ids: list[int], bos_token_id: int | None
) -> str:
    """One line: how large the gap is and what it probably comes from.

    Args:
        report: As the Learners measured it.
        config: The algorithm's configuration.
        prompt_ids: A prompt as it was sent to the engine.
        bos_token_id: The model's beginning-of-sequence token.
    """
    return (
        f"engine and Learner differ by {report.mean:.3g} nats per token in the mean and {report.largest:.3g} at most, "
        f"over {report.tokens} tokens sampled with the same weights; probable cause: "
        f"{_cause(report, config, prompt_ids, bos_token_id)}"
    )


def _cause(
    report: GapReport, config: DAPOConfig, prompt_ids: list[int], bos_token_id: int | None
) -> str:
    limit = EXPLAINED * report.mean
    changed = [name for name in CHANGES_SAMPLING if name in config.engine_kwargs]
    if config.temperature != 1.0 and report.at_temperature_one < limit:
        return (
            f"raw log-probabilities: the engine reports them as before rollout.temperature={config.temperature}; take "
            "logprobs_mode out of rollout.engine_kwargs"
        )
    if config.top_p < 1.0 or changed:
        names = ", ".join([f"rollout.top_p={config.top_p}"] * (config.top_p < 1.0) + changed)
        return f"the engine samples from another distribution than the policy ({names}): train at top_p 1 without them"
    if bos_token_id is not None and list(prompt_ids[:2]) == [bos_token_id] * 2:
        return (
            f"a doubled beginning-of-sequence token (id {bos_token_id}) in front of the prompt: the chat template and "
            "the tokenizer both write one"
        )
    if report.in_float32 is not None and report.in_float32 < limit:
        return f"language_model.dtype={config.model_dtype}: in float32 the gap would be {report.in_float32:.3g}"
    if "quantization" in config.engine_kwargs or "kv_cache_dtype" in config.engine_kwargs:
        return "the engine is quantised (rollout.engine_kwargs) and the Learner is not"
    return (
        "weights: the engine's are not the Learner's (an update that did not arrive, or a model that vLLM and "
        "transformers compute differently)"
    )
