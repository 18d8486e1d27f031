"""Tries architectures end to end with small random models, and writes what came out as a table.

    python tools/architecture_table.py                 # rewrites docs/architectures.md and its JSON
    python tools/architecture_table.py llama mixtral   # tries these and prints their rows

For each architecture, in float32, with weights that were changed after the engines had started:

- hand-over: the log-probabilities of what an engine samples against the Learner's,
- shared rows: responses that share a prompt, against rows of their own, beyond every window,
- restored: weights and log-probabilities of a saved and restored Learner, bit by bit,
- exported: the exported folder in transformers and in vLLM.

vLLM runs in a process of its own, as it does in training: it changes some of transformers' classes.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import numpy as np
import torch

REPO = Path(__file__).resolve().parents[1]
PAGE, FIGURES = REPO / "docs" / "architectures.md", REPO / "docs" / "architectures.json"
MARKS = ("<!-- architectures -->\n", "<!-- end -->")

LIMIT = 1e-5
PROMPT_TOKENS, RESPONSE_TOKENS, WINDOW = 12, 14, 8
VOCABULARY = 128

SIZES = {
    "vocab_size": VOCABULARY,
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "max_position_embeddings": 256,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
LLAMA = SIZES | {"intermediate_size": 128, "num_key_value_heads": 2}
HEADS = LLAMA | {"head_dim": 32}
EXPERTS = HEADS | {"moe_intermediate_size": 64, "num_experts": 4, "num_experts_per_tok": 2}
GPT2_SIZES = {
    "vocab_size": VOCABULARY,
    "n_embd": 64,
    "n_layer": 2,
    "n_head": 2,
    "n_positions": 256,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
WINDOWED = {"sliding_window": WINDOW}
TWO_KINDS = {"layer_types": ["sliding_attention", "full_attention"]}

# Name -> transformers' configuration class and its settings. Windows are shorter than a response,
# caps and scales far from 1: whoever forgets them is far off.
ARCHITECTURES: dict[str, tuple[str, dict[str, Any]]] = {
    "Llama": ("LlamaConfig", LLAMA),
    "Llama, tied": ("LlamaConfig", LLAMA | {"tie_word_embeddings": True}),
    "Qwen2": ("Qwen2Config", LLAMA),
    "Qwen2, window": (
        "Qwen2Config",
        LLAMA | WINDOWED | {"use_sliding_window": True, "max_window_layers": 1},
    ),
    "Qwen3": ("Qwen3Config", HEADS),
    "Qwen2-MoE": (
        "Qwen2MoeConfig",
        {k: v for k, v in EXPERTS.items() if k != "head_dim"}
        | {"shared_expert_intermediate_size": 64},
    ),
    "Qwen3-MoE": ("Qwen3MoeConfig", EXPERTS),
    "Mixtral": ("MixtralConfig", HEADS | {"num_local_experts": 4}),
    "Mistral, window": ("MistralConfig", HEADS | WINDOWED),
    "Gemma 2": (
        "Gemma2Config",
        HEADS | WINDOWED | {"final_logit_softcapping": 3.0, "attn_logit_softcapping": 2.0},
    ),
    "Gemma 3": ("Gemma3TextConfig", HEADS | WINDOWED | TWO_KINDS),
    "Phi-3, window": ("Phi3Config", LLAMA | WINDOWED),
    "GPT-2": ("GPT2Config", GPT2_SIZES),
    "GPT-NeoX": ("GPTNeoXConfig", LLAMA),
    "OPT": (
        "OPTConfig",
        SIZES | {"ffn_dim": 128, "word_embed_proj_dim": 64, "dropout": 0.0},
    ),
    "OLMo 2": ("Olmo2Config", LLAMA),
    "Granite": ("GraniteConfig", LLAMA | {"logits_scaling": 3.0, "residual_multiplier": 0.5}),
    "Cohere": ("CohereConfig", LLAMA | {"logit_scale": 0.25}),
    "Cohere 2": ("Cohere2Config", HEADS | WINDOWED | TWO_KINDS | {"logit_scale": 0.25}),
    "Starcoder2, window": ("Starcoder2Config", LLAMA | WINDOWED),
    "EXAONE 4": ("Exaone4Config", LLAMA | WINDOWED | TWO_KINDS),
    "SmolLM3": ("SmolLM3Config", LLAMA | {"no_rope_layers": [1, 0]}),
    "gpt-oss": (
        "GptOssConfig",
        HEADS
        | WINDOWED
        | TWO_KINDS
        | {"num_local_experts": 4, "num_experts_per_tok": 2, "rope_parameters": None},
    ),
    "BLOOM": (
        "BloomConfig",
        {k: v for k, v in SIZES.items() if k not in ("num_hidden_layers", "num_attention_heads")}
        | {"n_layer": 2, "n_head": 2},
    ),
    "GPT-J": ("GPTJConfig", GPT2_SIZES | {"rotary_dim": 16}),
    "Mamba": (
        "MambaConfig",
        {k: SIZES[k] for k in ("vocab_size", "hidden_size")}
        | {"num_hidden_layers": 2, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0},
    ),
    "RecurrentGemma": (
        "RecurrentGemmaConfig",
        HEADS | {"num_hidden_layers": 3, "lru_width": 64, "attention_window_size": WINDOW},
    ),
}


@dataclass(kw_only=True, slots=True)
class Row:
    """What came out for one architecture.

    Attributes:
        name: Name of the architecture.
        results: Column to what came out: a gap in nats, `"equal"`, or a line that says why not.
        notes: What was done in a slower way.
    """

    name: str
    results: dict[str, str | float] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def is_right_or_refused(self) -> bool:
        """Whether each result is right, or one line that refuses it."""
        return all(
            value <= LIMIT if isinstance(value, float) else "\n" not in value
            for value in self.results.values()
        )


# One architecture


def try_architecture(name: str, *, engine: EngineProcess, folder: Path) -> Row:
    """Runs an architecture through hand-over, shared rows, save, restore and export.

    Args:
        name: Key of `ARCHITECTURES`.
        engine: Process with vLLM.
        folder: Empty folder to work in.
    """
    from rllib_dapo.checkpoint.export import export_checkpoint
    from rllib_dapo.learner.model_folder import MODULE_PATH
    from rllib_dapo.model_check.check_model import check_folder
    from rllib_dapo.model_check.files import Lengths

    row = Row(name=name)
    try:
        source = make_model(name, folder / "model")
        module = learner_module(source)
    except Exception as error:
        row.results["trains"] = refusal(error)
        return row

    report = check_folder(
        config_of(source),
        lengths=Lengths(max_prompt_tokens=PROMPT_TOKENS, max_response_tokens=RESPONSE_TOKENS),
    )
    row.notes += [f"{f.check}: {f.detail}" for f in report.findings if f.verdict == "slower"]
    if report.refusals:
        row.results["trains"] = f"refused: {report.refusals[0].detail}"
        return row
    row.results["trains"] = "yes"

    # An engine that has started under other weights gets these.
    opened = engine.ask("open", str(source))
    if isinstance(opened, str):
        row.results["vLLM, same weights"] = row.results["vLLM, changed weights"] = opened
    else:
        row.results["vLLM, same weights"] = hand_over_gap(engine, module)
    change(module)
    if not isinstance(opened, str):
        row.results["vLLM, changed weights"] = hand_over_gap(engine, module)
        engine.ask("close")
    row.results["transformers engine"] = own_engine_gap(source, module)

    row.results["shared rows"] = shared_rows_gap(module)

    checkpoint = folder / "checkpoint"
    module.save_to_path(checkpoint / MODULE_PATH)
    restored = learner_module(source)
    restored.restore_from_path(checkpoint / MODULE_PATH)
    row.results["restored"] = differences(module, restored)

    exported = export_checkpoint(checkpoint, folder / "exported")
    row.results["exported, transformers"] = exported_gap(exported, module)
    if not isinstance(opened, str):
        reopened = engine.ask("open", str(exported))
        row.results["exported, vLLM"] = (
            reopened if isinstance(reopened, str) else sampled_gap(engine, module)
        )
        engine.ask("close")
    else:
        row.results["exported, vLLM"] = opened
    return row


def make_model(name: str, folder: Path) -> Path:
    """A folder with a random model of an architecture and a tokenizer of single characters."""
    import transformers

    from rllib_dapo.models.tiny import make_tokenizer

    kind, settings = ARCHITECTURES[name]
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(getattr(transformers, kind)(**settings))
    for parameter in model.parameters():
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, std=0.1)
    model.save_pretrained(folder)
    make_tokenizer().save_pretrained(folder)
    return folder


def config_of(model: Path) -> Any:
    """A configuration that trains a model in float32 in this process."""
    from rllib_dapo import DAPOConfig

    return (
        DAPOConfig()
        .language_model(str(model), dtype="float32", num_threads=1)
        .rollout(max_prompt_tokens=PROMPT_TOKENS, max_response_tokens=RESPONSE_TOKENS)
    )


def learner_module(model: Path) -> Any:
    """A Learner's module."""
    from ray.rllib.core import DEFAULT_MODULE_ID

    from rllib_dapo.envs import TextSpace

    spaces = {DEFAULT_MODULE_ID: (TextSpace(1), TextSpace(1))}
    spec = config_of(model).get_multi_rl_module_spec(spaces=spaces, inference_only=False)
    return spec.build()[DEFAULT_MODULE_ID]


