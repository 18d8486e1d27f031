"""A sequence-classification model as a source of rewards."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from rllib_dapo.envs.base import Problem, Verdict
from rllib_dapo.envs.env_settings import check_integer
from rllib_dapo.envs.messages import as_conversation, as_messages

_MAX_TOKENS = 512


def classifier_reward(
    setting: str, folder: Any, *, label: Any = None, max_tokens: Any = _MAX_TOKENS
) -> Callable[[Problem, str], Verdict]:
    """Returns a source of rewards that asks a model about prompt and response.

    A model with one output (a reward model) gives that output as it is; a model with several gives
    the probability of `label`. The two texts are read as a conversation if the model's tokenizer
    has a chat template, else as a pair. The model is loaded once per process, on the CPU, when the
    first response is judged.

    Args:
        setting: Name of the setting that holds the folder, for messages.
        folder: Folder from which transformers can load a sequence-classification model and its
            tokenizer.
        label: Name or number of the output that counts; needed unless the model has one output.
        max_tokens: How many tokens of prompt and response the model reads, counted from the end.

    Raises:
        ValueError: If there is no such folder or `max_tokens` is refused.
    """
    path = Path(str(folder)).expanduser()
    if not (path / "config.json").is_file():
        raise ValueError(
            f"{setting}={str(folder)!r}: must be a model's folder, "
            "but there is no config.json in it"
        )
    longest = check_integer(f"{setting}: max_tokens", max_tokens, low=1)
    absolute = str(path.absolute())

    def source(problem: Problem, response: str) -> Verdict:
        return Verdict(is_correct=None, reward=_rate(absolute, label, longest, problem, response))

    return source


def _rate(folder: str, label: Any, longest: int, problem: Problem, response: str) -> float:
    model, tokenizer = _load(folder)
    ids = _token_ids(tokenizer, problem, response)[-longest:]
    with torch.inference_mode():
        logits = model(input_ids=torch.tensor([ids])).logits[0].float()

    if len(logits) == 1:
        return float(logits[0])
    return float(torch.softmax(logits, dim=-1)[_index(model.config, label)])


def _token_ids(tokenizer: Any, problem: Problem, response: str) -> list[int]:
    if not tokenizer.chat_template:
        return list(tokenizer(problem.text, response)["input_ids"])
    prompt = as_messages(as_conversation(problem.prompt))
    messages = [*prompt, {"role": "assistant", "content": response}]
    return list(tokenizer.apply_chat_template(messages, tokenize=True, return_dict=False))


def _index(config: Any, label: Any) -> int:
    names = config.label2id
    if label in names:
        return int(names[label])
    if isinstance(label, int) and 0 <= label < config.num_labels:
        return label
    raise ValueError(
        f"label={label!r}: must be one of {', '.join(map(str, names))}, "
        f"or a number below {len(names)}"
    )


# The environments of a process share a model.
@lru_cache(maxsize=2)
def _load(folder: str) -> tuple[Any, Any]:
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    model = AutoModelForSequenceClassification.from_pretrained(
        folder, local_files_only=True, dtype=torch.float32
    )
    return model.eval(), AutoTokenizer.from_pretrained(folder, local_files_only=True)
