"""Descriptions of machines: by name, by a file, and what is wrong with one."""

from __future__ import annotations

from pathlib import Path

import pytest

from rllib_dapo.capacity.asked_hardware import chosen_hardware
from rllib_dapo.capacity.hardware import GIB, GPUS, gpu_named, read_hardware
from rllib_dapo.capacity.this_machine import recognized_gpu, this_machine
from rllib_dapo.findings import SettingsError


def _file(folder: Path, text: str) -> Path:
    path = folder / "machines.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_file_describes_machines(tmp_path: Path) -> None:
    hardware = read_hardware(
        _file(
            tmp_path,
            "{gpu: a100-80gb, gpus_per_node: 8, nodes: 2, memory_gib: 500, cpus_per_node: 96, "
            "network_gb_s: 100}",
        )
    )
    assert hardware.gpus == 16
    assert hardware.gpu == GPUS["a100-80gb"]
    assert hardware.memory_per_node == 500 * GIB
    assert hardware.network == 100e9
    assert hardware.name == "machines"


def test_a_gpu_may_be_described_by_what_differs(tmp_path: Path) -> None:
    hardware = read_hardware(_file(tmp_path, "gpu: {name: h100-80gb, memory_gib: 60}"))
    assert hardware.gpu is not None
    assert hardware.gpu.memory == 60 * GIB
    assert hardware.gpu.bandwidth == GPUS["h100-80gb"].bandwidth
    assert hardware.gpus == 1


WRONG = {
    "a list": ("[1]", "must hold keys"),
    "not YAML": ("{gpu: [", "not YAML"),
    "a misspelt key": ("{gpus_per_nod: 8}", "did you mean 'gpus_per_node'"),
    "a negative size": ("{memory_gib: -1}", "memory_gib=-1 must be a number above 0"),
    "a text for a size": ("{memory_gib: much}", "must be a number above 0"),
    "a truth for a size": ("{nodes: true}", "must be a number above 0"),
    "half a node": ("{nodes: 1.5}", "must be a whole number"),
    "no end of nodes": ("{nodes: .inf}", "must be a number above 0"),
    "GPUs of no kind": ("{gpus_per_node: 8}", "gpu is not set"),
    "an unknown kind": ("{gpu: h1000}", "no such GPU is known"),
    "several kinds": ("{gpu: a100}", "several are called so"),
    "a kind half described": ("{gpu: {name: new, memory_gib: 90}}", "it needs bfloat16_tflops"),
    "a misspelt number": ("{gpu: {name: l4-24gb, memry_gib: 9}}", "unknown key gpu.memry_gib"),
    "a number for a kind": ("{gpu: 80}", "must be a name such as h100-80gb"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_description_is_refused_in_one_line(case: str, tmp_path: Path) -> None:
    text, told = WRONG[case]
    with pytest.raises(SettingsError) as refusal:
        read_hardware(_file(tmp_path, text))
    assert told in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_a_file_that_is_not_there_is_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"none\.yaml: No such file"):
        read_hardware(tmp_path / "none.yaml")


def test_a_kind_may_be_named_without_its_memory() -> None:
    assert gpu_named("H200").name == "h200-141gb"
    assert gpu_named(" h100-80GB ").name == "h100-80gb"


def test_as_many_machines_as_the_run_asks_for() -> None:
    hardware = chosen_hardware(20, "h100-80gb")
    assert (hardware.nodes, hardware.gpus_per_node) == (3, 8)
    assert chosen_hardware(2, "h100-80gb").gpus == 2
    assert chosen_hardware(20, "h100-80gb", nodes=2, gpus_per_node=4).gpus == 8


@pytest.mark.parametrize("option", ["nodes", "gpus_per_node"])
def test_numbers_of_gpus_need_their_kind(option: str) -> None:
    with pytest.raises(SettingsError, match="add --gpu"):
        chosen_hardware(1, None, **{option: 2})


def test_this_machine_has_cores_and_memory() -> None:
    here = this_machine()
    assert here.cpus_per_node >= 1
    assert here.memory_per_node is not None
    assert here.memory_per_node > GIB


@pytest.mark.parametrize(
    ("told", "kind"),
    [
        ("NVIDIA H100 80GB HBM3", "h100-80gb"),
        ("NVIDIA H100 PCIe", "h100-pcie-80gb"),
        ("NVIDIA A100-SXM4-40GB", "a100-40gb"),
        ("NVIDIA A100-SXM4-80GB", "a100-80gb"),
        ("NVIDIA GeForce RTX 4090", "rtx4090-24gb"),
        ("NVIDIA L4", "l4-24gb"),
        ("NVIDIA L40S", "l40s-48gb"),
    ],
)
def test_a_gpu_is_recognized_by_what_the_driver_calls_it(told: str, kind: str) -> None:
    gpu = recognized_gpu(told, GPUS[kind].memory * 0.99)
    assert gpu.bandwidth == GPUS[kind].bandwidth
    assert gpu.memory == GPUS[kind].memory * 0.99


def test_an_unknown_gpu_keeps_its_memory() -> None:
    assert recognized_gpu("Some New GPU", 5e10).memory == 5e10