@torch.no_grad()
def change(module: Any) -> None:
    """Weights as after some optimizer steps: every one of them is another."""
    generator = torch.Generator().manual_seed(1)
    for parameter in module.lm.parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        parameter.add_(noise, alpha=0.02)


# What is compared


def hand_over_gap(engine: EngineProcess, module: Any) -> float | str:
    """Gives an engine the module's weights, and compares what it samples."""
    answer = engine.ask("load", sent_weights(module))
    return answer if isinstance(answer, str) else sampled_gap(engine, module)


def sampled_gap(engine: EngineProcess, module: Any) -> float | str:
    """Largest difference between an engine's log-probabilities and the module's."""
    answer = engine.ask("sample", prompts())
    return answer if isinstance(answer, str) else largest_gap(answer, module)


def own_engine_gap(model: Path, module: Any) -> float | str:
    """The same with transformers' own `generate`."""
    try:
        with in_process_engine("transformers", model) as engine:
            load(engine, sent_weights(module))
            return largest_gap(sample(engine, prompts()), module)
    except Exception as error:
        return refusal(error)


@torch.no_grad()
def largest_gap(samples: Sequence[Sequence[tuple]], module: Any) -> float:
    """Largest difference between sampled log-probabilities and the module's, in nats."""
    gaps = [0.0]
    for prompt, group in zip(prompts(), samples, strict=True):
        for tokens, logprobs in group:
            mine = module_logprobs(module, prompt, [tokens])[0]
            gaps.append(float((mine - torch.as_tensor(logprobs)).abs().max()))
    return max(gaps)


