"""GPUs of a process, by the device files it has open."""

from __future__ import annotations

from pathlib import Path

import pytest

from xtrace.kernel import gpus
from xtrace.monitors.nccl import gpus as remembered
from xtrace.monitors.nccl.gpus import GPUS_NS, Gpus


@pytest.fixture
def descriptors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The descriptors of process 7."""
    made = tmp_path / "7/fd"
    made.mkdir(parents=True)
    monkeypatch.setattr(gpus, "procfs", lambda: tmp_path)
    return made


def test_devices_that_are_open_are_told_once(descriptors: Path) -> None:
    names = ("/dev/nvidia3", "/dev/nvidia3", "/dev/nvidia11", "/dev/nvidiactl", "/dev/nvidia-uvm", "/tmp/dev/nvidia1")
    for number, name in enumerate(names):
        (descriptors / str(number)).symlink_to(name)
    assert gpus.open_gpus(7) == (3, 11)


def test_none_are_open_is_another_answer_than_unknown(descriptors: Path) -> None:
    assert gpus.open_gpus(7) == ()
    assert gpus.open_gpus(8) is None


def test_processes_are_looked_at_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: dict[int, tuple[int, ...]] = {7: (1,)}
    monkeypatch.setattr(remembered, "open_gpus", opened.get)
    known = Gpus()
    assert known.of(7, 100, 0) == (1,)
    opened[7] = (2,)
    assert known.of(7, 100, GPUS_NS - 1) == (1,)
    assert known.of(7, None, GPUS_NS) == (1,), "it has ended"
    assert known.of(7, 100, GPUS_NS) == (2,)
    opened[7] = (3,)
    assert known.of(7, 101, GPUS_NS) == (3,), "another process has its number"
