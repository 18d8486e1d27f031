"""One architecture end to end: hand-over, shared rows, save, restore, export."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from architecture_engines import (
    EngineProcess,
    in_process_engine,
    load,
    prompts,
    refusal,
    sample,
    sent_weights,
)
from architectures import (
    PROMPT_TOKENS,
    RESPONSE_TOKENS,
    change,
    config_of,
    learner_module,
    make_model,
)

from rllib_dapo.start_guard import AUTO_LIMITS

LIMIT = 1e-5


@dataclass(kw_only=True, slots=True)
class Row:
    """What came out for one architecture.

    Attributes:
        name: Name of the architecture.
        results: Column to what came out: a gap in nats, `"equal"`, or a line that says why not.
        notes: What was done in a slower way.
    """

    name: str
    results: dict[str, str | float] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def is_right_or_refused(self) -> bool:
        """Whether each result is right, or one line that refuses it."""
        return all(
            value <= LIMIT if isinstance(value, float) else "\n" not in value
            for value in self.results.values()
        )


def try_architecture(name: str, *, engine: EngineProcess, folder: Path) -> Row:
    """Runs an architecture through hand-over, shared rows, save, restore and export.

    Args:
        name: Key of `ARCHITECTURES`.
        engine: Process with vLLM.
        folder: Empty folder to work in.
    """
    from rllib_dapo.checkpoint.export import export_checkpoint
    from rllib_dapo.learner.model_folder import MODULE_PATH
    from rllib_dapo.model_check.check_model import check_folder
    from rllib_dapo.model_check.sizes import Lengths

    row = Row(name=name)
    try:
        source = make_model(name, folder / "model")
        module = learner_module(source)
    except Exception as error:
        row.results["trains"] = refusal(error)
        return row

    report = check_folder(
        config_of(source),
        lengths=Lengths(max_prompt_tokens=PROMPT_TOKENS, max_response_tokens=RESPONSE_TOKENS),
    )
    row.notes += [f"{f.check}: {f.detail}" for f in report.findings if f.verdict == "slower"]
    if report.refusals:
        row.results["trains"] = f"refused: {report.refusals[0].detail}"
        return row
    row.results["trains"] = "yes"

    # An engine that has started under other weights gets these.
    opened = engine.ask("open", str(source))
    if isinstance(opened, str):
        row.results["vLLM, same weights"] = row.results["vLLM, changed weights"] = opened
    else:
        row.results["vLLM, same weights"] = hand_over_gap(engine, module)
    change(module)
    if not isinstance(opened, str):
        row.results["vLLM, changed weights"] = hand_over_gap(engine, module)
        engine.ask("close")
    row.results["transformers engine"] = own_engine_gap(source, module)

    row.results["shared rows"] = shared_rows_gap(module)

    checkpoint = folder / "checkpoint"
    module.save_to_path(checkpoint / MODULE_PATH)
    restored = learner_module(source)
    restored.restore_from_path(checkpoint / MODULE_PATH)
    row.results["restored"] = differences(module, restored)

    exported = export_checkpoint(checkpoint, folder / "exported")
    row.results["exported, transformers"] = exported_gap(exported, module)
    if not isinstance(opened, str):
        reopened = engine.ask("open", str(exported))
        row.results["exported, vLLM"] = (
            reopened if isinstance(reopened, str) else sampled_gap(engine, module)
        )
        engine.ask("close")
    else:
        row.results["exported, vLLM"] = opened
    return row


# What is compared


def hand_over_gap(engine: EngineProcess, module: Any) -> float | str:
    """Gives an engine the module's weights, and compares what it samples."""
    answer = engine.ask("load", sent_weights(module))
    return answer if isinstance(answer, str) else sampled_gap(engine, module)


def sampled_gap(engine: EngineProcess, module: Any) -> float | str:
    """Largest difference between an engine's log-probabilities and the module's."""
    answer = engine.ask("sample", prompts())
    return answer if isinstance(answer, str) else largest_gap(answer, module)


def own_engine_gap(model: Path, module: Any) -> float | str:
    """The same with transformers' own `generate`."""
    try:
        with in_process_engine("transformers", model) as engine:
            load(engine, sent_weights(module))
            return largest_gap(sample(engine, prompts()), module)
    except Exception as error:
        return refusal(error)


