"""A 1.3M-parameter model that knows a little addition: enough to learn from, small enough for two CPU cores."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import random
from dataclasses import dataclass
from itertools import count, islice
from typing import TYPE_CHECKING

from rllib_dapo.models.cache import Progress, cached_folder

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from torch import Tensor
    from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

_PAD, _BOS, _EOS, _UNK = SPECIAL_TOKENS = ("<pad>", "<bos>", "<eos>", "<unk>")
CHARACTERS = "\n" + "".join(chr(code) for code in range(32, 127))
CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}{{ message['content'] }}"
    "{% if message['role'] == 'assistant' %}{{ eos_token }}{% endif %}{% endfor %}"
)
_IGNORED = -100  # the label that transformers leaves out of its loss
_NEAR_MISSES = (-20, -11, -10, -9, -2, -1, 1, 2, 9, 10, 11, 20)  # a slip in one digit, a forgotten carry


@dataclass(frozen=True, kw_only=True, slots=True)
class TinyRecipe:
    """All that the tiny model depends on.

    It is trained on records ``a+b=`` -> digits, end, drawn from the training split of
    `rllib_dapo.envs.arithmetic.ArithmeticEnv`: first on right ones, until it adds well, then on careless ones, of which
    a share is wrong. So it knows how to add, but sampled at temperature 1.0 it is right only so often, on any problem:
    that is what RL can mend, on problems that neither has seen.

    Attributes:
        seed: Of the first weights and of the records.
        hidden_size: Width; a multiple of ``head_size``.
        intermediate_size: Width of the feed-forward layers.
        num_layers: Transformer blocks.
        head_size: A size that vLLM's attention on CPUs supports.
        max_positions: Longest sequence, in characters.
        initializer_range: Standard deviation of the first weights; transformers' 0.02 is for wide models, and with it
            the model takes three times as many steps to find out how to add.
        max_operand: Records are sums of two numbers 0 .. max_operand.
        batch_size: Records a step.
        steps: Optimizer steps on right records.
        lr: Their peak learning rate; it falls linearly to nearly 0.
        careless_steps: Optimizer steps on careless records.
        careless_lr: Their peak learning rate.
        wrong_share: The share of careless records that carry a wrong sum.
        version: Changes where the code below changes what comes out.
    """

    seed: int = 0
    hidden_size: int = 192
    intermediate_size: int = 512
    num_layers: int = 3
    head_size: int = 64
    max_positions: int = 512
    initializer_range: float = 0.06
    max_operand: int = 49
    batch_size: int = 64
    steps: int = 400
    lr: float = 1e-3
    careless_steps: int = 80
    careless_lr: float = 2e-4
    wrong_share: float = 0.6
    version: int = 1

    def folder_name(self) -> str:
        """Returns a name that differs from every other recipe's."""
        digest = hashlib.sha256(json.dumps(dataclasses.asdict(self), sort_keys=True).encode()).hexdigest()
        return f"tiny-seed{self.seed}-{digest[:12]}"


def tiny_model(recipe: TinyRecipe, *, cache_dir: Path | None = None) -> Path:
    """Returns the folder of the tiny model that a recipe describes, made on the first call."""
    return cached_folder(recipe.folder_name(), lambda folder: _build(recipe, folder), cache_dir=cache_dir)


