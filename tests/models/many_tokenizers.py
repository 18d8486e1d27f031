"""Tokenizers of every family, trained on the spot, with control tokens of every kind."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)
from transformers import PreTrainedTokenizerFast

CORPUS = [
    "What is 12+34=? Write x^2 and 'y'.",
    "The quick brown fox jumps over the lazy dog; im_start im_end user system assistant.",
    "Answer: the result is 46. Go on, think and answer with end of turn, eos and start header id.",
    "def f(x):\n    return [x, {'a': 1}]  # <b>bold</b>",
    "Gr\u00fc\u00dfe, caf\u00e9, \u4f60\u597d, \u041f\u0440\u0438 | | < > / [INST] {}",
] * 3

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
LLAMA3 = (
    "{{ bos_token }}{% for m in messages %}<|start_header_id|>{{ m.role }}<|end_header_id|>\n\n"
    "{{ m.content | trim }}<|eot_id|>{% endfor %}"
    "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
)
INST = (
    "{{ bos_token }}{% set ns = namespace(s='') %}{% for m in messages %}"
    "{% if m.role == 'system' %}{% set ns.s = m.content + '\n\n' %}"
    "{% elif m.role == 'assistant' %} {{ m.content }}{{ eos_token }}"
    "{% else %}[INST] {{ ns.s + m.content }} [/INST]{% set ns.s = '' %}{% endif %}{% endfor %}"
)
GEMMA = (
    "{{ bos_token }}{% for m in messages %}<start_of_turn>"
    "{{ 'model' if m.role == 'assistant' else m.role }}\n{{ m.content | trim }}<end_of_turn>\n"
    "{% endfor %}{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)
PLAIN = (
    "{{ bos_token }}{% for m in messages %}{{ m.role }}: {{ m.content }}{{ eos_token }}\n"
    "{% endfor %}{% if add_generation_prompt %}assistant:{% endif %}"
)


def _wrap(
    tokenizer: Tokenizer,
    template: str | None,
    special: list[Any],
    *,
    added: tuple[Any, ...] = (),
    **names: str,
) -> PreTrainedTokenizerFast:
    tokenizer.add_special_tokens(special)
    tokenizer.add_tokens(list(added))
    wrapped = PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names)
    wrapped.chat_template = template
    return wrapped


def byte_level(template: str | None, special: list[Any], **rest: Any) -> PreTrainedTokenizerFast:
    ignore_merges = rest.pop("ignore_merges", False)
    prefix_space = rest.pop("prefix_space", False)
    tokenizer = Tokenizer(models.BPE(ignore_merges=ignore_merges))
    tokenizer.normalizer = rest.pop("normalizer", None)
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=prefix_space)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=600, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    return _wrap(tokenizer, template, special, **rest)


def qwen_like() -> PreTrainedTokenizerFast:
    """Added tokens that are not special, and nested ones."""
    return byte_level(
        CHATML,
        ["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
        added=("<think>", "</think>", "<tool_call>", "<tool_call><think>", "\u4f60\u597d\u4e16"),
        normalizer=normalizers.NFC(),
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
    )


def llama3_like() -> PreTrainedTokenizerFast:
    """Special tokens that no name of the tokenizer's map holds, and merges that are skipped."""
    tokenizer = byte_level(
        LLAMA3,
        [
            "<|begin_of_text|>",
            "<|start_header_id|>",
            "<|end_header_id|>",
            "<|eot_id|>",
            "<|python_tag|>",
        ],
        ignore_merges=True,
        bos_token="<|begin_of_text|>",
        eos_token="<|eot_id|>",
    )
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<|begin_of_text|> $A",
        special_tokens=[("<|begin_of_text|>", tokenizer.bos_token_id)],
    )
    return tokenizer


def gpt2_like() -> PreTrainedTokenizerFast:
    """One special token, a space in front of every text, and runs of spaces as added tokens."""
    return byte_level(
        PLAIN,
        ["<|endoftext|>"],
        added=("  ", "    ", AddedToken("[PAD]", normalized=True)),
        prefix_space=True,
        bos_token="<|endoftext|>",
        eos_token="<|endoftext|>",
    )


def phi_like() -> PreTrainedTokenizerFast:
    """Tokens that take the white space around them, and one that must be a whole word."""
    return byte_level(
        "{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}<|end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|assistant|>\n{% endif %}",
        [
            AddedToken("<|user|>", rstrip=True),
            AddedToken("<|system|>", rstrip=True),
            AddedToken("<|tool|>", rstrip=True, lstrip=True),
            AddedToken("<|assistant|>", rstrip=True),
            AddedToken("<|end|>", lstrip=True, rstrip=True),
            AddedToken("eos", single_word=True),
        ],
        eos_token="<|end|>",
    )


