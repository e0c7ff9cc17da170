"""Decode IPFIX messages by RFC 7011 alone, independently of what encodes them."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

Fields = list[tuple[int, int, int]]
"""Enterprise number, element, length."""
Values = dict[tuple[int, int] | int, bytes]
"""By element, or enterprise number and element."""


@dataclass
class Decoder:
    """What a collector knows: templates, and the number of data records so far."""

    templates: dict[int, Fields] = field(default_factory=dict)
    sequence: int = 0

    def message(self, message: bytes) -> Iterator[tuple[int, Values]]:
        """Yield each data record with its template's number; asserts that nothing was lost before it."""
        version, length, _, sequence, domain = struct.unpack_from(">HHIII", message)
        assert (version, length, domain) == (10, len(message), 1)
        assert sequence == self.sequence, "messages were lost"
        place = 16
        while place < length:
            number, size = struct.unpack_from(">HH", message, place)
            assert size > 4
            content = message[place + 4 : place + size]
            if number in (2, 3):
                self._learn(content, is_options=number == 3)
            else:
                for values in self._data(content, self.templates[number]):
                    self.sequence += 1
                    yield number, values
            place += size

    def _learn(self, content: bytes, is_options: bool) -> None:
        while content:
            head = 6 if is_options else 4
            number, count, *_ = struct.unpack_from(">HHH" if is_options else ">HH", content)
            content = content[head:]
            fields: Fields = []
            for _ in range(count):
                element, length = struct.unpack_from(">HH", content)
                enterprise = struct.unpack_from(">I", content, 4)[0] if element & 0x8000 else 0
                content = content[8 if enterprise else 4 :]
                fields.append((enterprise, element & 0x7FFF, length))
            self.templates[number] = fields

    @staticmethod
    def _data(content: bytes, fields: Fields) -> Iterator[Values]:
        while content:
            values: Values = {}
            for enterprise, element, length in fields:
                if length == 0xFFFF:
                    length, content = content[0], content[1:]
                values[(enterprise, element) if enterprise else element] = content[:length]
                content = content[length:]
            yield values


def decoded(messages: Iterable[bytes]) -> list[tuple[int, Values]]:
    """Return all data records of a session."""
    decoder = Decoder()
    return [record for message in messages for record in decoder.message(message)]


def number(values: Values, *element: int) -> int:
    """Return an element's value as a number."""
    return int.from_bytes(values[element[0] if len(element) == 1 else (element[0], element[1])], "big")
