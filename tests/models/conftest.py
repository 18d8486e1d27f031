"""Tokenizers and built-in models that several tests use."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from rllib_dapo.models.model_cache import default_cache_dir
from rllib_dapo.models.tiny import make_tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@pytest.fixture(scope="session")
def cache_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache that outlives the session where the user has named one."""
    return (
        default_cache_dir()
        if "RLLIB_DAPO_CACHE" in os.environ
        else tmp_path_factory.mktemp("models")
    )


@pytest.fixture(scope="session")
def tokenizer() -> PreTrainedTokenizerBase:
    return make_tokenizer()
