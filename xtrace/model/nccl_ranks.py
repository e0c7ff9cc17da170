"""What is known of each rank of a communicator: the calls it made, and the one it is in. No I/O, nothing of the kernel.

Times are ns since the epoch, by the clock of the rank's host.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

GROUP_END = "GroupEnd"
SENDS, RECEIVES = "Send", "Recv"


class Identity(str, Enum):
    """What tells that communicators of several processes are one."""

    UNIQUE_ID = "unique_id"
    """the id that all ranks gave to the call which made it"""
    PARENT = "parent"
    """its parent, colour and order among the children"""
    PROCESS = "process"
    """all its ranks are in one process"""
    ENVIRONMENT = "environment"
    """only what the processes' environment says of their job: it may be another communicator of these"""


class Job(NamedTuple):
    """What a process's environment says of its job."""

    name: str
    """scheduler or launcher, and its name for the job: `slurm:4711.0`"""
    rank: int | None = None
    world_size: int | None = None
    local_rank: int | None = None
    visible_devices: str | None = None
    """CUDA_VISIBLE_DEVICES"""


class Arguments(NamedTuple):
    """Function and arguments of a call, which must agree on all ranks of a collective."""

    function: str
    datatype: str | None = None
    elements: int | None = None
    """its count; None if it has none"""
    root: int | None = None
    """root of a collective, or the other rank of a send"""

    def comparable(self) -> Arguments:
        """The same for all functions that are one on the wire."""
        plain = self.function.removesuffix("Config")
        return self._replace(function="Broadcast" if plain == "Bcast" else plain)

    def __str__(self) -> str:
        if self.elements is None:
            return self.function
        root = "" if self.root is None else f", {'peer' if self.function in (SENDS, RECEIVES) else 'root'} {self.root}"
        return f"{self.function}({self.elements} x {self.datatype}{root})"


class NumberedCall(NamedTuple):
    """A collective that a rank made."""

    number: int
    begin_ns: int
    arguments: Arguments


class OpenCall(NamedTuple):
    """A call that has not returned."""

    arguments: Arguments
    since_ns: int
    thread: int
    number: int | None = None
    """of a collective on the communicator"""
    is_other: bool = False
    """whether it is on another communicator of the process, or on none that is known"""
    is_from_stack: bool = False
    """whether it began before the probes, and was found on the thread's stack: since_ns is when it was found"""


class PeerCount(NamedTuple):
    """Sends to and receives from another rank."""

    peer: int
    sends: int
    receives: int
    last_send_ns: int | None
    last_receive_ns: int | None


@dataclass(frozen=True)
class Rank:
    """One rank of a communicator, as last seen."""

    host: str
    pid: int
    at_ns: int
    """when this was so"""
    command: str = ""
    container: str | None = None
    pod: str | None = None
    job: Job | None = None
    gpus: tuple[int, ...] | None = None
    """numbers of the NVIDIA devices that its process has open; None: not known"""
    communicator: str | None = None
    """the same on all hosts; None if nothing tells"""
    identity: Identity | None = None
    address: int | None = None
    """None while it is being made"""
    nranks: int | None = None
    rank: int | None = None
    is_whole: bool = False
    """whether all its calls were seen, so that their numbers are the same on all ranks"""
    is_joined: bool = True
    """whether the call that makes it has returned"""
    begun: int = 0
    """collectives"""
    returned: int | None = 0
    """None without return probes"""
    last_begin_ns: int | None = None
    last_return_ns: int | None = None
    open: OpenCall | None = None
    is_open_known: bool = True
    """whether it would be known if it were in a call: not without return probes, nor in a call that began before the
    probes unless the stacks of its threads were read"""
    sleeps_in: str | None = None
    """the kernel's function in which that thread, else the main thread, sleeps; None if it runs, or nothing tells"""
    state: str | None = None
    """of the thread that is in the call, else of the main thread, as /proc has it: R, S, D, T, ..."""
    ended: bool = False
    exit: str | None = None
    """how the process ended; None: not known"""
    left: str | None = None
    """the function by which it has ended its part of the communicator"""
    calls: tuple[NumberedCall, ...] = ()
    """some of its calls, the last one among them"""
    peers: tuple[PeerCount, ...] = ()
    lateness: tuple[int, ...] = ()
    """how many of the calls that were compared in the interval are in each class of nccl_lateness; (): none were"""
    are_peers_known: bool = True
    """whether all sends and receives were counted"""

    @property
    def made(self) -> int:
        """Number of the last call it made; 0 is the one that makes the communicator."""
        return self.begun if self.is_joined else 0

    @property
    def is_there(self) -> bool:
        """Whether it can still make calls on the communicator."""
        return not self.ended and self.left is None

    @property
    def quiet_since_ns(self) -> int:
        """When it last began or ended something on the communicator; 0 if never. What its process does on others may
        go on for ever: nobody here has anything of it.
        """
        times = [self.last_begin_ns or 0, self.last_return_ns or 0]
        times += [when or 0 for peer in self.peers for when in (peer.last_send_ns, peer.last_receive_ns)]
        if self.open is not None and not self.open.is_other:
            times.append(self.open.since_ns)
        return max(times)

    @property
    def waits(self) -> bool:
        """Whether it is in a call that all ranks must make."""
        call = self.open
        return call is not None and not call.is_other and call.arguments.function not in (SENDS, RECEIVES, GROUP_END)

    def call(self, number: int) -> NumberedCall | None:
        """One of its calls, if kept."""
        return next((call for call in self.calls if call.number == number), None)


def without_replaced(ranks: Iterable[Rank]) -> Iterator[Rank]:
    """All but those that are no more and have a successor: a job started anew may have the earlier one's name.

    Without a name nothing says that one is the other's successor.
    """
    found = list(ranks)
    named = [rank for rank in found if rank.communicator is not None and rank.rank is not None]
    there = {(rank.communicator, rank.rank) for rank in named if rank.is_there}
    return (rank for rank in found if rank.is_there or (rank.communicator, rank.rank) not in there)
