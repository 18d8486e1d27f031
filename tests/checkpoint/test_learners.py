"""Checkpoints: whole or refused, and what is restored is what was saved."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from ray.rllib.core import COMPONENT_LEARNER_GROUP
from torch import Tensor

from rllib_dapo import DAPOConfig
from rllib_dapo.checkpoint.learners import (
    begin_saving,
    check_learners,
    restore_learners,
    save_learners,
)
from rllib_dapo.checkpoint.manifest import MANIFEST, read_manifest
from rllib_dapo.learner.model_folder import MODULE_PATH
from rllib_dapo.learner.rank_checkpoint import read_rank
from rllib_dapo.learner.training_data import GroupTrainingData
from rllib_dapo.metrics.metric_table import METRICS

LearnerConfig = Callable[..., DAPOConfig]
MakeTrainer = Callable[[DAPOConfig], Any]
Data = Callable[..., GroupTrainingData]

RANK = "ranks/rank_00000.pt"
MODEL = str(MODULE_PATH / "model.safetensors")


def save(trainer: Any, folder: Path) -> Path:
    """As `DAPO.save_to_path` does, without the rest of the algorithm."""
    begin_saving(folder)
    state = trainer.group.get_state(for_checkpoint=True)
    trainer.group.save_to_path(folder / COMPONENT_LEARNER_GROUP, state=state)
    save_learners(trainer.group, folder)
    return folder


def restore(trainer: Any, folder: Path) -> None:
    manifest = check_learners(trainer.group, folder)
    trainer.group.restore_from_path(folder / COMPONENT_LEARNER_GROUP)
    restore_learners(trainer.group, folder, manifest)


@pytest.fixture
def config(learner_config: LearnerConfig) -> DAPOConfig:
    """All that a Learner keeps between updates: moments, a value head, a place in a schedule."""
    return learner_config().training(
        lr=1e-2,
        warmup_steps=1,
        lr_schedule="linear",
        lr_decay_updates=10,
        advantage_estimator="gae",
    )


@pytest.fixture
def trained(make_trainer: MakeTrainer, config: DAPOConfig, make_data: Data) -> Any:
    trainer = make_trainer(config)
    for _ in range(2):
        trainer.update(make_data(minibatches=2))
    return trainer


@pytest.fixture
def checkpoint(trained: Any, tmp_path: Path) -> Path:
    return save(trained, tmp_path / "checkpoint")


# What goes on


@pytest.mark.parametrize("updates_before", [0, 3], ids=["a new Learner", "one that is further"])
def test_a_restored_learner_goes_on_as_if_it_had_never_stopped(
    trained: Any,
    checkpoint: Path,
    make_trainer: MakeTrainer,
    config: DAPOConfig,
    make_data: Data,
    updates_before: int,
) -> None:
    resumed = make_trainer(config.copy(copy_frozen=False))
    for _ in range(updates_before):
        resumed.update(make_data(minibatches=1))
    restore(resumed, checkpoint)

    assert resumed.has_weights(trained.weights())
    # the warm-up's last optimizer step has the full rate already, so three came after it
    assert resumed.learner.updates_after_warmup == trained.learner.updates_after_warmup == 3

    expected, found = (trainer.update(make_data(minibatches=2)) for trainer in (trained, resumed))
    assert resumed.has_weights(trained.weights())
    assert resumed.learner.rates[-2:] == trained.learner.rates[-2:] == pytest.approx([7e-3, 6e-3])
    for gradient, other in zip(
        resumed.learner.gradients[-2:], trained.learner.gradients[-2:], strict=True
    ):
        assert torch.equal(gradient, other)

    names = {
        metric.name for metric in METRICS if metric.source == "learners/default_policy"
    } & expected.keys()

    assert {name: found[name] for name in names} == {name: expected[name] for name in names}


@pytest.mark.parametrize("updates_before", [0, 3], ids=["a new Learner", "one that is further"])
def test_a_critics_warm_up_goes_on_where_it_stopped(
    make_trainer: MakeTrainer,
    config: DAPOConfig,
    make_data: Data,
    tmp_path: Path,
    updates_before: int,
) -> None:
    """Two of its three training steps are done; one that is further has left it."""
    config.training(lr_schedule="linear", lr_decay_updates=10).critic(lr=2e-2, warmup=3)
    trained, resumed = (make_trainer(config.copy(copy_frozen=False)) for _ in range(2))
    for _ in range(2):
        trained.update(make_data(minibatches=2))
    for _ in range(2 * updates_before):
        resumed.update(make_data(minibatches=1))
    restore(resumed, save(trained, tmp_path / "checkpoint"))
    steps = len(resumed.learner.rates)

    for trainer in (trained, resumed):
        for _ in range(3):
            trainer.update(make_data(minibatches=2))
    assert resumed.has_weights(trained.weights())
    # One more training step of the critic alone; one in which the policy's rate rises to the full
    # one; one in which both fall.
    assert resumed.learner.rates[steps:] == trained.learner.rates[4:]
    assert trained.learner.rates[4:] == pytest.approx([0, 0, 5e-3, 1e-2, 9e-3, 8e-3])
    assert resumed.learner.critic_rates[steps:] == trained.learner.critic_rates[4:]
    assert trained.learner.critic_rates[4:] == pytest.approx([2e-2] * 4 + [1.8e-2, 1.6e-2])
    assert resumed.learner.updates_after_warmup == trained.learner.updates_after_warmup == 3


def test_a_checkpoint_of_a_version_with_one_group_of_parameters_goes_on(
    trained: Any, checkpoint: Path, make_trainer: MakeTrainer, config: DAPOConfig, make_data: Data
) -> None:
    """Value head and policy had the same rate then, and so one group."""
    manifest, file = read_manifest(checkpoint), checkpoint / RANK
    state = torch.load(file, weights_only=True)
    policy, critic = state["optimizer"]["param_groups"]
    state["optimizer"]["param_groups"] = [
        policy | {"params": [*policy["params"], *critic["params"]]}
    ]
    torch.save(state, file)

    resumed = make_trainer(config.copy(copy_frozen=False))
    resumed.group.restore_from_path(checkpoint / COMPONENT_LEARNER_GROUP)
    restore_learners(resumed.group, checkpoint, manifest)
    for trainer in (trained, resumed):
        trainer.update(make_data(minibatches=2))
    assert resumed.has_weights(trained.weights())


def test_a_state_that_is_copied_takes_weights_and_moments_along(
    trained: Any, make_trainer: MakeTrainer, config: DAPOConfig, make_data: Data
) -> None:
    other = make_trainer(config.copy(copy_frozen=False))
    other.group.set_state(trained.group.get_state())
    assert other.has_weights(trained.weights())
    other.learner.updates_after_warmup = trained.learner.updates_after_warmup
    for trainer in (trained, other):
        trainer.update(make_data(minibatches=2))
    assert other.has_weights(trained.weights())


# What is on disk


def test_the_list_of_files_is_written_last_and_is_of_all_files(checkpoint: Path) -> None:
    files = {file for file in checkpoint.rglob("*") if file.is_file()}
    listed = read_manifest(checkpoint).files
    assert {checkpoint / name for name in listed} == files - {checkpoint / MANIFEST}
    assert {RANK, MODEL} <= listed.keys()
    newest = (checkpoint / MANIFEST).stat().st_mtime_ns
    assert all(file.stat().st_mtime_ns <= newest for file in files)


@pytest.mark.parametrize("saves_before", [0, 1])
def test_a_save_that_fails_leaves_no_whole_checkpoint(
    trained: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, saves_before: int
) -> None:
    """Not even where a whole one lay before, some of whose files have been replaced."""
    for _ in range(saves_before):
        save(trained, tmp_path)

    def disk_is_full(checkpoint: Path) -> dict[str, Any]:
        raise OSError("no space left on device")

    monkeypatch.setattr(trained.learner, "training_state", disk_is_full)
    with pytest.raises(OSError, match="no space left"):
        save(trained, tmp_path)
    assert (tmp_path / MODEL).is_file()
    said = f"^{tmp_path} is not a whole checkpoint .no {MANIFEST}.*; take an older one$"
    with pytest.raises(ValueError, match=said):
        read_manifest(tmp_path)


def test_saving_again_into_the_same_folder_lists_what_is_there_now(
    trained: Any, checkpoint: Path, make_data: Data
) -> None:
    before = read_manifest(checkpoint)
    trained.update(make_data())
    save(trained, checkpoint)
    after = read_manifest(checkpoint)
    assert after.files.keys() == before.files.keys()
    assert after.fingerprints != before.fingerprints


def held(value: Any) -> list[type]:
    """The types of everything in a nest of dicts and sequences."""
    if isinstance(value, dict):
        return [kind for pair in value.items() for item in pair for kind in held(item)]
    if isinstance(value, list | tuple):
        return [kind for item in value for kind in held(item)]
    return [type(value)]


def test_a_learners_file_holds_tensors_and_plain_values_alone(
    trained: Any, checkpoint: Path
) -> None:
    state = torch.load(checkpoint / RANK, weights_only=True)
    assert state.keys() == {"optimizer", "updates_after_warmup"}
    assert set(held(state)) <= {Tensor, float, int, bool, str, type(None)}
    found = read_rank(checkpoint, 0)["optimizer"]["state"]
    moments = trained.learner.get_optimizer("default_policy").state_dict()["state"]
    assert found.keys() == moments.keys()
    assert all(torch.equal(found[i]["exp_avg"], moments[i]["exp_avg"]) for i in moments)


def test_rllibs_own_files_hold_neither_weights_nor_moments(trained: Any, checkpoint: Path) -> None:
    assert all(file.stat().st_size < 50_000 for file in checkpoint.rglob("*.pkl"))
    state = trained.learner.get_state(for_checkpoint=True)
    assert state["rl_module"] == {"default_policy": {}}
    assert "optimizer" not in state
    assert trained.learner.get_state()["optimizer"]


# What is refused


@pytest.mark.parametrize("name", [RANK, MODEL, "learner_group/learner/state.pkl"])
@pytest.mark.parametrize(
    ("harm", "found"),
    [
        (lambda file: file.unlink(), r"is missing"),
        (lambda file: file.write_bytes(file.read_bytes()[:7]), r"has 7 bytes instead of \d+"),
    ],
    ids=["missing", "shortened"],
)
def test_a_damaged_checkpoint_is_refused_by_the_files_name(
    trained: Any, checkpoint: Path, name: str, harm: Callable[[Path], Any], found: str
) -> None:
    (checkpoint / name).stat()
    harm(checkpoint / name)
    with pytest.raises(
        ValueError, match=f"^{checkpoint} is damaged: {name} {found}; take an older one$"
    ):
        check_learners(trained.group, checkpoint)


def test_a_checkpoint_that_was_cut_short_is_refused(trained: Any, checkpoint: Path) -> None:
    (checkpoint / MANIFEST).rename(checkpoint / f"{MANIFEST}.partial")
    with pytest.raises(
        ValueError, match=rf"\(no {MANIFEST}\): saving it was cut short; take an older one$"
    ):
        check_learners(trained.group, checkpoint)


@pytest.mark.parametrize(
    ("change", "written"),
    [
        ({"num_learners": 2}, "2 Learners with sharding 'none'"),
        ({"sharding": "ZeRO 3"}, "1 Learner with sharding 'ZeRO 3'"),
        ({"num_learners": 4, "sharding": "ZeRO 1"}, "4 Learners with sharding 'ZeRO 1'"),
    ],
)
def test_a_checkpoint_of_other_learners_is_refused_with_both_sides_and_the_way_out(
    trained: Any, checkpoint: Path, change: dict[str, Any], written: str
) -> None:
    replace(read_manifest(checkpoint), **change).write(checkpoint)
    with pytest.raises(ValueError, match="was written by") as caught:
        check_learners(trained.group, checkpoint)
    message = str(caught.value)
    assert message.startswith(
        f"{checkpoint} was written by {written}, but this run has 1 Learner with sharding 'none'"
    )
    assert "learners.num_learners" in message
    assert "rllib-dapo export" in message
    assert "\n" not in message


def test_weights_that_did_not_come_back_stop_the_run(
    trained: Any, checkpoint: Path, make_trainer: MakeTrainer, config: DAPOConfig
) -> None:
    other = make_trainer(config.copy(copy_frozen=False))
    with pytest.raises(
        RuntimeError, match=r"weights were not restored: fingerprints \[.*\], not \[.*\]$"
    ):
        restore_learners(other.group, checkpoint, read_manifest(checkpoint))


def test_a_part_that_does_not_arrive_fails_the_save(
    config: DAPOConfig, make_trainer: MakeTrainer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    trainer = make_trainer(config)
    monkeypatch.setattr(torch, "save", lambda *args: None)
    with pytest.raises(RuntimeError, match="what Learner 0 has saved did not arrive"):
        save(trainer, tmp_path)
    assert not (tmp_path / MANIFEST).exists()
