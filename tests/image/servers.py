"""A name server that answers every name with 127.0.0.1, and an HTTPS server: what a push by name needs.

Run in a network namespace: prints the HTTPS port, then what is pushed, until its stdin ends.
"""

from __future__ import annotations

import socket
import ssl
import struct
import sys
import threading

from tests.push.double import Answer, double

DNS_PORT = 53
A_RECORD = struct.pack("!HHHIH4s", 0xC00C, 1, 1, 60, 4, socket.inet_aton("127.0.0.1"))
"""The queried name (RFC 1035, 4.1.4), type A, class IN, a minute."""
LAST_TYPE = struct.Struct("!HH")


def reply(query: bytes) -> bytes:
    """An address for a query of type A, nothing for another (AAAA)."""
    kind = LAST_TYPE.unpack_from(query, query.index(b"\0", 12) + 1)[0]
    records = [A_RECORD] if kind == 1 else []
    question = query[12 : query.index(b"\0", 12) + 5]
    return query[:2] + struct.pack("!HHHHH", 0x8180, 1, len(records), 0, 0) + question + b"".join(records)


def answer_names(server: socket.socket) -> None:
    """Until the process ends."""
    while True:
        query, sender = server.recvfrom(512)
        server.sendto(reply(query), sender)


def main(certificate: str, key: str) -> None:
    """Serve."""
    names = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    names.bind(("127.0.0.1", DNS_PORT))
    threading.Thread(target=answer_names, args=(names,), daemon=True).start()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with double(lambda number: Answer(), tls=context) as server:
        print(server.base.rpartition(":")[2], flush=True)
        sys.stdin.read()
        for request in server.requests:
            print(request.text)


if __name__ == "__main__":
    main(*sys.argv[1:])
