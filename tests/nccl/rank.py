"""rank.py LIBRARY RANK RANKS FAULT DIRECTORY: one rank of a job on the stand-in, which calls AllReduce in a loop.

FAULT is what this rank does wrong, once the file `go` is in the directory; `none` for all others. It says
`begins` before it joins its communicator, and `ready` once it has made some calls, at once if its fault comes before.
"""

from __future__ import annotations

import ctypes
import os
import sys
import time
from ctypes import c_int, c_size_t, c_void_p
from pathlib import Path

LIBRARY, FAULT = sys.argv[1], sys.argv[4]
RANK, RANKS = int(sys.argv[2]), int(sys.argv[3])
GO = Path(sys.argv[5]) / "go"
OTHER = (RANK + 2) % RANKS
EVERY_S = 0.02
LATE_S = 0.2


class UniqueId(ctypes.Structure):
    """Passed by value, on the stack."""

    _fields_ = (("internal", ctypes.c_char * 128),)


library = ctypes.CDLL(LIBRARY)
BUFFER = ctypes.create_string_buffer(16)
comm = c_void_p()


def reduce(count: int = 1000, datatype: int = 7) -> None:
    library.ncclAllReduce(BUFFER, BUFFER, c_size_t(count), c_int(datatype), c_int(0), comm, None)


def broadcast(root: int) -> None:
    library.ncclBroadcast(BUFFER, BUFFER, c_size_t(1000), c_int(7), c_int(root), comm, None)


def step(number: int) -> None:
    """Every eighth call has a root."""
    if number % 8 == 7:
        broadcast(0)
    else:
        reduce()


def fail(number: int) -> None:
    """One step, done wrong; returns only where the fault is one that goes on."""
    if FAULT == "missing":
        print("fails", flush=True)
        time.sleep(3600)
    elif FAULT == "late":
        time.sleep(LATE_S)
        step(number)
    elif FAULT == "count":
        reduce(count=999)
    elif FAULT == "datatype":
        reduce(datatype=9)
    elif FAULT == "root":
        broadcast(1)
    elif FAULT == "send":
        library.ncclSend(BUFFER, c_size_t(8), c_int(7), c_int(OTHER), comm, None)
    elif FAULT == "abort":
        library.ncclCommAbort(comm)
        time.sleep(3600)
    elif FAULT == "exec":
        os.execvp("sleep", ["sleep", "3600"])
    elif FAULT == "group_end":
        os.environ["STANDIN_STUCK"] = "GroupEnd"
        library.ncclGroupStart()
        library.ncclGroupEnd()
    else:
        step(number)


if FAULT == "slow_start":
    print("ready", flush=True)
    time.sleep(3600)
if FAULT == "init":
    os.environ["STANDIN_STUCK"] = "CommInitRank"
    print("ready", flush=True)
print("begins", flush=True)
identifier = UniqueId(b"a job's unique id")
library.ncclCommInitRank(ctypes.byref(comm), c_int(RANKS), identifier, c_int(RANK))
number = 0
while True:
    number += 1
    if FAULT != "none" and GO.exists():
        # the others make a call with the same arguments, or with a root, only where the fault is in these
        while FAULT in ("count", "datatype", "root") and (number % 8 == 7) != (FAULT == "root"):
            step(number)
            number += 1
        fail(number)
    else:
        step(number)
    if number == 20:
        print("ready", flush=True)
    time.sleep(EVERY_S)
