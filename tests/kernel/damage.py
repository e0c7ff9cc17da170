"""Frames nobody has written down: known ones damaged, and random ones. The same random gives the same frames."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from random import Random

from tests.kernel.cases import SHORT_CASES
from tests.kernel.counter import Counter
from tests.support.frames import (
    AH,
    ARP,
    DESTINATION,
    FRAGMENT_HEADER,
    HOP_BY_HOP,
    ICMP,
    ICMPV6,
    IPV4,
    IPV6,
    ROCE_V1,
    ROCE_V2_PORT,
    ROUTING,
    SCTP,
    SERVICE_VLAN,
    TCP,
    UDP,
    VLAN,
    ethernet,
    vlan,
)
from xtrace.kernel.syscall import lib

TAGS = (VLAN.to_bytes(2, "big"), SERVICE_VLAN.to_bytes(2, "big"))
KNOWN = [case.frame for case in SHORT_CASES]
ETHERTYPES = (IPV4, IPV4, IPV4, IPV6, IPV6, IPV6, ARP, ROCE_V1, VLAN, SERVICE_VLAN)
TRANSPORTS = (ICMP, TCP, UDP, UDP, ICMPV6, SCTP, AH)
EXTENSIONS = (HOP_BY_HOP, ROUTING, FRAGMENT_HEADER, AH, DESTINATION)
IPV4_FRAGMENTS = (b"\0\0", b"\x20\0", b"\x40\0", b"\x80\0", b"\0\x01")


def numbered(frame: bytes, number: int, link_layer: int = lib.LINK_LAYER_ETHERNET) -> bytes:
    """The frame with `number` in its source address, so that it is a flow of its own."""
    place = 12
    if link_layer == lib.LINK_LAYER_IPOIB:
        place += 24
    elif link_layer == lib.LINK_LAYER_NONE:
        place += 14
    elif link_layer == lib.LINK_LAYER_ETHERNET:
        place += 14 + 4 * ((frame[12:14] in TAGS) + (frame[12:14] in TAGS and frame[16:18] in TAGS))
    return frame if len(frame) < place + 4 else frame[:place] + number.to_bytes(4, "big") + frame[place + 4 :]


def mutated(random: Random) -> bytes:
    """A known frame, damaged: bytes changed, cut, lengthened, or grafted onto another."""
    frame = bytearray(numbered(random.choice(KNOWN), random.getrandbits(32)))
    for _ in range(random.randrange(1, 4)):
        place = int(random.random() * len(frame))
        match int(random.random() * 5):
            case 0:
                frame[place] = random.getrandbits(8)
            case 1:
                frame[place] ^= 1 << random.getrandbits(3)
            case 2:
                del frame[max(place, 14) :]
            case 3:
                frame[place:place] = random.randbytes(1 + random.getrandbits(3))
            case 4:
                frame[place:] = random.choice(KNOWN)[place:]
    return bytes(frame).ljust(14, b"\0")


def set_length(payload: bytearray, ethertype: int, random: Random) -> None:
    """Let the packet say that it is as long as it is, or that some bytes are padding."""
    length = random.choice((len(payload), int(random.random() * len(payload))))
    place, header = (2, 0) if ethertype == IPV4 else (4, 40)
    payload[place : place + 2] = max(0, length - header).to_bytes(2, "big")


def set_roce(payload: bytearray, begin: int, protocol: int, random: Random) -> None:
    """A datagram to RoCE's port with fields that may be right."""
    payload[0] = 0x45 if begin == 20 else 0x60
    payload[protocol] = UDP
    payload[begin + 2 : begin + 4] = ROCE_V2_PORT.to_bytes(2, "big")
    payload[begin + 4 : begin + 6] = (len(payload) - begin - random.choice((0, 0, 1, 4))).to_bytes(2, "big")
    payload[begin + 8 : begin + 10] = bytes([random.getrandbits(8), random.choice((0, 0x30, 0x70, 1))])


def scrambled(random: Random) -> bytes:
    """Random bytes behind an Ethernet header, often with fields that may be right."""
    ethertype = random.choice(ETHERTYPES) if random.random() < 0.9 else random.getrandbits(16)
    payload = bytearray(random.randbytes(int(random.random() * 150)))
    if len(payload) > 60 and random.random() < 0.8:
        version, protocol = (
            (random.randrange(0x43, 0x50), 9) if ethertype == IPV4 else (random.randrange(0x5F, 0x71), 6)
        )
        payload[0], payload[protocol] = version, random.choice(TRANSPORTS)
        if random.random() < 0.5:
            set_length(payload, ethertype, random)
        if random.random() < 0.3:
            set_roce(payload, 20 if ethertype == IPV4 else 40, protocol, random)
        elif ethertype == IPV4:
            payload[6:8] = random.choice(IPV4_FRAGMENTS)
        elif random.random() < 0.6:
            payload[6] = random.choice(EXTENSIONS)
            payload[40:44] = bytes(
                [random.choice(EXTENSIONS + TRANSPORTS), random.getrandbits(2), 0, random.getrandbits(4)]
            )
    if random.random() < 0.2:
        return ethernet(VLAN, vlan(random.getrandbits(12), ethertype, bytes(payload)))
    return ethernet(ethertype, bytes(payload))


Maker = Callable[[Random], bytes]
MAKERS: tuple[Maker, ...] = (mutated, scrambled)


def frames_for(counter: Counter, make: Maker, seed: int, count: int) -> Iterator[bytes]:
    """`count` frames that this hook can be given."""
    random = Random(seed)
    while count:
        frame = make(random)
        if counter.takes(frame):
            count -= 1
            yield frame