@torch.no_grad()
def shared_rows_gap(module: Any) -> float | str:
    """Responses that share a row with others, against rows of their own."""
    from rllib_dapo.learner.row_masks import shared_row_mask

    rng = np.random.default_rng(3)
    prompt = rng.integers(3, 100, PROMPT_TOKENS).tolist()
    responses = [rng.integers(3, 100, RESPONSE_TOKENS).tolist() for _ in range(3)]
    from rllib_dapo.model_check.computation import check_computation

    (found,) = [
        f
        for f in check_computation(
            module, module.forward_train, device="cpu", longest=64, shares_rows=True
        )
        if f.check == "shared rows"
    ]
    if found.verdict != "right":
        return f"separate rows: {found.detail.partition(':')[0]}"
    del shared_row_mask
    separate = module_logprobs(module, prompt, responses)
    shared = module_logprobs(module, prompt, responses, max_row_tokens=200)
    return max(float((a - b).abs().max()) for a, b in zip(separate, shared, strict=True))


def module_logprobs(
    module: Any, prompt: list[int], responses: Sequence[Sequence[int]], *, max_row_tokens: int = 0
) -> list[torch.Tensor]:
    """The module's log-probabilities of responses to a prompt, `[T]` each."""
    from rllib_dapo.core import PromptGroup, Response, TrainResponse, plan_minibatch
    from rllib_dapo.learner.training_data import collate_minibatch

    group = PromptGroup(
        seed=0,
        prompt="",
        prompt_ids=np.asarray(prompt, dtype=np.int32),
        responses=tuple(
            Response(
                token_ids=np.asarray(tokens, dtype=np.int32),
                loss_mask=np.ones(len(tokens), dtype=bool),
                logprobs=np.zeros(len(tokens), dtype=np.float32),
                finish_reason="stop",
                reward=0.0,
                is_correct=None,
                text="",
            )
            for tokens in responses
        ),
        weights_version=0,
    )
    (plan,) = plan_minibatch(
        [
            TrainResponse(
                group=0,
                index=index,
                prompt_tokens=len(prompt),
                response_tokens=len(tokens),
                loss_tokens=len(tokens),
                advantage=0.0,
                reward=0.0,
            )
            for index, tokens in enumerate(responses)
        ],
        loss_aggregation="token_mean",
        max_response_tokens=RESPONSE_TOKENS,
        max_tokens_per_microbatch=10_000,
        max_row_tokens=max_row_tokens,
        num_shards=1,
    )
    found = {}
    for batch in collate_minibatch(plan, {0: group}, pad_token_id=0, device="cpu"):
        output = module.forward_train(batch)["logprobs"]
        for index, logprobs, mask in zip(batch["indices"], output, batch["mask"], strict=True):
            found[int(index)] = logprobs[mask]
    return [found[index] for index in range(len(responses))]


