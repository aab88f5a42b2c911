"""torch.distributed's send and recv on the gloo backend: tensors that wrap the source and the destination.

A connection is a process group: each group connects its two members anew. `window` transfers of a group are under way
at a time, as a receiver must ask for a message before gloo sends it.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from tests.bench.peers.memory import Memory, Piece, pieces
from tests.bench.peers.one_round import ANSWER_SECONDS, Address, Peer, Receiver, Sender, Settings, main
from tests.bench.rounds import MIB

RECEIVER, SENDER = 0, 1


def environment(_connections: int, _settings: Settings) -> Mapping[str, str]:
    return {"GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1"}


def store_at(port: int, rank: int) -> Any:
    from torch import distributed

    timeout = timedelta(seconds=ANSWER_SECONDS)
    is_master = rank == RECEIVER
    return distributed.TCPStore("127.0.0.1", port, 2, is_master, timeout, wait_for_workers=False)


def join(store: Any, rank: int, connections: int) -> list[Any]:
    """Meets the other process; one group a connection."""
    from torch import distributed

    distributed.init_process_group("gloo", store=store, rank=rank, world_size=2)
    return [distributed.new_group([RECEIVER, SENDER]) for _ in range(connections)]


def exchange(start: Any, memory: Memory, groups: list[Any], runs: list[list[Piece]], window: int) -> None:
    """Starts every piece by `start`, round the groups by turns, and waits for the end of all."""
    import torch

    tensor = torch.frombuffer(memory.mapping, dtype=torch.uint8)
    under_way: list[deque[Any]] = [deque() for _ in groups]
    for turn in range(max(len(run) for run in runs)):
        for group, run, works in zip(groups, runs, under_way, strict=True):
            if turn < len(run):
                if len(works) == window:
                    works.popleft().wait()
                piece = run[turn]
                works.append(start(tensor[piece.begin : piece.begin + piece.bytes], group))
    for works in under_way:
        for work in works:
            work.wait()


def receiver(place: Memory, connections: int, settings: Settings) -> Receiver:
    from torch import distributed

    store = store_at(0, RECEIVER)

    class GlooReceiver:
        def __init__(self) -> None:
            self._groups: list[Any] = []
            self._receiving: threading.Thread | None = None
            self._error: Exception | None = None

        def address(self) -> Address:
            return {"port": store.port}

        def connect(self) -> None:
            self._groups = join(store, RECEIVER, connections)

        def expect(self, length: int) -> None:
            self._receiving = threading.Thread(target=self._receive, args=(length,), daemon=True)
            self._receiving.start()

        def landed(self) -> None:
            if self._receiving:
                self._receiving.join()
            if self._error:
                raise self._error

        def _receive(self, length: int) -> None:
            runs = pieces(length, connections, place.bytes, settings["message_mib"] * MIB)
            try:
                exchange(
                    lambda part, group: distributed.irecv(part, src=SENDER, group=group),
                    place,
                    self._groups,
                    runs,
                    settings["window"],
                )
            except Exception as error:
                self._error = error

    return GlooReceiver()


def sender(origin: Memory, connections: int, settings: Settings, address: Address) -> Sender:
    from torch import distributed

    groups = join(store_at(address["port"], SENDER), SENDER, connections)

    class GlooSender:
        def send(self, length: int) -> None:
            runs = pieces(length, connections, origin.bytes, settings["message_mib"] * MIB)
            exchange(
                lambda part, group: distributed.isend(part, dst=RECEIVER, group=group),
                origin,
                groups,
                runs,
                settings["window"],
            )

    return GlooSender()


PEER = Peer(
    name="torch gloo send/recv",
    distribution="torch",
    modules=("torch.distributed",),
    grid={"message_mib": (16, 4, 64), "window": (4, 1)},
    environment=environment,
    receiver=receiver,
    sender=sender,
)

if __name__ == "__main__":
    main(PEER)
