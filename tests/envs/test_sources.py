from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rllib_dapo.envs.datasets import load_dataset

WriteFile = Callable[..., Path]
Pairs = Callable[[Any], list[tuple[str, str]]]


@pytest.fixture
def hub() -> Any:
    return pytest.importorskip("datasets", reason="needs the library datasets")


def test_a_home_folder_is_understood(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write_file: WriteFile, pairs_of: Pairs
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    write_file(tmp_path / "d.jsonl", {"question": "A", "answer": "1"})
    assert pairs_of("~/d.jsonl") == [("A", "1")]


def test_a_missing_file_is_told_by_its_full_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError) as caught:
        load_dataset("nowhere.parquet")
    assert str(caught.value) == (
        f"path='nowhere.parquet': no such file (looked at {tmp_path / 'nowhere.parquet'}); "
        "give an absolute path that exists on every machine of the cluster"
    )


@pytest.mark.parametrize("path", [None, [], 5, [None], [["a.jsonl"]]])
def test_a_path_that_is_none_is_refused(path: Any) -> None:
    with pytest.raises(
        ValueError, match=r"^path=.*: must be a \.parquet, \.jsonl, \.json or \.csv file, "
    ):
        load_dataset(path)


def test_a_folder_without_problem_files_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^path=.*: is a folder; name the file in it"):
        load_dataset(tmp_path)


def test_a_data_set_saved_by_the_library_datasets_is_read(
    tmp_path: Path, hub: Any, pairs_of: Pairs
) -> None:
    parts = {
        "train": [
            {"question": "A", "answer": "1", "id": 7},
            {"question": "B", "answer": "2", "id": 8},
        ],
        "test": [{"question": "C", "answer": "3", "id": 9}],
    }
    made = hub.DatasetDict({name: hub.Dataset.from_list(rows) for name, rows in parts.items()})
    made.save_to_disk(tmp_path / "saved")
    made["test"].save_to_disk(tmp_path / "one")

    source = {"dataset": str(tmp_path / "saved")}
    assert [(p.prompt, p.answer, p.problem_id) for p in load_dataset(source).problems] == [
        ("A", "1", "saved/7"),
        ("B", "2", "saved/8"),
    ]
    assert pairs_of(source | {"split": "test"}) == [("C", "3")]
    assert pairs_of({"dataset": str(tmp_path / "one")}) == [("C", "3")]


def test_a_folder_of_data_files_is_read_as_a_data_set_and_mixes_with_files(
    tmp_path: Path, hub: Any, monkeypatch: pytest.MonkeyPatch, write_file: WriteFile
) -> None:
    monkeypatch.setattr(hub.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    (tmp_path / "folder").mkdir()
    write_file(
        tmp_path / "folder" / "train.jsonl",
        {"question": "A", "answer": "1"},
        {"question": "B", "answer": "2"},
    )
    other = write_file(
        tmp_path / "other.jsonl", {"question": "B", "answer": "2"}, {"question": "C", "answer": "3"}
    )

    data = load_dataset([{"dataset": str(tmp_path / "folder")}, other])
    assert [p.problem_id for p in data.problems] == ["folder/0", "folder/1", "other/1"]
    assert data.duplicates == 1


def test_a_data_set_that_cannot_be_had_is_refused_in_one_line(tmp_path: Path, hub: Any) -> None:
    hub.Dataset.from_list([{"question": "A", "answer": "1"}]).save_to_disk(tmp_path / "one")
    hub.DatasetDict({"train": hub.Dataset.from_list([{"q": "A"}])}).save_to_disk(tmp_path / "parts")

    for source, told in (
        ({"dataset": "nobody/nothing"}, "split 'train' cannot be loaded: "),
        (
            {"dataset": str(tmp_path / "parts"), "split": "test"},
            "split 'test' cannot be loaded: KeyError",
        ),
        ({"dataset": str(tmp_path / "parts")}, "no known schema in the columns q;"),
    ):
        with pytest.raises(ValueError, match=told) as caught:
            load_dataset(source)
        assert str(caught.value).startswith("path={'dataset': ")
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "source", [{}, {"dataset": ""}, {"data": "x"}, {"dataset": "x", "split": 1}]
)
def test_a_data_set_that_is_not_named_properly_is_refused(source: Any) -> None:
    with pytest.raises(
        ValueError,
        match=r"^path=.*: a Hugging Face data set is written \{'dataset': NAME\}, with texts",
    ):
        load_dataset(source)
