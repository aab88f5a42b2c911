"""Mooncake's transfer engine over TCP: batches of writes into memory that the receiver has registered."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tests.bench.peers.memory import Memory, pieces
from tests.bench.peers.one_round import Address, Peer, Receiver, Sender, Settings, main
from tests.bench.rounds import MIB

# Writes in one batch: the engine queues 1024 at most for one peer.
BATCH = 256


def environment(connections: int, settings: Settings) -> Mapping[str, str]:
    return {
        "MC_FORCE_TCP": "1",
        # Otherwise it connects anew for every write.
        "MC_TCP_ENABLE_CONNECTION_POOL": "1",
        "MC_TCP_LANES_PER_PEER": str(connections),
        "MC_TCP_SLICE_SIZE": str(settings["slice_kib"] << 10),
        "MC_LOG_LEVEL": "ERROR",
    }


def engine_on(memory: Memory) -> Any:
    from mooncake.engine import TransferEngine

    engine = TransferEngine()
    if code := engine.initialize("127.0.0.1", "P2PHANDSHAKE", "tcp", ""):
        raise RuntimeError(f"TransferEngine.initialize returned {code}")
    if code := engine.register_memory(memory.address, memory.bytes):
        raise RuntimeError(f"TransferEngine.register_memory returned {code}")
    return engine


def receiver(place: Memory, _connections: int, _settings: Settings) -> Receiver:
    engine = engine_on(place)

    class MooncakeReceiver:
        def address(self) -> Address:
            return {"session": f"127.0.0.1:{engine.get_rpc_port()}", "memory": place.address}

        def connect(self) -> None:
            pass

        def expect(self, length: int) -> None:
            pass

        def landed(self) -> None:
            """A write is complete at the sender when the receiver has acknowledged it."""

    return MooncakeReceiver()


def sender(origin: Memory, _connections: int, settings: Settings, address: Address) -> Sender:
    engine = engine_on(origin)

    class MooncakeSender:
        def send(self, length: int) -> None:
            # The engine itself spreads writes over its connections.
            run = pieces(length, 1, origin.bytes, settings["write_mib"] * MIB)[0]
            batches = [run[at : at + BATCH] for at in range(0, len(run), BATCH)]
            for batch in batches:
                code = engine.batch_transfer_sync_write(
                    address["session"],
                    [origin.address + piece.begin for piece in batch],
                    [address["memory"] + piece.begin for piece in batch],
                    [piece.bytes for piece in batch],
                )
                if code:
                    raise RuntimeError(f"TransferEngine.batch_transfer_sync_write returned {code}")

    return MooncakeSender()


PEER = Peer(
    name="Mooncake TCP",
    distribution="mooncake-transfer-engine-non-cuda",
    modules=("mooncake.engine",),
    grid={"write_mib": (16, 64), "slice_kib": (1024, 64, 4096)},
    environment=environment,
    receiver=receiver,
    sender=sender,
)

if __name__ == "__main__":
    main(PEER)
