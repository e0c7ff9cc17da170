"""Packets that an interface's queue drops behind the egress hook."""

from __future__ import annotations

from xtrace.kernel.tc import NO_QUEUE, RootQdisc
from xtrace.messages import Say

HALF = 1 << 31
WHOLE = 1 << 32


class Queue:
    """The drops of one interface's root qdisc, which include those of its children."""

    def __init__(self, name: str, report: Say) -> None:
        self.name = name
        self._report = report
        self._last: RootQdisc | None = None
        self._reported = False
        self.dropped: int | None = None
        """between the last two samples; None if unknown, or without a queue"""

    def sample(self, root: RootQdisc | None) -> None:
        """Note the drops since the previous sample; report once if there are any. None: unknown."""
        last, self._last, self.dropped = self._last, root, None
        if root is None or last is None or root.kind == NO_QUEUE:
            return
        at_least = root.drops
        if (root.kind, root.handle) == (last.kind, last.handle):
            if root.drops >= last.drops:
                self.dropped = at_least = root.drops - last.drops
            elif last.drops >= HALF > root.drops:
                # the kernel's counter has 32 bits; else it is another qdisc
                self.dropped = at_least = root.drops - last.drops + WHOLE
        elif last.kind == NO_QUEUE:
            self.dropped = root.drops  # all of them since it was added
        self._report_once(root, at_least)

    def _report_once(self, root: RootQdisc, dropped: int) -> None:
        """`dropped`: at least; what a queue dropped at last that is replaced now is not known."""
        if not dropped or self._reported:
            return
        self._reported = True
        self._report(
            f"{self.name}: the queue ({root.kind}) dropped {dropped} packets after they were counted:"
            " egress is what is handed to the queue, nic_packets what the interface sent"
        )