def differences(module: Any, other: Any) -> str:
    """`"equal"`, or the first weight that is another."""
    theirs = other.lm.state_dict()
    for name, tensor in module.lm.state_dict().items():
        if not torch.equal(tensor, theirs[name]):
            return f"{name} differs"
    return "equal"


@torch.no_grad()
def exported_gap(folder: Path, module: Any) -> float | str:
    """Largest difference of log-probabilities of the exported model in plain transformers."""
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation=module.lm.config._attn_implementation
    )
    rng = np.random.default_rng(4)
    prompt = rng.integers(3, 100, PROMPT_TOKENS).tolist()
    response = rng.integers(3, 100, RESPONSE_TOKENS).tolist()

    logits = model(input_ids=torch.tensor([prompt + response]), use_cache=False).logits[0]
    theirs = logits[len(prompt) - 1 : -1].log_softmax(-1)
    theirs = theirs.gather(-1, torch.tensor(response)[:, None])[:, 0]
    return float((theirs - module_logprobs(module, prompt, [response])[0]).abs().max())


# Engines


def prompts() -> list[list[int]]:
    """Some prompts of random tokens."""
    rng = np.random.default_rng(2)
    return [rng.integers(3, 100, PROMPT_TOKENS).tolist() for _ in range(3)]


def sent_weights(module: Any) -> list[tuple[str, np.ndarray]]:
    """The weights in the form in which a Learner sends them."""
    from rllib_dapo.weight_pieces import cut_into_pieces

    weights = module.checkpoint_format.to_checkpoint(module.lm.state_dict().items())
    return [named for piece in cut_into_pieces(weights, dtype=torch.float32) for named in piece]


@contextmanager
def in_process_engine(kind: str, model: Path) -> Iterator[Any]:
    """An engine of a small run."""
    from rllib_dapo.rollout.make_engine import make_engine

    engine = make_engine(
        kind,
        model=str(model),
        dtype="float32",
        trust_remote_code=False,
        max_model_len=PROMPT_TOKENS + RESPONSE_TOKENS + 2,
        max_concurrent_responses=8,
        cpu_kv_cache_gib=0.25,
        seed=0,
        engine_kwargs={},
    )
    try:
        yield engine
    finally:
        engine.close()


