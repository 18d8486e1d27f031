"""Text environments for language models: Gymnasium environments, data sets and answer rules.

Importing this package registers its environments with Gymnasium, under names that begin with
`rllib_dapo/`. It loads neither Ray nor torch, so that a process that only scores starts quickly.
"""

import gymnasium

from rllib_dapo.envs.base import Problem, SingleStepTextEnv, Verdict
from rllib_dapo.envs.rule_scored import RuleScoredEnv
from rllib_dapo.envs.spaces import TextSpace
from rllib_dapo.envs.splits import DatasetOrder
from rllib_dapo.envs.tools import ModelTurn, ToolCall
from rllib_dapo.envs.tools_env import ToolError, ToolsEnv, function_tool
from rllib_dapo.envs.turns import Turn, TurnsEnv
from rllib_dapo.envs.verify import ANSWER_RULES
from rllib_dapo.envs.verify.verifier_pool import PoolSettings, VerifierPool

__all__ = [
    "ANSWER_RULES",
    "DatasetOrder",
    "ModelTurn",
    "PoolSettings",
    "Problem",
    "RuleScoredEnv",
    "SingleStepTextEnv",
    "TextSpace",
    "ToolCall",
    "ToolError",
    "ToolsEnv",
    "Turn",
    "TurnsEnv",
    "Verdict",
    "VerifierPool",
    "function_tool",
    "register_environments",
]

_ENTRY_POINTS = {
    "rllib_dapo/Arithmetic-v0": "rllib_dapo.envs.arithmetic:ArithmeticEnv",
    "rllib_dapo/CalculatorMath-v0": "rllib_dapo.envs.calculator.env:CalculatorMathEnv",
    "rllib_dapo/Gem-v0": "rllib_dapo.envs.adapters.gem:GemEnv",
    "rllib_dapo/Math-v0": "rllib_dapo.envs.math:MathEnv",
    "rllib_dapo/McpTools-v0": "rllib_dapo.envs.mcp.mcp_tools:McpToolsEnv",
    "rllib_dapo/Mixture-v0": "rllib_dapo.envs.mixture_env:MixtureEnv",
    "rllib_dapo/Object-v0": "rllib_dapo.envs.adapters.object_env:ObjectEnv",
    "rllib_dapo/OpenEnv-v0": "rllib_dapo.envs.adapters.openenv:OpenEnvEnv",
    "rllib_dapo/ReasoningGym-v0": "rllib_dapo.envs.adapters.reasoning_gym:ReasoningGymEnv",
    "rllib_dapo/RewardFunction-v0": "rllib_dapo.envs.adapters.reward_function:RewardFunctionEnv",
    "rllib_dapo/SkyRLGym-v0": "rllib_dapo.envs.adapters.skyrl_gym:SkyRLGymEnv",
    "rllib_dapo/TextArena-v0": "rllib_dapo.envs.adapters.textarena:TextArenaEnv",
    "rllib_dapo/Verifiers-v0": "rllib_dapo.envs.adapters.verifiers:VerifiersEnv",
}


def register_environments() -> None:
    """Registers the environments of this package; doing so again changes nothing."""
    for name, entry_point in _ENTRY_POINTS.items():
        if name not in gymnasium.registry:
            # No wrappers: the environments enforce the order of reset and step themselves, and the
            # passive checker would look at every response of every rollout to say what the tests
            # have already said.
            gymnasium.register(name, entry_point, order_enforce=False, disable_env_checker=True)


register_environments()