def _build(recipe: TinyRecipe, folder: Path) -> None:
    tokenizer = make_tokenizer()
    model = _untrained(recipe)
    _warm_up(model, tokenizer, recipe)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def make_tokenizer() -> PreTrainedTokenizerFast:
    """Returns a tokenizer whose tokens are the printable ASCII characters and the newline."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    vocabulary = {token: number for number, token in enumerate((*SPECIAL_TOKENS, *CHARACTERS))}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=_UNK))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), behavior="isolated")
    tokenizer.decoder = decoders.Fuse()
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{_BOS} $A", pair=f"{_BOS} $A $B", special_tokens=[(_BOS, vocabulary[_BOS])]
    )
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token=_PAD, bos_token=_BOS, eos_token=_EOS, unk_token=_UNK
    )
    wrapped.chat_template = CHAT_TEMPLATE
    return wrapped


def _untrained(recipe: TinyRecipe) -> LlamaForCausalLM:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    heads = recipe.hidden_size // recipe.head_size
    config = LlamaConfig(
        vocab_size=len(SPECIAL_TOKENS) + len(CHARACTERS),
        hidden_size=recipe.hidden_size,
        intermediate_size=recipe.intermediate_size,
        num_hidden_layers=recipe.num_layers,
        num_attention_heads=heads,
        num_key_value_heads=heads,
        head_dim=recipe.head_size,
        max_position_embeddings=recipe.max_positions,
        initializer_range=recipe.initializer_range,
        tie_word_embeddings=True,
        pad_token_id=SPECIAL_TOKENS.index(_PAD),
        bos_token_id=SPECIAL_TOKENS.index(_BOS),
        eos_token_id=SPECIAL_TOKENS.index(_EOS),
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        return LlamaForCausalLM(config).float()


def _warm_up(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, recipe: TinyRecipe) -> None:
    progress = Progress("making the tiny model")
    phases = (
        ("right", 0.0, recipe.steps, recipe.lr),
        ("careless", recipe.wrong_share, recipe.careless_steps, recipe.careless_lr),
    )
    for kind, wrong_share, steps, lr in phases:
        records = warm_up_records(recipe, wrong_share=wrong_share)
        batches = (list(islice(records, recipe.batch_size)) for _ in range(steps))
        for step, guessed in enumerate(_supervise(model, tokenizer, batches, steps=steps, lr=lr), 1):
            progress(f"step {step} of {steps} on {kind} records, {guessed:.0%} of the next characters guessed")


def _supervise(
    model: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    batches: Iterable[list[tuple[str, str]]],
    *,
    steps: int,
    lr: float,
) -> Iterator[float]:
    """Takes one optimizer step a batch and yields the share of its response tokens that had the highest probability."""
    import torch

    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, betas=(0.9, 0.99), weight_decay=0.01, fused=True)
    rise = max(1, steps // 10)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min(1.0, (step + 1) / rise) * (1.0 - 0.95 * step / steps)
    )
    for batch in batches:
        ids, labels = _tensors(batch, tokenizer)
        output = model(input_ids=ids, labels=labels)
        optimizer.zero_grad()
        output.loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        asked = labels[:, 1:] != _IGNORED
        yield (output.logits[:, :-1].argmax(-1) == labels[:, 1:])[asked].float().mean().item()


def warm_up_records(recipe: TinyRecipe, *, wrong_share: float) -> Iterator[tuple[str, str]]:
    """Yields prompts and answers without end; a share of the answers is near the right one instead."""
    from rllib_dapo.envs.arithmetic import ArithmeticEnv

    env = ArithmeticEnv({"max_operand": recipe.max_operand, "seed": recipe.seed, "split": "train"})
    rng = random.Random(recipe.seed)
    for problem in map(env.problem, count()):
        if rng.random() >= wrong_share:
            yield problem.prompt, problem.answer
        else:
            miss = rng.choice([miss for miss in _NEAR_MISSES if int(problem.answer) + miss >= 0])
            yield problem.prompt, str(int(problem.answer) + miss)


def _tensors(records: list[tuple[str, str]], tokenizer: PreTrainedTokenizerFast) -> tuple[Tensor, Tensor]:
    """Returns token ids and labels, both ``[B, T]``, padded on the right; only the response carries labels."""
    import torch

    prompts = [tokenizer(prompt)["input_ids"] for prompt, _ in records]
    responses = [tokenizer(answer + _EOS, add_special_tokens=False)["input_ids"] for _, answer in records]
    pairs = list(zip(prompts, responses, strict=True))
    length = max(len(prompt) + len(response) for prompt, response in pairs)
    ids = torch.full((len(pairs), length), SPECIAL_TOKENS.index(_PAD))
    labels = torch.full((len(pairs), length), _IGNORED)
    for row, (prompt, response) in enumerate(pairs):
        end = len(prompt) + len(response)
        ids[row, :end] = torch.tensor(prompt + response)
        labels[row, len(prompt) : end] = torch.tensor(response)
    return ids, labels
