"""Control groups of workers, on directories instead of the kernel's."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest

from wad.systemd.cgroups import Groups, NoGroups, WorkerLimits, divide


@pytest.fixture
def mount(tmp_path: Path) -> Path:
    """A mounted hierarchy in which a unit's group is ours."""
    unit = tmp_path / "system.slice" / "wad.service"
    unit.mkdir(parents=True)
    (unit / "cgroup.procs").touch()
    (unit / "cgroup.controllers").write_text("cpu io memory pids\n")
    (unit / "cgroup.subtree_control").touch()
    return tmp_path


def own(tmp_path: Path, text: str = "0::/system.slice/wad.service\n") -> Path:
    """/proc/self/cgroup."""
    path = tmp_path / "cgroup"
    path.write_text(text)
    return path


def test_the_daemon_moves_into_a_group_of_its_own(mount: Path) -> None:
    """A group has either processes or groups below it."""
    groups = divide(100, own(mount), mount)
    assert isinstance(groups, Groups)
    assert groups.base == mount / "system.slice" / "wad.service"
    assert (groups.base / "daemon" / "cgroup.procs").read_text() == str(os.getpid())
    assert (groups.base / "cgroup.subtree_control").read_text() == "+pids"  # the last one written


def test_the_daemon_has_the_most_weight(mount: Path) -> None:
    """Three hundred busy workers leave it three quarters of the CPU."""
    weight = mount / "system.slice" / "wad.service" / "daemon" / "cpu.weight"
    weight.parent.mkdir()
    weight.touch()
    groups = divide(100, own(mount), mount)
    assert isinstance(groups, Groups)
    assert groups.weighs
    assert weight.read_text() == "10000"


def test_a_host_with_version_1_as_well(mount: Path, tmp_path: Path) -> None:
    """Where both versions are mounted, version 2 is below `unified`."""
    (tmp_path / "hybrid").mkdir()
    (mount / "system.slice").rename(tmp_path / "hybrid" / "unified")
    groups = divide(100, own(mount, "1:cpu:/x\n0::/wad.service\n"), tmp_path / "hybrid")
    assert isinstance(groups, Groups)
    assert groups.base == tmp_path / "hybrid" / "unified" / "wad.service"


@pytest.mark.parametrize(
    "text",
    ["0::/\n", "1:cpu:/wad.service\n", "0::/../../etc\n", "0::/system.slice/other.service\n"],
    ids=["the root", "version 1 alone", "outside of our view", "not there"],
)
def test_nothing_to_divide(mount: Path, text: str) -> None:
    """In a shell, or where nothing was delegated, workers run as they are."""
    divided = divide(100, own(mount, text), mount)
    assert divided == NoGroups("this process is not in a control group of version 2")
    assert divided.limits == WorkerLimits(None, None, divided.why)


def test_a_refusal_of_the_kernel_is_reported(mount: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The accounts work without limits, and the log reports it."""
    (mount / "system.slice" / "wad.service" / "daemon").touch()
    with caplog.at_level(logging.WARNING):
        divided = divide(100, own(mount), mount)
    assert "without control groups" in caplog.text
    assert divided.limits.why.startswith("the control group cannot be divided: ")


@pytest.mark.parametrize(
    ("memory", "offered", "limits"),
    [
        (100, "cpu memory pids", WorkerLimits(100 << 20, 512)),
        (0, "cpu memory pids", WorkerLimits(None, 512)),
        (
            0,
            "",
            WorkerLimits(why="version 2 of control groups has no pids controller on this machine"),
        ),
        (
            100,
            "cpu pids",
            WorkerLimits(
                None, 512, "version 2 of control groups has no memory controller on this machine"
            ),
        ),
        (
            100,
            "hugetlb",
            WorkerLimits(
                why="version 2 of control groups has no memory and pids controller on this machine"
            ),
        ),
    ],
    ids=["all", "none wanted", "none wanted, none there", "no memory", "neither"],
)
def test_the_limits_of_a_worker(
    mount: Path, memory: int, offered: str, limits: WorkerLimits
) -> None:
    """The limits that the machine supports; a missing one has its reason."""
    (mount / "system.slice" / "wad.service" / "cgroup.controllers").write_text(f"{offered}\n")
    assert divide(memory, own(mount), mount).limits == limits


@pytest.fixture
def groups(tmp_path: Path) -> Groups:
    """Groups with a limit of 100 MB."""
    return Groups(tmp_path, 100 << 20)


def limits(directory: Path) -> None:
    """What a kernel with every controller puts into a new group."""
    directory.mkdir()
    for name in (
        *("memory.high", "memory.max", "memory.oom.group", "pids.max", "cgroup.procs"),
        "cpu.weight",
    ):
        (directory / name).touch()


def test_a_worker_gets_a_group_with_limits(groups: Groups) -> None:
    """Slowed down at three quarters, killed as a whole at the limit, its threads counted."""
    group = groups.base / "worker-a1"
    limits(group)
    groups.take("a1", 4711)
    assert {path.name: path.read_text() for path in group.iterdir()} == {
        "memory.high": str(75 << 20),
        "memory.max": str(100 << 20),
        "memory.oom.group": "1",
        "pids.max": "512",
        "cgroup.procs": "4711",
        "cpu.weight": "10",
    }


def test_no_limit_of_memory(tmp_path: Path) -> None:
    """0 means none."""
    group = tmp_path / "worker-a1"
    limits(group)
    Groups(tmp_path, 0).take("a1", 4711)
    assert (group / "memory.max").read_text() == ""


def test_only_the_controllers_that_there_are(groups: Groups) -> None:
    """A machine without the memory controller still counts the worker as one."""
    groups.take("a1", 4711)
    assert [path.name for path in (groups.base / "worker-a1").iterdir()] == ["cgroup.procs"]


def test_a_worker_continues_without_a_group(
    groups: Groups, caplog: pytest.LogCaptureFixture
) -> None:
    """No limits are better than no account."""
    (groups.base / "worker-a1").touch()
    with caplog.at_level(logging.WARNING):
        groups.take("a1", 4711)
    assert "no control group" in caplog.text


def test_the_group_of_a_gone_worker_is_taken_away(groups: Groups) -> None:
    """So that none is left over; taking it away twice is nothing."""
    (groups.base / "worker-a1").mkdir()
    groups.drop("a1")
    groups.drop("a1")
    assert not (groups.base / "worker-a1").exists()


def test_a_group_that_is_still_used_stays(groups: Groups) -> None:
    """The next worker of the account may be in it already."""
    limits(groups.base / "worker-a1")
    groups.drop("a1")
    assert (groups.base / "worker-a1").exists()


def test_how_long_a_worker_waited_for_a_processor(tmp_path: Path) -> None:
    """From its group; 0 if the kernel does not count it."""
    groups = Groups(tmp_path, 0)
    assert groups.starved("a") == 0.0
    pressure = tmp_path / "worker-a" / "cpu.pressure"
    pressure.parent.mkdir()
    pressure.write_text(
        "some avg10=0.00 avg60=0.00 avg300=0.00 total=2500000\n"
        "full avg10=0.00 avg60=0.00 avg300=0.00 total=1\n"
    )
    assert groups.starved("a") == 2.5
    pressure.write_text("no such thing\n")
    assert groups.starved("a") == 0.0
