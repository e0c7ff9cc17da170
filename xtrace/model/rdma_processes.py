"""Queue pairs by owner."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from xtrace.model.rdma import Process, QueuePairRecord


@dataclass
class Owned:
    """The queue pairs of one process or kernel module on one device."""

    device: str
    owner: Process
    states: Counter[str] = field(default_factory=Counter)
    types: Counter[str] = field(default_factory=Counter)

    @property
    def count(self) -> int:
        """Number of queue pairs."""
        return sum(self.states.values())


def by_process(records: Iterable[QueuePairRecord]) -> list[Owned]:
    """Grouped by device and owner, most queue pairs first."""
    found: dict[tuple[str, Process], Owned] = {}
    for record in records:
        key = (record.id.device, record.process)
        owned = found.get(key)
        if owned is None:
            owned = found[key] = Owned(*key)
        owned.states[record.state] += 1
        owned.types[record.type] += 1
    return sorted(found.values(), key=lambda owned: (-owned.count, owned.device, owned.owner.pid or 0))
