"""A 1.3M-parameter model that knows a little addition, small enough to train on two CPU cores."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
import string
from dataclasses import dataclass
from itertools import count, islice
from typing import TYPE_CHECKING, ClassVar, TypeAlias

from rllib_dapo.envs.messages import Conversation
from rllib_dapo.envs.tools import Tool
from rllib_dapo.models.model_cache import BuildProgress, cached_folder
from rllib_dapo.models.supervised_tokens import supervised_tokens

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from torch import Tensor
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

# A prompt, and what follows it in turn: the policy's words, what is said back, and so on.
Record: TypeAlias = tuple[str | Conversation, ...]

_PAD, _BOS, _EOS, _UNK = SPECIAL_TOKENS = ("<pad>", "<bos>", "<eos>", "<unk>")
CHARACTERS = "\n" + "".join(chr(code) for code in range(32, 127))
CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}{{ message['content'] }}"
    "{% if message['role'] == 'assistant' %}{{ eos_token }}{% endif %}{% endfor %}"
)


@dataclass(frozen=True, kw_only=True, slots=True)
class TinyRecipe:
    """Everything that the tiny model depends on.

    It is trained on records of a prompt `a+b=` and the digits of the sum, drawn from the training
    split of `rllib_dapo.envs.arithmetic.ArithmeticEnv`. The target of a digit is only probably
    right: it gives the right digit `1 - doubt` and spreads `doubt` over all ten digits. So the
    model learns how to add, but hedges. Sampled at temperature 1.0 it is right on 0.6 to 0.7 of the
    digits, which makes about 0.4 of the sums, and on any single sum only now and then. What remains
    for RL to teach is to commit itself, and that carries over to sums it has never seen.

    Attributes:
        seed: Seed of the initial weights and of the records.
        hidden_size: Width of the model; a multiple of `head_size`.
        intermediate_size: Width of the feed-forward layers.
        num_layers: Number of transformer blocks.
        head_size: Width of an attention head; a size that vLLM's attention on CPUs supports.
        max_positions: Length of the longest sequence, in characters.
        words: Tokens of the vocabulary beside special ones and single characters.
        initializer_range: Standard deviation of the initial weights. Transformers' default of 0.02
            is for wide models; with it, learning to add would take twice as many steps here.
        max_operand: Records are sums of two numbers from 0 to `max_operand`.
        doubt: Share of a digit's target that is spread over all ten digits.
        steps: Number of optimizer steps.
        batch_size: Number of records in a step.
        lr: Peak learning rate. It rises over the first tenth of the steps and falls linearly to
            nearly 0.
        version: Number to change when a change of this code changes the model.
    """

    seed: int = 0
    hidden_size: int = 192
    intermediate_size: int = 512
    num_layers: int = 3
    head_size: int = 64
    max_positions: int = 512
    initializer_range: float = 0.06
    max_operand: int = 49
    doubt: float = 0.4
    steps: int = 600
    batch_size: int = 64
    lr: float = 1e-3
    version: int = 1
    kind: ClassVar[str] = "tiny"
    words: ClassVar[tuple[str, ...]] = ()
    tools: ClassVar[tuple[Tool, ...]] = ()  # that prompts declare

    def folder_name(self) -> str:
        """Returns a name that differs from every other recipe's."""
        digest = hashlib.sha256(
            json.dumps(dataclasses.asdict(self), sort_keys=True).encode()
        ).hexdigest()
        return f"{self.kind}-seed{self.seed}-{digest[:12]}"

    def records(self) -> Iterator[Record]:
        """Yields records without end: prompt, response, and further turns where there are any."""
        return warm_up_records(self)

    def tokenizer(self) -> PreTrainedTokenizerFast:
        """Returns the model's tokenizer, with its chat template."""
        return make_tokenizer()


def tiny_model(recipe: TinyRecipe, *, cache_dir: Path | None = None) -> Path:
    """Returns the folder of the tiny model that a recipe describes, made on the first call."""
    return cached_folder(
        recipe.folder_name(), lambda folder: _build(recipe, folder), cache_dir=cache_dir
    )


def _build(recipe: TinyRecipe, folder: Path) -> None:
    tokenizer = recipe.tokenizer()
    model = _untrained(recipe)
    _warm_up(model, tokenizer, recipe)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def make_tokenizer(words: tuple[str, ...] = ()) -> PreTrainedTokenizerFast:
    """Returns a tokenizer whose tokens are the printable ASCII characters and the newline.

    Args:
        words: Further tokens, of several characters; the first that fits is taken.
    """
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    tokens = (*SPECIAL_TOKENS, *CHARACTERS, *words)
    vocabulary = {token: number for number, token in enumerate(tokens)}
    pattern = "|".join((*map(re.escape, words), r"[\s\S]"))

    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=_UNK))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(pattern), behavior="isolated")
    tokenizer.decoder = decoders.Fuse()
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{_BOS} $A", pair=f"{_BOS} $A $B", special_tokens=[(_BOS, vocabulary[_BOS])]
    )

    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token=_PAD, bos_token=_BOS, eos_token=_EOS, unk_token=_UNK
    )
    wrapped.chat_template = CHAT_TEMPLATE
    return wrapped