def sentencepiece_bpe(
    template: str, special: list[Any], *, prefix: str, **rest: Any
) -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    spaces = normalizers.Replace(" ", "\u2581")
    if prefix == "normalizer":
        tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("\u2581"), spaces])
    else:
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=prefix, split=False)
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=900,
        special_tokens=["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))],
        max_token_length=8,
        show_progress=False,
    )
    tokenizer.train_from_iterator((text.replace(" ", "\u2581") for text in CORPUS), trainer)
    tokenizer = Tokenizer.from_str(_without_added(tokenizer, keep=("<unk>", "<s>", "</s>")))
    return _wrap(
        tokenizer,
        template,
        special,
        unk_token="<unk>",
        bos_token="<s>",
        eos_token="</s>",
        **rest,
    )


def _without_added(tokenizer: Tokenizer, keep: tuple[str, ...]) -> str:
    import json

    spec = json.loads(tokenizer.to_str())
    spec["added_tokens"] = [token for token in spec["added_tokens"] if token["content"] in keep]
    return json.dumps(spec)


def llama2_like() -> PreTrainedTokenizerFast:
    """A space in front of every section, by the normalizer; control tokens in the vocabulary."""
    return sentencepiece_bpe(INST, [], prefix="normalizer")


def mistral_like() -> PreTrainedTokenizerFast:
    """A space in front of the first section alone; control tokens in brackets."""
    return sentencepiece_bpe(INST, ["[INST]", "[/INST]", "[TOOL_CALLS]"], prefix="first")


def gemma_like() -> PreTrainedTokenizerFast:
    """No space in front; newlines and tags as added tokens."""
    return sentencepiece_bpe(
        GEMMA,
        ["<start_of_turn>", "<end_of_turn>"],
        prefix="never",
        added=("\n", "\n\n", "\u2581\u2581", "<table>", "<unused0>", "[@BOS@]"),
    )


def t5_like() -> PreTrainedTokenizerFast:
    """Unigram, whose vocabulary holds the control tokens as pieces like any other."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Strip(right=True)])
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    tokenizer.decoder = decoders.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=220,
        special_tokens=["<pad>", "</s>", "<unk>", "<extra_id_0>", "<extra_id_1>", "<|user|>"],
        unk_token="<unk>",
        show_progress=False,
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    return _wrap(
        Tokenizer.from_str(_without_added(tokenizer, keep=("<pad>", "</s>", "<extra_id_0>"))),
        "{% for m in messages %}<extra_id_0>{{ m.role }} {{ m.content }}</s>{% endfor %}"
        "<extra_id_0>model",
        ["<extra_id_1>"],
        unk_token="<unk>",
        eos_token="</s>",
        pad_token="<pad>",
    )


def bert_like() -> PreTrainedTokenizerFast:
    """WordPiece on small letters, with white space alone between words."""
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.decoder = decoders.WordPiece()
    trainer = trainers.WordPieceTrainer(
        vocab_size=400,
        special_tokens=["[UNK]", "[CLS]", "[SEP]", "[PAD]", "[MASK]", "<|tag|>", "<end>"],
        initial_alphabet=[*"[]<>|/_clsepadmunkt"],
        show_progress=False,
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    return _wrap(
        Tokenizer.from_str(_without_added(tokenizer, keep=("[UNK]", "[CLS]", "[SEP]", "[PAD]"))),
        "[CLS] {% for m in messages %}{{ m.role }} {{ m.content }} [SEP] <end> {% endfor %}",
        [AddedToken("<Loud>", normalized=True)],
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        eos_token="[SEP]",
        pad_token="[PAD]",
    )


def words() -> PreTrainedTokenizerFast:
    """Whole words, with the control tokens among them."""
    names = ["<unk>", "<s>", "</s>", "<|im_start|>", "<|im_end|>", "user", "system", "tool"]
    vocabulary = {
        word: number
        for number, word in enumerate(dict.fromkeys([*names, *" ".join(CORPUS).split()]))
    }
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return _wrap(
        tokenizer,
        "{% for m in messages %}<|im_start|> {{ m.role }} {{ m.content }} <|im_end|> {% endfor %}"
        "<|im_start|> assistant",
        ["</s>"],
        unk_token="<unk>",
        eos_token="</s>",
    )


def characters() -> PreTrainedTokenizerFast:
    """Single characters; the template writes the unknown token."""
    signs = sorted({*"".join(CORPUS), *"abcdefghijklmnopqrstuvwxyz|<>/_[]"})
    vocabulary = {
        token: number for number, token in enumerate(["<pad>", "<bos>", "<eos>", "<unk>", *signs])
    }
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), behavior="isolated")
    tokenizer.decoder = decoders.Fuse()
    return _wrap(
        tokenizer,
        "{{ bos_token }}{% for m in messages %}<unk>{{ m.role }}\n{{ m.content }}<eos>\n"
        "{% endfor %}<unk>assistant\n",
        [],
        pad_token="<pad>",
        bos_token="<bos>",
        eos_token="<eos>",
        unk_token="<unk>",
    )


ALL: dict[str, Callable[[], PreTrainedTokenizerFast]] = {
    make.__name__: make
    for make in (
        qwen_like,
        llama3_like,
        gpt2_like,
        phi_like,
        llama2_like,
        mistral_like,
        gemma_like,
        t5_like,
        bert_like,
        words,
        characters,
    )
}
