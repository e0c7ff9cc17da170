"""job.py LIBRARY: makes the NCCL calls that it reads from standard input, one JSON list per line.

["CommInitRank", name, nranks, rank], ["CommInitAll", [names], [devices] or null], ["CommSplit", name, new, color, key],
["CommCount", name], ["AllReduce", name, count, datatype], ["GroupStart"], ... Answers [result, address or number].
"""

from __future__ import annotations

import ctypes
import json
import sys
from collections.abc import Callable
from typing import Any

Pointer, Integer, Size = ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t


class UniqueId(ctypes.Structure):
    """Passed by value, on the stack."""

    _fields_ = (("internal", ctypes.c_char * 128),)


library = ctypes.CDLL(sys.argv[1])
made: dict[str, Any] = {}
BUFFER = ctypes.create_string_buffer(8)


def handle(name: str) -> Pointer:
    return made.get(name, Pointer())


def function(name: str) -> Callable[..., int]:
    return getattr(library, f"nccl{name}")  # type: ignore[no-any-return]


def init(name: str, new: str, nranks: int, rank: int) -> tuple[int, int | None]:
    made[new] = Pointer()
    out = ctypes.byref(made[new])
    if name == "CommInitRank":
        result = function(name)(out, Integer(nranks), UniqueId(), Integer(rank))
    elif name == "CommInitRankConfig":
        result = function(name)(out, Integer(nranks), UniqueId(), Integer(rank), BUFFER)
    else:
        result = function(name)(out, Integer(nranks), Integer(rank), Integer(1), ctypes.byref(UniqueId()), None)
    return result, made[new].value


def init_all(names: list[str], devices: list[int] | None) -> tuple[int, None]:
    handles = (Pointer * len(names))()
    listed = (Integer * len(names))(*devices) if devices else None
    result = function("CommInitAll")(handles, Integer(len(names)), listed)
    made.update({name: Pointer(address) for name, address in zip(names, handles, strict=True)})
    return result, None


def split(name: str, new: str, color: int, key: int) -> tuple[int, int | None]:
    made[new] = Pointer()
    result = function("CommSplit")(handle(name), Integer(color), Integer(key), ctypes.byref(made[new]), None)
    return result, made[new].value


def collective(kind: str, name: str, count: int, datatype: int) -> tuple[int, None]:
    one = kind in ("Bcast", "Send", "Recv")
    between = {"AllGather": 0, "AlltoAll": 0, "Reduce": 2}.get(kind, 1)
    buffers = [BUFFER] if one else [BUFFER, ctypes.byref(BUFFER, 1)]
    middle = [Integer(0)] * between
    return function(kind)(*buffers, Size(count), Integer(datatype), *middle, handle(name), None), None


def do(kind: str, *arguments: Any) -> tuple[int, Any]:
    if kind.startswith("CommInitRank"):
        return init(kind, *arguments)
    if kind == "CommInitAll":
        return init_all(*arguments)
    if kind == "CommSplit":
        return split(*arguments)
    if kind in ("CommCount", "CommUserRank", "CommCuDevice", "CommGetAsyncError"):
        answer = Integer(-1)
        return function(kind)(handle(*arguments), ctypes.byref(answer)), answer.value
    if kind.startswith("Comm"):
        return function(kind)(handle(*arguments)), None
    if kind.startswith("Group"):
        return function(kind)(), None
    return collective(kind, *arguments)


print("ready", flush=True)
for line in sys.stdin:
    print(json.dumps(do(*json.loads(line))), flush=True)
