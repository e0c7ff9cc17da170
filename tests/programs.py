"""The BPF programs that the kernel has, asked of it directly: before and after each test bpftool takes too long."""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
from collections.abc import Iterator

BPF_PROG_GET_NEXT_ID, BPF_PROG_GET_FD_BY_ID, BPF_OBJ_GET_INFO_BY_FD = 11, 13, 15
SYSCALL = {"x86_64": 321, "aarch64": 280}[platform.machine()]

NAME_AT, NAME_BYTES = 64, 16
"""Where struct bpf_prog_info has the name (linux/bpf.h)."""

_libc = ctypes.CDLL(None, use_errno=True)


def _bpf(command: int, attributes: ctypes.Array[ctypes.c_char]) -> int:
    """The result; OSError if it fails."""
    result: int = _libc.syscall(SYSCALL, command, attributes, len(attributes))
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


def _ids() -> Iterator[int]:
    last = 0
    while True:
        attributes = ctypes.create_string_buffer(struct.pack("=II4x", last, 0), 12)
        try:
            _bpf(BPF_PROG_GET_NEXT_ID, attributes)
        except OSError as error:
            if error.errno == errno.ENOENT:
                return
            raise
        (last,) = struct.unpack_from("=I", attributes, 4)
        yield last


def _name(descriptor: int) -> str:
    info = ctypes.create_string_buffer(NAME_AT + NAME_BYTES)
    request = struct.pack("=IIQ", descriptor, len(info), ctypes.addressof(info))
    _bpf(BPF_OBJ_GET_INFO_BY_FD, ctypes.create_string_buffer(request, len(request)))
    return info.raw[NAME_AT:].partition(b"\0")[0].decode()


def loaded() -> dict[int, str]:
    """Id and name of each program. PermissionError without CAP_SYS_ADMIN."""
    names = {}
    for number in _ids():
        try:
            descriptor = _bpf(BPF_PROG_GET_FD_BY_ID, ctypes.create_string_buffer(struct.pack("=III", number, 0, 0), 12))
        except FileNotFoundError:  # freed meanwhile
            continue
        try:
            names[number] = _name(descriptor)
        finally:
            os.close(descriptor)
    return names
