"""AdamW with one learning rate for the policy and one for the critic.

The value head has a group of parameters of its own. It begins with zeros, and AdamW moves a weight
by about the learning rate in a step, whatever the size of its gradient: at a rate that a language
model bears, a head of zeros would stay one.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from torch.optim import AdamW, Optimizer

from rllib_dapo.learner.schedule import LearningRates

if TYPE_CHECKING:
    from torch import Tensor

    from rllib_dapo.config.dapo_config import DAPOConfig
    from rllib_dapo.learner.module import CausalLMModule

# A key of the critic's group. Groups are told apart by it and not by their place, since DeepSpeed
# shows its optimizer one group at a time.
IS_CRITIC = "is_critic"


def parameter_groups(module: CausalLMModule) -> list[dict[str, Any]]:
    """What is trained: the policy's parameters, and in a second group the value head's, if any.

    Args:
        module: Module on a Learner, without DDP's wrapper.
    """
    heads = [] if module.value_head is None else list(module.value_head.parameters())
    own = {id(p) for p in heads}
    policy = [p for p in module.parameters() if p.requires_grad and id(p) not in own]

    groups: list[dict[str, Any]] = [{"params": policy}]
    return [*groups, {"params": heads, IS_CRITIC: True}] if heads else groups


def make_optimizer(groups: list[dict[str, Any]], config: DAPOConfig) -> Optimizer:
    """AdamW with the numbers of `config.training`; its rates are set before each step.

    DeepSpeed makes its own (`deepspeed_cpu_adamw`), and asks for none of this one's steps.

    Args:
        groups: Groups of `parameter_groups`.
        config: The algorithm's configuration.
    """
    numbers: dict[str, Any] = {
        "lr": config.lr,
        "betas": (config.adam_betas[0], config.adam_betas[1]),
        "eps": config.adam_epsilon,
        "weight_decay": config.weight_decay,
    }
    if config.optimizer_name == "adamw_8bit":
        from bitsandbytes.optim import AdamW8bit

        return AdamW8bit(groups, **numbers)
    return AdamW(groups, **numbers, fused=True)


def set_learning_rates(optimizer: Optimizer, rates: LearningRates) -> None:
    """Gives each group of an optimizer its rate.

    Args:
        optimizer: Optimizer of `parameter_groups`, or DeepSpeed's own of the same groups.
        rates: The rates of the next step.
    """
    for group in optimizer.param_groups:
        group["lr"] = rates.critic if group.get(IS_CRITIC) else rates.policy


@contextmanager
def critic_steps_alone(optimizer: Optimizer) -> Iterator[None]:
    """For as long as it lasts, the optimizer's steps leave the policy as it is.

    AdamW leaves a parameter without a gradient alone: it neither decays, nor do its moments change,
    nor is the step counted for it. A gradient of zero or a rate of zero would not do all of that.

    Args:
        optimizer: The optimizer that takes the steps. DeepSpeed gives it its own flat parameters,
            and their gradients just before each step, so they are taken away only then.
    """
    taken: list[tuple[Tensor, Tensor]] = []

    def take_gradients(optimizer: Optimizer, *_: Any) -> None:
        for group in optimizer.param_groups:
            if not group.get(IS_CRITIC):
                taken.extend((p, p.grad) for p in group["params"] if p.grad is not None)
        for parameter, _gradient in taken:
            parameter.grad = None

    def give_back(*_: Any) -> None:
        # Offloaded gradients lie in buffers that are to be used again.
        for parameter, gradient in taken:
            parameter.grad = gradient
        taken.clear()

    hooks = (
        optimizer.register_step_pre_hook(take_gradients),
        optimizer.register_step_post_hook(give_back),
    )
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def in_groups(state: dict[str, Any], optimizer: Optimizer) -> dict[str, Any]:
    """An optimizer's state, of a time when all parameters were in one group, in today's groups.

    Parameters are numbered through all groups in the same order as then, so only the groups differ.

    Args:
        state: `Optimizer.state_dict()`, old or new.
        optimizer: The optimizer that is to load it.
    """
    groups, own = state["param_groups"], optimizer.state_dict()["param_groups"]
    if len(groups) != 1 or len(own) == 1:
        return state

    (whole,) = groups
    if sum(len(group["params"]) for group in own) != len(whole["params"]):
        return state  # of another model: torch says so

    return state | {
        "param_groups": [
            whole | {key: group[key] for key in ("params", IS_CRITIC) if key in group}
            for group in own
        ]
    }
