"""Frames by the number of their flow, for tests that ask how much was counted rather than as what."""

from __future__ import annotations

import random
from collections.abc import Sequence

from tests.kernel.case import over_ipv4
from tests.support.frames import IPV4, TCP, UDP, ethernet, ipv4, tcp, udp
from xtrace.model.flow import PacketCount

MANY = 12_000
"""Far more flows than the CPUs keep as recent ones, and the hash has collisions."""


def frame_of(flow: int) -> bytes:
    """A frame of one of 2^24 flows, of a length of its own."""
    source = f"10.{flow >> 16}.{flow >> 8 & 255}.{flow & 255}"
    return ethernet(IPV4, ipv4(UDP, udp(flow & 0xFFFF, 9, bytes(flow % 97)), src=source))


def frames_of(flows: int) -> list[bytes]:
    return [frame_of(flow) for flow in range(flows)]


def shuffled(frames: Sequence[bytes]) -> list[bytes]:
    return random.Random(1).sample(frames, len(frames))


def size_of(frames: Sequence[bytes]) -> PacketCount:
    return PacketCount(len(frames), sum(map(len, frames)))


FIRST, SECOND = frame_of(1), frame_of(2)


def segment(flags: int, port: int = 1024) -> bytes:
    return over_ipv4(TCP, tcp(port, 80, flags))


def flipped(frame: bytes, bit: int) -> bytes:
    """The frame with one bit changed, counted from its first byte's lowest."""
    byte, place = divmod(bit, 8)
    return frame[:byte] + bytes([frame[byte] ^ 1 << place]) + frame[byte + 1 :]
