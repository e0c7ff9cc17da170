"""job.py LIBRARY: makes the NCCL calls that it reads from standard input, one JSON list per line.

["CommInitRank", name, nranks, rank], ["CommInitAll", [names], [devices] or null], ["CommSplit", name, new, color, key],
["CommShrink", name, new, ranks less], ["CommGrow", name, new, nranks, rank], ["CommCount", name],
["AllReduce", name, count, datatype], ["GroupStart"], ...
["repeat", times, call, its arguments]. Answers [result, address or number].
"""

from __future__ import annotations

import ctypes
import json
import sys
from collections.abc import Callable
from ctypes import c_int, c_size_t, c_void_p
from typing import Any


class UniqueId(ctypes.Structure):
    """Passed by value, on the stack."""

    _fields_ = (("internal", ctypes.c_char * 128),)


library = ctypes.CDLL(sys.argv[1])
made: dict[str, c_void_p] = {}
BUFFER = ctypes.create_string_buffer(8)


def handle(name: str) -> c_void_p:
    return made.get(name, c_void_p())


def function(name: str) -> Callable[..., int]:
    return getattr(library, f"nccl{name}")  # type: ignore[no-any-return]


def init(name: str, new: str, nranks: int, rank: int) -> tuple[int, int | None]:
    made[new] = c_void_p()
    out = ctypes.byref(made[new])
    if name == "CommInitRank":
        result = function(name)(out, c_int(nranks), UniqueId(), c_int(rank))
    elif name == "CommInitRankConfig":
        result = function(name)(out, c_int(nranks), UniqueId(), c_int(rank), BUFFER)
    else:
        result = function(name)(out, c_int(nranks), c_int(rank), c_int(1), ctypes.byref(UniqueId()), None)
    return result, made[new].value


def init_all(names: list[str], devices: list[int] | None) -> tuple[int, None]:
    handles = (c_void_p * len(names))()
    listed = (c_int * len(names))(*devices) if devices else None
    result = function("CommInitAll")(handles, c_int(len(names)), listed)
    made.update({name: c_void_p(address) for name, address in zip(names, handles, strict=True)})
    return result, None


def split(name: str, new: str, color: int, key: int) -> tuple[int, int | None]:
    made[new] = c_void_p()
    result = function("CommSplit")(handle(name), c_int(color), c_int(key), ctypes.byref(made[new]), None)
    return result, made[new].value


def shrink(name: str, new: str, excluded: int) -> tuple[int, int | None]:
    made[new] = c_void_p()
    ranks = (c_int * excluded)(*range(excluded))
    out = ctypes.byref(made[new])
    return function("CommShrink")(handle(name), ranks, c_int(excluded), out, None, c_int(0)), made[new].value


def grow(name: str, new: str, nranks: int, rank: int) -> tuple[int, int | None]:
    made[new] = c_void_p()
    arguments = (c_int(nranks), ctypes.byref(UniqueId()), c_int(rank), ctypes.byref(made[new]), None)
    return function("CommGrow")(handle(name), *arguments), made[new].value


def collective(kind: str, name: str, count: int, datatype: int) -> tuple[int, None]:
    one = kind in ("Bcast", "Send", "Recv")
    between = {"AllGather": 0, "AlltoAll": 0, "Reduce": 2}.get(kind, 1)
    buffers = [BUFFER] if one else [BUFFER, ctypes.byref(BUFFER, 1)]
    middle = [c_int(0)] * between
    return function(kind)(*buffers, c_size_t(count), c_int(datatype), *middle, handle(name), None), None


def do(kind: str, *arguments: Any) -> tuple[int, Any]:
    if kind == "repeat":
        return [do(*arguments[1:]) for _ in range(arguments[0])][-1]
    if kind == "address":
        return 0, handle(*arguments).value
    if kind.startswith("CommInitRank"):
        return init(kind, *arguments)
    if kind == "CommInitAll":
        return init_all(*arguments)
    if kind == "CommSplit":
        return split(*arguments)
    if kind == "CommShrink":
        return shrink(*arguments)
    if kind == "CommGrow":
        return grow(*arguments)
    if kind in ("CommCount", "CommUserRank", "CommCuDevice", "CommGetAsyncError"):
        answer = c_int(-1)
        return function(kind)(handle(*arguments), ctypes.byref(answer)), answer.value
    if kind.startswith("Comm"):
        return function(kind)(handle(*arguments)), None
    if kind.startswith("Group"):
        return function(kind)(), None
    return collective(kind, *arguments)


print("ready", flush=True)
for line in sys.stdin:
    print(json.dumps(do(*json.loads(line))), flush=True)
