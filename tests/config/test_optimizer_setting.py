"""`training.optimizer`: what each kind needs, told in one line before anything starts."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import pytest

from rllib_dapo import DAPOConfig
from rllib_dapo.config.value_checks import check_settings

NEEDS_DEEPSPEED = pytest.mark.skipif(
    find_spec("deepspeed") is None, reason="DeepSpeed is not installed"
)
ZERO2 = {"zero_optimization": {"stage": 2}}


def findings(name: Any, **settings: Any) -> list[str]:
    config = DAPOConfig().environment("rllib_dapo/Arithmetic-v0").language_model("tiny")
    config.training(optimizer=name)
    return list(check_settings(config.update_from_dict(settings)))


@pytest.mark.parametrize(
    ("name", "settings", "said"),
    [
        ("adamw_4bit", {}, "adamw, adamw_8bit, deepspeed_cpu_adamw"),
        ("deepspeed_cpu_adamw", {}, "set deepspeed.config, such as {zero_optimization: {stage: 2}"),
        (
            "adamw_8bit",
            {"model_dtype": "float64"},
            "set language_model.dtype=float64 to float32 or bfloat16, or the optimizer to adamw",
        ),
        pytest.param(
            "adamw_8bit",
            {},
            "which is not installed: pip install -e '.[adamw-8bit]' in a checkout",
            marks=pytest.mark.skipif(
                find_spec("bitsandbytes") is not None, reason="bitsandbytes is installed"
            ),
        ),
    ],
)
def test_what_an_optimizer_lacks_is_told_with_the_way_out(
    name: str, settings: dict[str, Any], said: str
) -> None:
    found = [line for line in findings(name, **settings) if said in line]
    assert len(found) == 1
    assert found[0].startswith("training.optimizer=")
    assert "\n" not in found[0]


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("adamw", {}),
        pytest.param("deepspeed_cpu_adamw", {"deepspeed_config": ZERO2}, marks=NEEDS_DEEPSPEED),
        pytest.param(
            "adamw_8bit",
            {},
            marks=pytest.mark.skipif(
                find_spec("bitsandbytes") is None, reason="bitsandbytes is not installed"
            ),
        ),
    ],
)
def test_an_optimizer_that_has_what_it_needs_is_let_through(
    name: str, settings: dict[str, Any]
) -> None:
    assert findings(name, **settings) == []


def test_rllibs_own_dictionary_of_this_name_is_refused() -> None:
    (found,) = findings("adamw", optimizer={"lr": 1.0})
    assert found.startswith("training.optimizer={'lr': 1.0} must be one of adamw, ")
