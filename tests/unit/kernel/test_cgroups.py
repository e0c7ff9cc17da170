"""Where control groups are mounted."""

from __future__ import annotations

from pathlib import Path

from xtrace.kernel.cgroups import mount_point

HYBRID = (
    "30 25 0:26 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
    "31 25 0:27 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n"
)
ELSEWHERE = "40 25 0:27 / /mnt/two\\040words rw shared:5 - cgroup2 none rw\n"


def test_the_machine_s_own_mount_goes_before_others(tmp_path: Path) -> None:
    mounts = tmp_path / "mountinfo"
    mounts.write_text(ELSEWHERE + HYBRID)
    assert mount_point(mounts) == Path("/sys/fs/cgroup/unified")
    mounts.write_text(ELSEWHERE)
    assert mount_point(mounts) == Path("/mnt/two words")
    mounts.write_text(HYBRID.splitlines()[0] + "\n")
    assert mount_point(mounts) is None
