"""`language_model.lora`: what it takes, and what is refused in one line."""

from __future__ import annotations

import math
from typing import Any

import pytest

from rllib_dapo import DAPOConfig
from rllib_dapo.config.lora_checks import lora_settings
from rllib_dapo.config.weight_checks import transfer_way


def config(lora: Any, **model: Any) -> DAPOConfig:
    return (
        DAPOConfig()
        .environment("rllib_dapo/Arithmetic-v0")
        .language_model("tiny", lora=lora, **model)
        .training(prompts_per_step=4, group_size=4, minibatch_size=16)
    )


def refusal(wrong: DAPOConfig) -> str:
    with pytest.raises(ValueError, match=r"language_model\.lora") as error:
        wrong.validate()
    (line,) = str(error.value).splitlines()
    return line


def test_a_rank_is_enough_and_the_rest_has_its_defaults() -> None:
    right = config({"rank": 8})
    right.validate()
    settings = lora_settings(right)
    assert settings is not None
    assert (settings.alpha, settings.target_modules, settings.scaling) == (32, "all-linear", 4)
    assert lora_settings(config(None)) is None


def test_the_scaling_is_what_peft_computes() -> None:
    from peft import LoraConfig, inject_adapter_in_model
    from torch import nn

    for rslora, expected in ((False, 24 / 9), (True, 24 / 3)):
        settings = lora_settings(config({"rank": 9, "alpha": 24, "rslora": rslora}))
        assert settings is not None
        model = nn.Sequential(nn.Linear(4, 4))
        peft = LoraConfig(r=9, lora_alpha=24, use_rslora=rslora, target_modules=["0"])
        inject_adapter_in_model(peft, model)
        assert settings.scaling == model[0].scaling["default"]
        assert math.isclose(settings.scaling, expected)


@pytest.mark.parametrize(
    ("rank", "room"), [(1, 1), (2, 8), (8, 8), (9, 16), (65, 128), (300, 320), (512, 512)]
)
def test_vllm_makes_room_for_the_next_rank_that_it_knows(rank: int, room: int) -> None:
    settings = lora_settings(config({"rank": rank}))
    assert settings is not None
    assert settings.engine_rank == room


@pytest.mark.parametrize(
    ("lora", "told"),
    [
        ({}, "language_model.lora.rank=None must be a whole number from 1 to 512"),
        ({"rank": 0}, "language_model.lora.rank=0"),
        ({"rank": True}, "language_model.lora.rank=True"),
        ({"rank": 1000}, "language_model.lora.rank=1000"),
        ({"rank": 8, "alpha": -1}, "language_model.lora.alpha=-1 must be a positive number"),
        ({"rank": 8, "alpha": float("nan")}, "language_model.lora.alpha=nan"),
        ({"rank": 8, "rslora": 1}, "language_model.lora.rslora=1 must be true or false"),
        ({"rank": 8, "dropout": 0.1}, "language_model.lora.dropout is not a setting"),
        ({"rank": 8, "r": 8}, "language_model.lora.r is not a setting: it has rank, alpha"),
        ({"rank": 8, "target_modules": "q_proj"}, "must be all-linear, or a list of names"),
        ({"rank": 8, "target_modules": []}, "must be all-linear, or a list of names"),
    ],
    ids=str,
)
def test_wrong_values_and_unknown_keys_are_refused(lora: dict[str, Any], told: str) -> None:
    assert told in refusal(config(lora))


def test_what_contradicts_an_adapter_is_refused() -> None:
    lora = {"rank": 8}
    assert "freeze_fraction=0.5" in refusal(config(lora, freeze_fraction=0.5))
    assert "is for whole weights" in refusal(config(lora).weights(transfer="gloo"))
    for name in ("quantization", "enable_lora"):
        assert f"engine_kwargs.{name}" in refusal(config(lora).rollout(engine_kwargs={name: True}))
    # Not without the setting, either: requests would not ask for such an adapter.
    line = refusal(config(None).rollout(engine_kwargs={"max_lora_rank": 8}))
    assert "is set by language_model.lora" in line


def test_an_adapter_always_goes_through_the_object_store() -> None:
    gpus = {"num_gpus_per_env_runner": 1}, {"num_gpus_per_learner": 1}
    whole, adapter = (
        config(lora).env_runners(num_env_runners=1, **gpus[0]).learners(**gpus[1])
        for lora in (None, {"rank": 8})
    )
    assert (transfer_way(whole), transfer_way(adapter)) == ("nccl", "object_store")
