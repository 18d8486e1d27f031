"""A user's DeepSpeed settings and DAPO's own made into one, or refused, without DeepSpeed."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rllib_dapo import DAPOConfig
from rllib_dapo.learner.deepspeed_config import (
    frozen_config,
    resolve_deepspeed_config,
    zero_stage,
)


@pytest.fixture
def resolve(learner_config: Callable[..., DAPOConfig]) -> Callable[..., dict[str, Any]]:
    """Settings for two Learners, in bfloat16 unless said otherwise."""

    def of(settings: Any, *, dtype: str = "bfloat16", **training: Any) -> dict[str, Any]:
        config = (
            learner_config()
            .language_model(dtype=dtype)
            .learners(num_learners=2)
            .training(lr=1e-6, **training)
        )
        return resolve_deepspeed_config(config.deepspeed(settings))

    return of


def at_stage(stage: int, **sections: Any) -> dict[str, Any]:
    return {"zero_optimization": {"stage": stage}} | sections


Resolve = Callable[..., dict[str, Any]]


# What is filled in


@pytest.mark.parametrize("left_open", ["absent", "auto"])
@pytest.mark.parametrize("stage", [1, 2, 3])
def test_what_is_left_open_is_filled_in(resolve: Resolve, stage: int, left_open: str) -> None:
    settings = at_stage(stage)
    if left_open == "auto":
        names = (
            "train_micro_batch_size_per_gpu",
            "gradient_accumulation_steps",
            "train_batch_size",
        )
        settings |= dict.fromkeys(
            (*names, "gradient_clipping", "managed_gradient_accumulation"), "auto"
        )
        settings |= {"bf16": {"enabled": "auto"}, "data_types": {"grad_accum_dtype": "auto"}}

    assert resolve(settings, grad_clip=0.5) == {
        "zero_optimization": {"stage": stage},
        "train_micro_batch_size_per_gpu": 1,
        "gradient_accumulation_steps": 1,
        "train_batch_size": 2,
        "gradient_clipping": 0.5,
        "managed_gradient_accumulation": False,
        "bf16": {"enabled": True},
        "data_types": {"grad_accum_dtype": "fp32"},
        "steps_per_print": 2**62,
    }


def test_without_zero_the_learner_clips_and_autocast_computes(resolve: Resolve) -> None:
    """DeepSpeed's bfloat16 and its clipping are off, and steps need not be marked."""
    assert resolve({}) == {
        "train_micro_batch_size_per_gpu": 1,
        "gradient_accumulation_steps": 1,
        "train_batch_size": 2,
        "gradient_clipping": 0.0,
        "bf16": {"enabled": False},
        "steps_per_print": 2**62,
    }


def test_one_learner_in_this_process_counts_as_one(
    learner_config: Callable[..., DAPOConfig],
) -> None:
    assert resolve_deepspeed_config(learner_config().deepspeed({}))["train_batch_size"] == 1


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_wider_types_than_bfloat16_compute_as_they_are(resolve: Resolve, dtype: str) -> None:
    settings = resolve(at_stage(2), dtype=dtype)
    assert settings["bf16"] == {"enabled": False}
    assert "data_types" not in settings


def test_no_limit_on_the_gradient_is_none_for_deepspeed_too(resolve: Resolve) -> None:
    assert resolve(at_stage(2), grad_clip=None)["gradient_clipping"] == 0.0


def test_what_agrees_is_left_as_it_is(resolve: Resolve) -> None:
    settings = at_stage(
        2,
        train_batch_size=2,
        gradient_clipping=1.0,
        bf16={"enabled": True},
        data_types={"grad_accum_dtype": "bf16"},
        steps_per_print=7,
        wall_clock_breakdown=True,
    )
    assert settings.items() <= resolve(settings).items()


@pytest.mark.parametrize("section", ["fp16", "amp", "torch_autocast", "data_efficiency"])
@pytest.mark.parametrize("value", [{"enabled": False}, {"enabled": "auto"}])
def test_sections_that_are_switched_off_or_left_open_are_no_contradiction(
    resolve: Resolve, section: str, value: dict[str, Any]
) -> None:
    assert resolve(at_stage(2) | {section: value}) == resolve(at_stage(2))


@pytest.mark.parametrize("kind", ["Adam", "AdamW"])
def test_deepspeeds_own_adam_gets_our_numbers(resolve: Resolve, kind: str) -> None:
    settings = at_stage(
        2, optimizer={"type": kind, "params": {"lr": "auto", "betas": (0.9, 0.999), "fused": True}}
    )
    assert resolve(settings)["optimizer"] == {
        "type": "AdamW",
        "params": {
            "lr": 1e-6,
            "betas": [0.9, 0.999],
            "eps": 1e-8,
            "weight_decay": 0.1,
            "fused": True,
        },
    }