def load(engine: Any, arrays: list[tuple[str, np.ndarray]]) -> None:
    """Hands weights to an engine."""
    from rllib_dapo.weight_pieces import to_tensors

    engine.load_weights(to_tensors(iter(arrays)))


def sample(engine: Any, prompts: list[list[int]]) -> list[list[tuple]]:
    """Two responses to each prompt: token ids and log-probabilities."""
    from rllib_dapo.rollout.engine import Sampling

    groups = engine.generate(
        prompts,
        sampling=Sampling(num_responses=2, max_tokens=RESPONSE_TOKENS),
        seeds=range(len(prompts)),
    )
    return [[(c.token_ids.tolist(), c.logprobs.tolist()) for c in group] for group in groups]


class EngineProcess:
    """A process with vLLM, which is asked one thing after the other."""

    def __init__(self) -> None:
        """Starts it."""
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs,), daemon=True)
        self._process.start()

    def ask(self, what: str, argument: Any = None) -> Any:
        """Has it do something.

        Returns:
            What came of it; a line that says why not where it failed.
        """
        self._pipe.send((what, argument))
        return self._pipe.recv()

    def close(self) -> None:
        """Ends it."""
        self._pipe.send(("end", None))
        self._process.join()


def _serve(pipe: Any) -> None:
    torch.set_num_threads(1)
    engine: Any = None
    stack: Any = None
    while True:
        what, argument = pipe.recv()
        try:
            answer: Any = True
            if what == "end":
                return
            if what == "open":
                stack = in_process_engine("vllm", Path(argument))
                engine = stack.__enter__()
            elif what == "load":
                load(engine, argument)
            elif what == "sample":
                answer = sample(engine, argument)
            elif what == "close":
                stack.__exit__(None, None, None)
                engine = stack = None
        except Exception as error:
            answer = refusal(error)
        pipe.send(answer)


def refusal(error: BaseException) -> str:
    """An error as one line of the table."""
    text = " ".join(str(error).split()) or type(error).__name__
    return f"refused: {text[:160]}"


# The table


def try_all(names: Sequence[str], say: Callable[[str], None]) -> list[Row]:
    """Tries architectures one after the other.

    Args:
        names: Keys of `ARCHITECTURES`.
        say: Receives a line about each.
    """
    torch.set_num_threads(1)
    engine = EngineProcess()
    rows = []
    for name in names:
        with tempfile.TemporaryDirectory() as folder:
            rows.append(try_architecture(name, engine=engine, folder=Path(folder)))
        say(f"{name}: {rows[-1].results} {rows[-1].notes}")
    engine.close()
    return rows


def markdown(rows: Sequence[Row]) -> str:
    """The rows as a table."""
    columns = list(dict.fromkeys(column for row in rows for column in row.results))
    lines = [
        f"| architecture | {' | '.join(columns)} | slower |",
        "| --- |" + " --- |" * (len(columns) + 1),
    ]
    for row in rows:
        cells = [_cell(row.results.get(column, "")) for column in columns]
        lines.append(f"| {row.name} | {' | '.join(cells)} | {'; '.join(row.notes)} |")
    return "\n".join(lines) + "\n"


def _cell(value: float | str) -> str:
    return f"{value:.0e}" if isinstance(value, float) else value.replace("|", "/")


def main() -> None:
    """Prints rows, or writes them all into the page."""
    wanted = [word.lower() for word in sys.argv[1:]]
    names = [
        name for name in ARCHITECTURES if not wanted or any(word in name.lower() for word in wanted)
    ]
    rows = try_all(names, print)
    if wanted:
        print(markdown(rows))
        return

    FIGURES.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n")
    page = PAGE.read_text()
    before, _, rest = page.partition(MARKS[0])
    _, _, after = rest.partition(MARKS[1])
    PAGE.write_text(before + MARKS[0] + markdown(rows) + MARKS[1] + after)


if __name__ == "__main__":
    main()