def tiny_config(recipe: TinyRecipe) -> LlamaConfig:
    """Configuration of the model that a recipe makes."""
    from transformers import LlamaConfig

    heads = recipe.hidden_size // recipe.head_size
    return LlamaConfig(
        vocab_size=len(SPECIAL_TOKENS) + len(CHARACTERS) + len(recipe.words),
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


def _untrained(recipe: TinyRecipe) -> LlamaForCausalLM:
    import torch
    from transformers import LlamaForCausalLM

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        return LlamaForCausalLM(tiny_config(recipe)).float()


def _warm_up(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, recipe: TinyRecipe
) -> None:
    import torch

    optimizer = torch.optim.AdamW(
        model.parameters(), lr=recipe.lr, betas=(0.9, 0.99), weight_decay=0.01, fused=True
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: _lr_factor(step, recipe.steps)
    )

    digits = torch.tensor(tokenizer.convert_tokens_to_ids(list(string.digits)))
    records = recipe.records()
    progress = BuildProgress("making the tiny model")

    for step in range(recipe.steps):
        batch = list(islice(records, recipe.batch_size))
        ids, is_response = _tensors(batch, tokenizer, recipe)
        logits = model(input_ids=ids[:, :-1]).logits[is_response[:, 1:]]
        targets = ids[:, 1:][is_response[:, 1:]]

        optimizer.zero_grad()
        _hedging_loss(logits, targets, digits, recipe.doubt).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()

        known = (logits.argmax(-1) == targets).float().mean()
        progress(f"step {step + 1} of {recipe.steps}, {known:.0%} of the next characters known")


def _lr_factor(step: int, steps: int) -> float:
    return min(1.0, (step + 1) / max(1, steps // 10)) * (1.0 - 0.95 * step / steps)


def _hedging_loss(logits: Tensor, targets: Tensor, digits: Tensor, doubt: float) -> Tensor:
    """Returns the mean cross entropy, with targets that are digits spread over all digits.

    Args:
        logits: `[N, V]`.
        targets: `[N]` token ids.
        digits: `[10]` token ids of the digits.
        doubt: Share of a digit's target that is spread over all ten.
    """
    import torch

    logprobs = logits.log_softmax(-1)
    certain = logprobs.gather(-1, targets[:, None]).squeeze(-1)
    hedged = (1.0 - doubt) * certain + doubt * logprobs[:, digits].mean(-1)
    return -torch.where(torch.isin(targets, digits), hedged, certain).mean()


def warm_up_records(recipe: TinyRecipe) -> Iterator[tuple[str, str]]:
    """Yields prompts and answers without end; no held-out problem is among them."""
    from rllib_dapo.envs.arithmetic import ArithmeticEnv

    env = ArithmeticEnv({"max_operand": recipe.max_operand, "seed": recipe.seed, "split": "train"})
    return ((problem.text, problem.answer) for problem in map(env.problem, count()))


def _tensors(
    records: list[Record], tokenizer: PreTrainedTokenizerFast, recipe: TinyRecipe
) -> tuple[Tensor, Tensor]:
    """Returns token ids and which of them are response, both `[B, T]`, padded on the right."""
    import torch

    rows = [_one_row(record, tokenizer, recipe) for record in records]
    length = max(len(ids) for ids, _ in rows)

    ids = torch.full((len(rows), length), SPECIAL_TOKENS.index(_PAD))
    is_response = torch.zeros(ids.shape, dtype=torch.bool)
    for row, (row_ids, row_is_response) in enumerate(rows):
        ids[row, : len(row_ids)] = torch.tensor(row_ids)
        is_response[row, : len(row_ids)] = torch.tensor(row_is_response)

    return ids, is_response


def _one_row(
    record: Record, tokenizer: PreTrainedTokenizerFast, recipe: TinyRecipe
) -> tuple[list[int], list[bool]]:
    """Joins the turns of a record, as `rllib-dapo sft` does."""
    tokens = supervised_tokens(
        tokenizer,
        record[0],
        record[1:],
        end_id=SPECIAL_TOKENS.index(_EOS),
        tools=recipe.tools,
    )
    prompt_ids = tokens.prompt_ids
    return prompt_ids + tokens.token_ids, [False] * len(prompt_ids) + tokens.loss_mask
