"""What went over the loopback: any client's requests as our own records, whoever sent them.

The kernel stamps each packet and keeps it until the run is over, so the clients' cores do no work
for it but that of queueing. The bytes then go through this project's own decoder, with the time of
the packet in place of the time of the read. Linux, and only for those who may open packet sockets
(root, or CAP_NET_RAW).
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import socket
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from pytest_llmperf.load.planned import Asked, Turn
from pytest_llmperf.load.read.decode import decode
from pytest_llmperf.load.read.reading import to_record
from pytest_llmperf.load.send.wire import Exchange
from pytest_llmperf.records import Api, RequestRecord

_IPV4 = 0x0800
_SO_ATTACH_FILTER, _SO_RCVBUFFORCE, _SO_TIMESTAMPNS = 26, 33, 35
_SOL_PACKET, _IGNORE_OUTGOING = 263, 23
_STATISTICS = 6
_KEPT_BYTES = 512 << 20
_LARGEST = 1 << 17
_SYN = 2
_APIS: tuple[tuple[bytes, Api], ...] = (
    (b"/chat/completions ", "chat"),
    (b"/completions ", "completions"),
)


@dataclass(slots=True, kw_only=True)
class Call:
    """One HTTP request and its answer. Times are ns of the kernel's clock; ``opened_ns`` is when
    its connection was begun, if it is the first on it."""

    opened_ns: int | None
    written_ns: int
    asked: bytearray = field(default_factory=bytearray)
    reads: list[bytes] = field(default_factory=list)
    stamps: list[int] = field(default_factory=list)

    @property
    def line(self) -> bytes:
        """The request line."""
        return bytes(self.asked.partition(b"\r\n")[0])

    @property
    def body(self) -> dict[str, Any]:
        """What it asked for."""
        found: dict[str, Any] = json.loads(self.asked.partition(b"\r\n\r\n")[2])
        return found

    @property
    def api(self) -> Api | None:
        """``None`` where nothing was to be generated."""
        return next((api for path, api in _APIS if path in self.line), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tapped:
    """The generation requests of one run, in the order they were written, and their answers as
    records. ``asides`` is what was asked beside them, ``tail_s`` how long that went on after the
    last answer."""

    calls: tuple[Call, ...]
    records: tuple[RequestRecord, ...]
    tail_s: float
    asides: tuple[Call, ...] = ()

    @property
    def prompts(self) -> list[str]:
        """The text of each chat request."""
        return [call.body["messages"][0]["content"] for call in self.calls]


class Tap:
    """Listens to one port of the loopback; see :func:`tapping`."""

    def __init__(self, port: int) -> None:
        self._port = port
        try:
            self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM)
        except PermissionError:
            raise SystemExit(
                "reading what goes over the loopback takes a packet socket: run this as root, or "
                "give Python the capability CAP_NET_RAW"
            ) from None
        self._socket.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _KEPT_BYTES)
        self._socket.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
        self._socket.setsockopt(_SOL_PACKET, _IGNORE_OUTGOING, 1)
        _only(self._socket, port)
        self._socket.bind(("lo", _IPV4))
        self._socket.setblocking(False)

    def close(self) -> None:
        self._socket.close()

    def read(self, *, output_tokens: int) -> Tapped:
        """What has gone over since the start, of answers that were to have ``output_tokens``.

        Raises :class:`RuntimeError` when the kernel could not keep all of it.
        """
        calls = _calls(self._packets(), self._port)
        counted = self._socket.getsockopt(_SOL_PACKET, _STATISTICS, 8)
        if lost := struct.unpack("II", counted)[1]:
            raise RuntimeError(f"{lost} packets were lost: there was no room to keep them")
        return _tapped(calls, output_tokens)

    def _packets(self) -> Iterator[tuple[int, bytes]]:
        while True:
            try:
                data, notes, _, _ = self._socket.recvmsg(_LARGEST, socket.CMSG_SPACE(16))
            except BlockingIOError:
                return
            seconds, nanoseconds = struct.unpack("qq", notes[0][2])
            yield seconds * 1_000_000_000 + nanoseconds, data


def _only(sock: socket.socket, port: int) -> None:
    """Let the kernel pass over packets of other ports, by a program of its own packet filter."""
    program = [
        (0xB1, 0, 0, 0),  # X: the length of the IP header
        (0x48, 0, 0, 0),  # the source port
        (0x15, 2, 0, port),
        (0x48, 0, 0, 2),  # the target port
        (0x15, 0, 1, port),
        (0x06, 0, 0, _LARGEST),  # keep so many bytes
        (0x06, 0, 0, 0),
    ]
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *line) for line in program))
    filter_ = struct.pack("HP", len(program), ctypes.addressof(code))
    sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, filter_)


@contextlib.contextmanager
def tapping(port: int) -> Iterator[Tap]:
    """A tap on ``port`` that is closed in the end."""
    tap = Tap(port)
    try:
        yield tap
    finally:
        tap.close()


def _calls(packets: Iterator[tuple[int, bytes]], port: int) -> list[Call]:
    """The calls in order; packets of other ports are passed over. Loopback keeps the order."""
    opened: dict[int, int] = {}
    current: dict[int, Call] = {}
    calls = []
    for at_ns, packet in packets:
        source, target, flags, data = _segment(packet)
        if target == port and flags & _SYN:
            opened[source] = at_ns
            current.pop(source, None)
        elif target == port and data:
            call = current.get(source)
            if call is None or call.reads:
                call = Call(opened_ns=opened.pop(source, None), written_ns=at_ns)
                current[source] = call
                calls.append(call)
            call.asked += data
        elif source == port and data and target in current:
            current[target].reads.append(data)
            current[target].stamps.append(at_ns)
    return calls


def _segment(packet: bytes) -> tuple[int, int, int, bytes]:
    """Source port, target port, flags and data; zeros for what is not TCP."""
    head = (packet[0] & 15) * 4
    if packet[9] != socket.IPPROTO_TCP:
        return 0, 0, 0, b""
    length = struct.unpack_from(">H", packet, 2)[0] or len(packet)
    source, target = struct.unpack_from(">HH", packet, head)
    offset = head + (packet[head + 12] >> 4) * 4
    return source, target, packet[head + 13], packet[offset:length]


def _tapped(calls: Sequence[Call], output_tokens: int) -> Tapped:
    generating = [call for call in calls if call.api is not None]
    ends = [call.stamps[-1] for call in generating if call.stamps]
    asides = tuple(call for call in calls if call.api is None)
    later = [call.stamps[-1] for call in asides if call.stamps]
    tail_ns = max([0, *(at - max(ends) for at in later)]) if ends else 0
    records = tuple(_record(number, call, output_tokens) for number, call in enumerate(generating))
    return Tapped(calls=tuple(generating), records=records, tail_s=tail_ns / 1e9, asides=asides)


def _record(number: int, call: Call, output_tokens: int) -> RequestRecord:
    asked = Asked(output_tokens=output_tokens, api=call.api or "chat")
    turn = Turn(index=number, payload=b"", asked=asked)
    exchange = Exchange(turn)
    exchange.written_ns = call.written_ns
    exchange.ended_ns = call.stamps[-1] if call.stamps else call.written_ns
    exchange.outcome = "complete"
    exchange.reads = call.reads
    exchange.stamps.extend(call.stamps)
    if call.opened_ns is not None:
        exchange.connect_ns = call.written_ns - call.opened_ns
    return to_record(*decode(exchange, turn))