def test_offloading_without_an_optimizer_section_keeps_torchs_optimizer(resolve: Resolve) -> None:
    offloading = {"zero_optimization": {"stage": 2, "offload_optimizer": {"device": "cpu"}}}
    assert resolve(offloading)["zero_force_ds_cpu_optimizer"] is False
    assert (
        resolve(offloading | {"zero_force_ds_cpu_optimizer": True})["zero_force_ds_cpu_optimizer"]
        is True
    )
    assert "zero_force_ds_cpu_optimizer" not in resolve(
        offloading | {"optimizer": {"type": "AdamW"}}
    )


@pytest.mark.parametrize("offload", [None, {"device": "nvme", "nvme_path": "/disk"}])
def test_deepspeeds_cpu_adamw_is_asked_for_by_name(
    resolve: Resolve, offload: dict[str, str] | None
) -> None:
    """It gets our numbers, and offloads to main memory where nothing else is said."""
    given = {} if offload is None else {"offload_optimizer": offload}
    settings = {"zero_optimization": {"stage": 2, **given}}
    found = resolve(settings, optimizer="deepspeed_cpu_adamw")
    assert found["zero_optimization"]["offload_optimizer"] == (offload or {"device": "cpu"})
    assert found["optimizer"]["type"] == "AdamW"
    assert found["optimizer"]["params"]["lr"] == 1e-6


def test_8_bit_adamw_is_let_through(resolve: Resolve) -> None:
    found = resolve(at_stage(2), optimizer="adamw_8bit")
    assert found == resolve(at_stage(2)) | {"zero_allow_untested_optimizer": True}


def test_what_no_optimizer_moves_has_no_settings_of_one(resolve: Resolve) -> None:
    found = resolve(at_stage(3), optimizer="deepspeed_cpu_adamw")
    assert frozen_config(found) == resolve(at_stage(3))
    assert "offload_optimizer" in found["zero_optimization"]


def test_the_settings_that_were_given_stay_as_they_are(resolve: Resolve) -> None:
    settings = at_stage(
        2, optimizer={"type": "Adam", "params": {"lr": "auto"}}, bf16={"enabled": "auto"}
    )
    before = copy.deepcopy(settings)
    assert resolve(settings) != before
    assert settings == before


def test_settings_may_lie_in_a_file(
    resolve: Resolve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "zero.json").write_text(json.dumps(at_stage(3)))
    monkeypatch.setenv("HOME", str(tmp_path))
    assert resolve(str(tmp_path / "zero.json")) == resolve("~/zero.json") == resolve(at_stage(3))


@pytest.mark.parametrize(
    ("settings", "stage"), [({}, 0), ({"zero_optimization": {}}, 0), (at_stage(3), 3)]
)
def test_the_stage_is_zero_where_nothing_is_said(settings: dict[str, Any], stage: int) -> None:
    assert zero_stage(settings) == stage


