"""A peer of plain sockets, for the tests of what drives the real ones: no package is needed. Not measured.

Its settings say what goes wrong: a byte that changes on the way, or a receiver that fails at the end.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Mapping

from tests.bench.peers.memory import Memory, Piece, pieces
from tests.bench.peers.one_round import Address, Peer, Receiver, Sender, Settings, main


def environment(_connections: int, _settings: Settings) -> Mapping[str, str]:
    return {}


class StandInReceiver:
    def __init__(self, place: Memory, connections: int, settings: Settings) -> None:
        self._place, self._connections, self._settings = place, connections, settings
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._sockets: list[socket.socket] = []
        self._threads: list[threading.Thread] = []

    def address(self) -> Address:
        return {"port": self._listener.getsockname()[1]}

    def connect(self) -> None:
        self._sockets = [self._listener.accept()[0] for _ in range(self._connections)]

    def expect(self, length: int) -> None:
        runs = pieces(length, self._connections, self._place.bytes, self._settings["piece_kib"] << 10)
        self._threads = [
            threading.Thread(target=self._take, args=pair, daemon=True)
            for pair in zip(self._sockets, runs, strict=True)
        ]
        for thread in self._threads:
            thread.start()

    def landed(self) -> None:
        for thread in self._threads:
            thread.join()
        if self._settings["fail"]:
            raise RuntimeError("told to fail")
        if self._settings["corrupt"]:
            self._place.view[0] ^= 1

    def _take(self, connection: socket.socket, run: list[Piece]) -> None:
        for piece in run:
            at, end = piece.begin, piece.begin + piece.bytes
            while at < end:
                got = connection.recv_into(self._place.view[at:end])
                if got == 0:
                    return
                at += got


def receiver(place: Memory, connections: int, settings: Settings) -> Receiver:
    return StandInReceiver(place, connections, settings)


def sender(origin: Memory, connections: int, settings: Settings, address: Address) -> Sender:
    sockets = [socket.create_connection(("127.0.0.1", address["port"])) for _ in range(connections)]

    class StandInSender:
        def send(self, length: int) -> None:
            runs = pieces(length, connections, origin.bytes, settings["piece_kib"] << 10)
            # One after the other: the receiver takes each connection on a thread of its own.
            for connection, run in zip(sockets, runs, strict=True):
                for piece in run:
                    connection.sendall(origin.view[piece.begin : piece.begin + piece.bytes])

    return StandInSender()


PEER = Peer(
    name="stand-in",
    # Its version is that of something that every Python has.
    distribution="pip",
    modules=("socket",),
    grid={"piece_kib": (1024, 256), "corrupt": (0,), "fail": (0,)},
    environment=environment,
    receiver=receiver,
    sender=sender,
)

if __name__ == "__main__":
    main(PEER)
