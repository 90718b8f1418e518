"""A name server for one network namespace: brings up loopback and answers every question about a name
under `test` with 127.0.0.1, and any other with "no such name". Used by scripts/build-static.sh.

It says "ready" on standard output once it listens, and ends with its standard input.
"""

import fcntl
import socket
import struct
import sys
import threading

SIOCGIFFLAGS, SIOCSIFFLAGS, IFF_UP = 0x8913, 0x8914, 1
TYPE_A, NO_SUCH_NAME = 1, 3


def loopback_up():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        request = struct.pack("16sh14x", b"lo", 0)
        _, flags = struct.unpack("16sh14x", fcntl.ioctl(control, SIOCGIFFLAGS, request))
        fcntl.ioctl(control, SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", flags | IFF_UP))


def answer(query):
    """RFC 1035, section 4.1: header, the question repeated, and at most one address."""
    labels, at = [], 12
    while query[at]:
        labels.append(query[at + 1 : at + 1 + query[at]].lower())
        at += 1 + query[at]
    question = query[12 : at + 5]
    (kind,) = struct.unpack_from("!H", query, at + 1)
    known = labels[-1:] == [b"test"]
    records = b""
    if known and kind == TYPE_A:
        address = socket.inet_aton("127.0.0.1")
        records = struct.pack("!HHHIH", 0xC00C, TYPE_A, 1, 60, len(address)) + address
    flags = 0x8580 | (0 if known else NO_SUCH_NAME)
    return query[:2] + struct.pack("!HHHHH", flags, 1, 1 if records else 0, 0, 0) + question + records


def serve(server):
    while True:
        query, asker = server.recvfrom(512)
        server.sendto(answer(query), asker)


loopback_up()
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
    server.bind(("127.0.0.1", 53))
    threading.Thread(target=serve, args=(server,), daemon=True).start()
    print("ready", flush=True)
    sys.stdin.read()
