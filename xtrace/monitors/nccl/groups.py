"""Which calls belong to which communicator of a process."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

from xtrace.kernel.syscall import lib
from xtrace.model.nccl import CallKey, Counters, Operation
from xtrace.model.nccl_names import FUNCTIONS, datatype_name, requested_bytes
from xtrace.monitors.nccl.calls import Known

NOTHING_KNOWN = Known(None, None, None)

Group = tuple[int, Known]


def group_calls(calls: Mapping[CallKey, Counters], known: Mapping[int, Known]) -> dict[Group, list[Operation]]:
    """The operations of one process by communicator; an unused communicator has an empty list.

    A key holds the size and rank known when the call began; if they were unknown then, the current ones apply.
    Communicators that reused an address are separated by size and rank.
    """
    sums: defaultdict[Group, dict[tuple[int, int], Counters]] = defaultdict(dict)
    for address, facts in known.items():
        sums[address, facts] = {}
    for key, counters in calls.items():
        now = known.get(key.communicator, NOTHING_KNOWN)
        nranks = key.nranks or now.nranks
        rank = now.rank if key.rank == lib.NCCL_NO_RANK else key.rank
        is_now = (nranks, rank) == (now.nranks, now.rank)
        group = sums[key.communicator, now if is_now else Known(nranks, rank, None)]
        operation = key.function, key.datatype
        group[operation] = group[operation] + counters if operation in group else counters
    return {
        group: [make_operation(*operation, group[1].nranks, counters) for operation, counters in sorted(found.items())]
        for group, found in sums.items()
    }


def make_operation(function: int, datatype: int, nranks: int | None, counters: Counters) -> Operation:
    """An Operation with the kernel's numbers replaced by names."""
    name = FUNCTIONS[function]
    return Operation(
        function=name,
        datatype=datatype_name(datatype),
        requested_bytes=requested_bytes(name, datatype, nranks, counters.elements),
        counters=counters,
    )
