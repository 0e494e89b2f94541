"""The machine that ``plan`` predicts for: its kind of device, how many, and the memory that they have."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from harness.budget import machines
from harness.budget.machines import container_memory, cpu, machine_at_hand, machine_named
from harness.errors import UserError
from harness.run.devices import visible_devices

KINDS = [
    {"name": "NVIDIA GeForce RTX 3090", "memory.total": "24576 MiB", "uuid": "GPU-1a-0"},
    {"name": "NVIDIA H100 80GB HBM3", "memory.total": "81559 MiB", "uuid": "GPU-2b-0"},
]


@pytest.mark.parametrize(
    ("variable", "name", "memory"),
    [
        ("0,1", "2 x rtx3090", 24576),
        ("1", "1 x h100", 81559),
        ("1,0", "2 x h100", 81559),
        ("GPU-2b-0", "1 x h100", 81559),
        ("GPU-2", "1 x h100", 81559),
        ("MIG-3c", "1 x rtx3090", 24576),
    ],
)
def test_of_several_kinds_the_first_visible_one_counts(variable: str, name: str, memory: int) -> None:
    machine = machine_at_hand(KINDS, visible_devices({"CUDA_VISIBLE_DEVICES": variable}), 2)
    assert machine.name == name and machine.device.memory == memory * 2**20


def test_no_visible_gpu_leaves_the_cpu() -> None:
    assert machine_at_hand(KINDS, visible_devices({"CUDA_VISIBLE_DEVICES": ""}), 2).device.name == "cpu"


@pytest.mark.parametrize("count", ["1025", "100000000000", 5000 * "9"])
def test_absurdly_many_devices_are_refused(count: str) -> None:
    with pytest.raises(UserError, match=r"more than 1,024 devices: give fewer, as in h100x8$"):
        machine_named(f"h100x{count}", 2)


def test_1024_devices_are_not_too_many() -> None:
    assert machine_named("h100x1024", 2).count == machine_named("h100x001024", 2).count == 1024


def limited(folder: Path, groups: str, files: dict[str, str]) -> float:
    """What a process may use whose groups are these, with these limits."""
    for name, text in files.items():
        (folder / "root" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "root" / name).write_text(text + "\n")
    (folder / "cgroup").write_text(groups)
    return container_memory(folder / "cgroup", folder / "root")


@pytest.mark.parametrize(
    ("groups", "files", "expected"),
    [
        ("0::/\n", {"memory.max": "1000"}, 1000),
        ("0::/\n", {"memory.max": "max"}, math.inf),
        ("0::/a/b\n", {"a/b/memory.max": "max", "a/memory.max": "500"}, 500),
        ("0::/a\n", {"memory.max": "300"}, 300),  # the path is the host's, the mount the container's
        ("5:cpu:/a\n4:memory:/a\n0::/\n", {"memory/a/memory.limit_in_bytes": "700"}, 700),
        ("4:memory:/docker/x\n", {"memory/memory.limit_in_bytes": "800"}, 800),
        ("5:cpu:/a\n", {"memory/memory.limit_in_bytes": "800"}, math.inf),
    ],
)
def test_the_limit_of_a_container_by_either_version(
    tmp_path: Path, groups: str, files: dict[str, str], expected: float
) -> None:
    assert limited(tmp_path, groups, files) == expected


def test_no_control_groups_no_limit(tmp_path: Path) -> None:
    assert container_memory(tmp_path / "absent", tmp_path) == math.inf


def test_the_cpu_has_the_memory_of_its_container(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machines, "container_memory", lambda: 2.0**20)
    assert cpu(2).memory == 2.0**20
    monkeypatch.setattr(machines, "container_memory", lambda: math.inf)
    assert 2.0**20 < cpu(2).memory < math.inf