# What is refused


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (
            {"train_batch_size": 64},
            "train_batch_size=64 contradicts training.minibatch_size, which makes an optimizer "
            'step: set it to "auto" or 2',
        ),
        (
            {"gradient_accumulation_steps": 4},
            "gradient_accumulation_steps=4 contradicts training.minibatch_size, which makes an "
            'optimizer step: set it to "auto" or 1',
        ),
        (
            {"train_micro_batch_size_per_gpu": 8},
            "train_micro_batch_size_per_gpu=8 contradicts training.max_tokens_per_microbatch, "
            'which bounds a micro-batch: set it to "auto" or 1',
        ),
        (
            {"gradient_clipping": 0.3},
            'gradient_clipping=0.3 contradicts training.grad_clip=1.0: set it to "auto" or 1.0',
        ),
        (
            at_stage(2, managed_gradient_accumulation=True),
            "managed_gradient_accumulation=True contradicts the Learner, which says when a step is "
            'due: set it to "auto" or False',
        ),
        (
            at_stage(0, bf16={"enabled": True}),
            "bf16.enabled=true contradicts language_model.dtype=bfloat16 at ZeRO stage 0: "
            "use stage 1 or higher",
        ),
        (
            at_stage(2, bf16={"enabled": False}),
            "bf16.enabled=false contradicts language_model.dtype=bfloat16 at ZeRO stage 2: "
            'set it to "auto", or change the dtype',
        ),
        (at_stage(4), "zero_optimization.stage=4 must be 0, 1, 2 or 3"),
        (at_stage(-1), "zero_optimization.stage=-1 must be 0, 1, 2 or 3"),
        (
            at_stage(2, optimizer={"type": "Lamb"}),
            "optimizer.type='Lamb' must be one of Adam, AdamW, or leave the section out",
        ),
        (
            at_stage(2, optimizer={}),
            "optimizer.type=None must be one of Adam, AdamW, or leave the section out",
        ),
        (
            at_stage(2, optimizer={"type": "AdamW", "params": {"lr": 1e-4}}),
            'optimizer.params.lr=0.0001 contradicts training.lr=1e-06: set it to "auto"',
        ),
        (
            at_stage(2, optimizer={"type": "AdamW", "params": {"betas": [0.9, 0.95]}}),
            "optimizer.params.betas=[0.9, 0.95] contradicts training.adam_betas=[0.9, 0.999]: "
            'set it to "auto"',
        ),
        (
            at_stage(2, optimizer={"type": "AdamW", "params": {"eps": 1e-6}}),
            'optimizer.params.eps=1e-06 contradicts training.adam_epsilon=1e-08: set it to "auto"',
        ),
        (
            at_stage(2, optimizer={"type": "AdamW", "params": {"weight_decay": 0.0}}),
            "optimizer.params.weight_decay=0.0 contradicts training.weight_decay=0.1: "
            'set it to "auto"',
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_contradiction_is_refused_in_one_line_with_both_names(
    resolve: Resolve, settings: dict[str, Any], said: str
) -> None:
    with pytest.raises(ValueError, match=r"^deepspeed\.config: ") as caught:
        resolve(settings)
    assert str(caught.value) == f"deepspeed.config: {said}"


@pytest.mark.parametrize(
    ("name", "settings", "said"),
    [
        (
            "deepspeed_cpu_adamw",
            {},
            "zero_optimization.stage=0 offloads nothing, but training.optimizer="
            "deepspeed_cpu_adamw works in main memory: use stage 1 or higher, or set the optimizer "
            "to adamw",
        ),
        (
            "adamw_8bit",
            at_stage(2, optimizer={"type": "AdamW"}),
            "optimizer is set, but training.optimizer=adamw_8bit says that here: take optimizer "
            "out, or set training.optimizer to adamw",
        ),
    ],
)
def test_another_optimizer_than_the_one_that_is_set_is_refused(
    resolve: Resolve, name: str, settings: dict[str, Any], said: str
) -> None:
    with pytest.raises(ValueError, match=r"^deepspeed\.config: ") as caught:
        resolve(settings, optimizer=name)
    assert str(caught.value) == f"deepspeed.config: {said}"


def test_bfloat16_of_deepspeed_contradicts_a_float32_model(resolve: Resolve) -> None:
    with pytest.raises(
        ValueError,
        match=r"bf16\.enabled=true contradicts language_model\.dtype=float32 at ZeRO stage 2",
    ):
        resolve(at_stage(2, bf16={"enabled": True}), dtype="float32")


@pytest.mark.parametrize(
    ("section", "value", "instead"),
    [
        (
            "scheduler",
            {"type": "WarmupLR", "params": {}},
            "training.lr_schedule and training.warmup_steps",
        ),
        ("scheduler", {}, "training.lr_schedule and training.warmup_steps"),
        ("fp16", {"enabled": True}, r"language_model.dtype \(float32 or bfloat16\)"),
        ("fp16", True, r"language_model.dtype \(float32 or bfloat16\)"),
        ("amp", {"enabled": True}, "language_model.dtype"),
        ("torch_autocast", {"enabled": True, "dtype": "bfloat16"}, "language_model.dtype"),
        ("data_efficiency", {"enabled": True}, "training.minibatch_size"),
        (
            "activation_checkpointing",
            {"partition_activations": True},
            "language_model.gradient_checkpointing",
        ),
    ],
)
def test_a_section_for_what_is_set_elsewhere_is_refused_by_name(
    resolve: Resolve, section: str, value: Any, instead: str
) -> None:
    with pytest.raises(
        ValueError,
        match=rf"^deepspeed.config: {section} is set, but {instead} .*take {section} out$",
    ):
        resolve(at_stage(2) | {section: value})


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "cannot be read: No such file or directory"),
        ("{stage: 2}", "is not JSON: Expecting property name enclosed in double quotes"),
        ("[]", "must hold a JSON object"),
    ],
)
def test_a_file_without_settings_is_named(
    resolve: Resolve, tmp_path: Path, content: str | None, said: str
) -> None:
    file = tmp_path / "zero.json"
    if content is not None:
        file.write_text(content)
    with pytest.raises(ValueError, match=rf"^deepspeed\.config='{file}' {said}"):
        resolve(str(file))