@torch.no_grad()
def largest_gap(samples: Sequence[Sequence[tuple]], module: Any) -> float | str:
    """Largest difference between sampled log-probabilities and the module's, in nats.

    Where the mean is over the limit of the guard at the start, a run would have been refused.
    """
    gaps = [
        (module_logprobs(module, prompt, [tokens])[0] - torch.as_tensor(logprobs)).abs()
        for prompt, group in zip(prompts(), samples, strict=True)
        for tokens, logprobs in group
    ]
    mean = float(torch.cat(gaps).mean())
    if mean > AUTO_LIMITS["float32"]:
        return f"refused: engine and Learner differ by {mean:.1g} nats per token"
    return float(torch.cat(gaps).max())


@torch.no_grad()
def shared_rows_gap(module: Any) -> float | str:
    """Responses that share a row with others, against rows of their own."""
    from rllib_dapo.model_check.computation import SHARED_ROWS, check_computation

    rng = np.random.default_rng(3)
    prompt = rng.integers(3, 100, PROMPT_TOKENS).tolist()
    responses = [rng.integers(3, 100, RESPONSE_TOKENS).tolist() for _ in range(3)]
    (found,) = [
        f
        for f in check_computation(
            module, module.forward_train, device="cpu", longest=64, shares_rows=True
        )
        if f.check == SHARED_ROWS
    ]
    if found.verdict != "right":
        return f"separate rows: {found.detail.partition(':')[0]}"
    separate = module_logprobs(module, prompt, responses)
    shared = module_logprobs(module, prompt, responses, max_row_tokens=200)
    return max(float((a - b).abs().max()) for a, b in zip(separate, shared, strict=True))


def module_logprobs(
    module: Any, prompt: list[int], responses: Sequence[Sequence[int]], *, max_row_tokens: int = 0
) -> list[torch.Tensor]:
    """The module's log-probabilities of responses to a prompt, `[T]` each."""
    from rllib_dapo.core import PromptGroup, Response, TrainResponse, plan_minibatch
    from rllib_dapo.learner.training_data import plan_batches

    group = PromptGroup(
        seed=0,
        prompt="",
        prompt_ids=np.asarray(prompt, dtype=np.int32),
        responses=tuple(
            Response(
                token_ids=np.asarray(tokens, dtype=np.int32),
                loss_mask=np.ones(len(tokens), dtype=bool),
                logprobs=np.zeros(len(tokens), dtype=np.float32),
                finish_reason="stop",
                reward=0.0,
                is_correct=None,
                text="",
            )
            for tokens in responses
        ),
        weights_version=0,
    )
    (plan,) = plan_minibatch(
        [
            TrainResponse(
                group=0,
                index=index,
                prompt_tokens=len(prompt),
                response_tokens=len(tokens),
                loss_tokens=len(tokens),
                advantage=0.0,
                reward=0.0,
            )
            for index, tokens in enumerate(responses)
        ],
        loss_aggregation="token_mean",
        max_response_tokens=RESPONSE_TOKENS,
        max_tokens_per_microbatch=10_000,
        max_row_tokens=max_row_tokens,
        num_shards=1,
    )
    found = {}
    for planned in plan_batches(plan, {0: group}, pad_token_id=0, device="cpu"):
        batch = planned.tensors()
        output = module.forward_train(batch)["logprobs"]
        for index, logprobs, mask in zip(batch["indices"], output, batch["mask"], strict=True):
            found[int(index)] = logprobs[mask]
    return [found[index] for index in range(len(responses))]


def differences(module: Any, other: Any) -> str:
    """`"equal"`, or the first weight that is another."""
    theirs = other.lm.state_dict()
    for name, tensor in module.lm.state_dict().items():
        if not torch.equal(tensor, theirs[name]):
            return f"{name} differs"
    return "equal"


@torch.no_grad()
def exported_gap(folder: Path, module: Any) -> float | str:
    """Largest difference of log-probabilities of the exported model in plain transformers."""
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation=module.lm.config._attn_implementation
    )
    rng = np.random.default_rng(4)
    prompt = rng.integers(3, 100, PROMPT_TOKENS).tolist()
    response = rng.integers(3, 100, RESPONSE_TOKENS).tolist()

    logits = model(input_ids=torch.tensor([prompt + response]), use_cache=False).logits[0]
    theirs = logits[len(prompt) - 1 : -1].log_softmax(-1)
    theirs = theirs.gather(-1, torch.tensor(response)[:, None])[:, 0]
    return float((theirs - module_logprobs(module, prompt, [response])[0]).abs().max())
