"""rank.py LIBRARY RANK[,RANK...] RANKS FAULT DIRECTORY: ranks of a job on the stand-in, which call AllReduce in a loop.

Several ranks are threads of one process. FAULT is what the first of them does wrong, once the file `go` is in the
directory; `none` for all others. It says `begins` before it joins its communicator, and `ready` once all ranks here
have made some calls, at once if the fault comes before.
"""

from __future__ import annotations

import ctypes
import os
import sys
import threading
import time
from ctypes import c_int, c_size_t, c_void_p
from pathlib import Path

LIBRARY, FAULT = sys.argv[1], sys.argv[4]
HERE, RANKS = [int(number) for number in sys.argv[2].split(",")], int(sys.argv[3])
GO = Path(sys.argv[5]) / "go"
EVERY_S = 0.02
LATE_S = 0.2
READY = 20
"""Calls."""


class UniqueId(ctypes.Structure):
    """Passed by value, on the stack."""

    _fields_ = (("internal", ctypes.c_char * 128),)


library = ctypes.CDLL(LIBRARY)
BUFFER = ctypes.create_string_buffer(16)
are_ready = threading.Barrier(len(HERE), action=lambda: print("ready", flush=True))


class Rank:
    """One rank, which has this thread."""

    def __init__(self, rank: int, fault: str) -> None:
        self.rank, self.fault = rank, fault
        self.comm = c_void_p()

    def join(self) -> None:
        identifier = UniqueId(b"a job's unique id")
        library.ncclCommInitRank(ctypes.byref(self.comm), c_int(RANKS), identifier, c_int(self.rank))

    def reduce(self, count: int = 1000, datatype: int = 7) -> None:
        library.ncclAllReduce(BUFFER, BUFFER, c_size_t(count), c_int(datatype), c_int(0), self.comm, None)

    def broadcast(self, root: int) -> None:
        library.ncclBroadcast(BUFFER, BUFFER, c_size_t(1000), c_int(7), c_int(root), self.comm, None)

    def send(self) -> None:
        other = (self.rank + 2) % RANKS
        library.ncclSend(BUFFER, c_size_t(8), c_int(7), c_int(other), self.comm, None)

    def step(self, number: int) -> None:
        """Every eighth call has a root."""
        if number % 8 == 7:
            self.broadcast(0)
        else:
            self.reduce()

    def fail(self, number: int) -> None:
        """One step, done wrong; returns only where the fault is one that goes on."""
        if self.fault == "missing":
            print("fails", flush=True)
            time.sleep(3600)
        elif self.fault == "late":
            time.sleep(LATE_S)
            self.step(number)
        elif self.fault == "count":
            self.reduce(count=999)
        elif self.fault == "datatype":
            self.reduce(datatype=9)
        elif self.fault == "root":
            self.broadcast(1)
        elif self.fault == "send":
            self.send()
        elif self.fault == "abort":
            library.ncclCommAbort(self.comm)
            time.sleep(3600)
        elif self.fault == "exec":
            os.execvp("sleep", ["sleep", "3600"])
        elif self.fault == "group_end":
            os.environ["STANDIN_STUCK"] = "GroupEnd"
            library.ncclGroupStart()
            library.ncclGroupEnd()
        else:
            self.step(number)

    def run(self) -> None:
        self.join()
        number = 0
        while True:
            number += 1
            if self.fault != "none" and GO.exists():
                # the others make a call with the same arguments, or with a root, only where the fault is in these
                while self.fault in ("count", "datatype", "root") and (number % 8 == 7) != (self.fault == "root"):
                    self.step(number)
                    number += 1
                self.fail(number)
            else:
                self.step(number)
            if number == READY:
                are_ready.wait()
            time.sleep(EVERY_S)


if FAULT == "slow_start":
    print("ready", flush=True)
    time.sleep(3600)
if FAULT == "init":
    os.environ["STANDIN_STUCK"] = "CommInitRank"
    print("ready", flush=True)
print("begins", flush=True)
for other in HERE[1:]:
    threading.Thread(target=Rank(other, "none").run, daemon=True).start()
Rank(HERE[0], FAULT).run()
