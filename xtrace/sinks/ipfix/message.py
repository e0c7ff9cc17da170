"""IPFIX messages (RFC 7011 3): sets of records, as many as fit."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from struct import Struct
from typing import NamedTuple

from xtrace.sinks.ipfix.elements import TEMPLATES, Template

VERSION, DOMAIN = 10, 1
TEMPLATE_SET, OPTIONS_TEMPLATE_SET = 2, 3
HEADER = Struct(">HHIII")
"""Version, length, export time in s, sequence number, observation domain."""
_SET = Struct(">HH")
"""Number of the set's template, length."""


class Record(NamedTuple):
    """A data record, and what a flow's has counted."""

    template: Template
    content: bytes
    flows: int = 0
    packets: int = 0
    octets: int = 0


@dataclass
class Message:
    """The sets of a message. Its header depends on when it is sent."""

    sets: bytearray = field(default_factory=bytearray)
    records: int = 0
    """data records, which sequence numbers count"""
    flows: int = 0
    packets: int = 0
    octets: int = 0

    @property
    def size(self) -> int:
        """Bytes, with the header."""
        return HEADER.size + len(self.sets)

    def whole(self, at_s: int, sequence: int) -> bytes:
        """Return it with its header; `sequence`: data records sent before, modulo 2^32."""
        return HEADER.pack(VERSION, self.size, at_s, sequence, DOMAIN) + self.sets


def templates() -> Message:
    """Return the message with all templates."""
    message = Message()
    for template in TEMPLATES:  # a set each: some collectors read only the first options template of a set
        record = template.record()
        kind = OPTIONS_TEMPLATE_SET if template.scopes else TEMPLATE_SET
        message.sets += _SET.pack(kind, _SET.size + len(record)) + record
    return message


def messages(records: Iterable[Record], most: int) -> Iterator[Message]:
    """Yield records in messages of at most `most` bytes; neighbors with the same template share a set."""
    message, begun, template = Message(), 0, None
    for record in records:
        needed = len(record.content) + (0 if record.template is template else _SET.size)
        if message.sets and message.size + needed > most:
            yield message
            message, template = Message(), None
        if record.template is not template:
            template, begun = record.template, len(message.sets)
            message.sets += bytes(_SET.size)
        message.sets += record.content
        _SET.pack_into(message.sets, begun, template.number, len(message.sets) - begun)
        message.records += 1
        message.flows += record.flows
        message.packets += record.packets
        message.octets += record.octets
    if message.sets:
        yield message
