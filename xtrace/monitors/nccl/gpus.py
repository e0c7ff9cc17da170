"""Which GPUs processes have open, looked up now and then."""

from __future__ import annotations

from xtrace.kernel.gpus import open_gpus

GPUS_NS = 10_000_000_000
"""How long it is not looked again which GPUs a process has open."""
FORGET_NS = 6 * GPUS_NS


class Gpus:
    """Remembers the answers."""

    def __init__(self) -> None:
        self._found: dict[int, tuple[int | None, int, tuple[int, ...] | None]] = {}
        """process id -> start time of the process, when it was looked up, GPUs"""

    def of(self, pid: int, start_time: int | None, now_ns: int) -> tuple[int, ...] | None:
        """Those of a process; of one that has ended (`start_time` None) as last known."""
        known = self._found.get(pid)
        if known and (start_time is None or (start_time == known[0] and now_ns - known[1] < GPUS_NS)):
            return known[2]
        self._found = {other: one for other, one in self._found.items() if now_ns - one[1] < FORGET_NS}
        self._found[pid] = start_time, now_ns, open_gpus(pid)
        return self._found[pid][2]
