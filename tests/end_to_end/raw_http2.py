"""HTTP/2 by hand, as far as gRPC needs it (RFC 9113, RFC 7541): a client that grants no window.

gRPC's own clients widen a stream's window for whatever they read. This one says at the start that the server may send
nothing at all, and then lives well: it acknowledges settings and answers pings.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import threading

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _RST_STREAM, _SETTINGS, _PING = 0, 1, 3, 4, 6
_ACK = _END_STREAM = 1
_END_HEADERS = 4
_INITIAL_WINDOW_SIZE = 4


def _frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def _header(name: str, value: str) -> bytes:
    # Literal, not indexed, without Huffman's code: the simplest that HPACK has. Lengths fit into seven bits.
    return b"\x00" + bytes([len(name)]) + name.encode() + bytes([len(value)]) + value.encode()


class Windowless:
    """One connection whose server may send no data. Calls are made and their replies never taken."""

    def __init__(self, address: str) -> None:
        host, port = address.rsplit(":", 1)
        self._authority = address
        self._socket = socket.create_connection((host, int(port)), timeout=30)
        self._socket.settimeout(None)
        self._lock = threading.Lock()
        self._ended: set[int] = set()
        self._next = 1
        self._send(_PREFACE + _frame(_SETTINGS, 0, 0, struct.pack(">HI", _INITIAL_WINDOW_SIZE, 0)))
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def call(self, method: str, request: bytes) -> int:
        """Begins a call with one message and ends its request; the stream's number."""
        stream, self._next = self._next, self._next + 2
        headers = b"".join(
            _header(name, value)
            for name, value in [
                (":method", "POST"),
                (":scheme", "http"),
                (":path", f"/weightstream.v1.WeightStream/{method}"),
                (":authority", self._authority),
                ("te", "trailers"),
                ("content-type", "application/grpc"),
            ]
        )
        message = b"\x00" + struct.pack(">I", len(request)) + request
        self._send(_frame(_HEADERS, _END_HEADERS, stream, headers) + _frame(_DATA, _END_STREAM, stream, message))
        return stream

    def ended(self) -> set[int]:
        """The streams that the server has ended, with a status or a reset."""
        with self._lock:
            return set(self._ended)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._reader.join()
        self._socket.close()

    def __enter__(self) -> Windowless:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _send(self, frames: bytes) -> None:
        with self._lock:
            self._socket.sendall(frames)

    def _take(self, count: int) -> bytes:
        taken = b""
        while len(taken) < count:
            more = self._socket.recv(count - len(taken))
            if not more:
                raise ConnectionError("the server has closed the connection")
            taken += more
        return taken

    def _read(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                head = self._take(9)
                payload = self._take(int.from_bytes(head[:3], "big"))
                kind, flags, stream = head[3], head[4], int.from_bytes(head[5:], "big")
                if kind == _SETTINGS and not flags & _ACK:
                    self._send(_frame(_SETTINGS, _ACK, 0))
                elif kind == _PING and not flags & _ACK:
                    self._send(_frame(_PING, _ACK, 0, payload))
                elif kind == _RST_STREAM or (kind == _HEADERS and flags & _END_STREAM):
                    with self._lock:
                        self._ended.add(stream)
