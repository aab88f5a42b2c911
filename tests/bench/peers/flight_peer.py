"""Arrow Flight's DoPut: record batches that wrap the source without a copy; its C++ does the sending and receiving.

One client a connection, each with a gRPC channel of its own. A batch's metadata says where it belongs, and the server
copies it there, as it must: Flight hands over batches in memory of its own.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from tests.bench.peers.memory import Memory, Piece, pieces
from tests.bench.peers.one_round import Address, Peer, Receiver, Sender, Settings, main


def environment(_connections: int, _settings: Settings) -> Mapping[str, str]:
    return {}


def receiver(place: Memory, _connections: int, _settings: Settings) -> Receiver:
    import numpy
    from pyarrow import flight

    target = numpy.frombuffer(place.view, numpy.uint8)

    def do_put(_server: Any, _context: Any, _descriptor: Any, reader: Any, _writer: Any) -> None:
        for chunk in reader:
            begin = int.from_bytes(chunk.app_metadata.to_pybytes(), "little")
            # Without a copy: a view of the batch's own buffer.
            data = chunk.data.column(0).to_numpy(zero_copy_only=True)
            target[begin : begin + len(data)] = data

    # Not by a class statement: the package has no types, and mypy refuses to inherit from what it does not know.
    server = type("Server", (flight.FlightServerBase,), {"do_put": do_put})("grpc://127.0.0.1:0")
    threading.Thread(target=server.serve, daemon=True).start()

    class FlightReceiver:
        def address(self) -> Address:
            return {"port": server.port}

        def connect(self) -> None:
            pass

        def expect(self, length: int) -> None:
            pass

        def landed(self) -> None:
            """The client's close() has waited for do_put to return."""

    return FlightReceiver()


def sender(origin: Memory, connections: int, settings: Settings, address: Address) -> Sender:
    import pyarrow
    from pyarrow import flight

    # Without the option clients with equal arguments share one TCP connection.
    clients = [
        flight.FlightClient(("127.0.0.1", address["port"]), generic_options=[("grpc.use_local_subchannel_pool", 1)])
        for _ in range(connections)
    ]
    schema = pyarrow.schema([pyarrow.field("data", pyarrow.uint8(), nullable=False)])
    whole = pyarrow.py_buffer(origin.view)

    def put(client: Any, run: list[Piece]) -> None:
        writer, _ = client.do_put(flight.FlightDescriptor.for_path("weights"), schema)
        for piece in run:
            buffers = [None, whole.slice(piece.begin, piece.bytes)]
            column = pyarrow.Array.from_buffers(pyarrow.uint8(), piece.bytes, buffers)
            batch = pyarrow.RecordBatch.from_arrays([column], schema=schema)
            writer.write_with_metadata(batch, pyarrow.py_buffer(piece.begin.to_bytes(8, "little")))
        writer.close()

    class FlightSender:
        def send(self, length: int) -> None:
            runs = pieces(length, connections, origin.bytes, settings["batch_kib"] << 10)
            with ThreadPoolExecutor(connections) as pool:
                list(pool.map(put, clients, runs))

    return FlightSender()


PEER = Peer(
    name="Arrow Flight DoPut",
    distribution="pyarrow",
    modules=("pyarrow.flight", "numpy"),
    grid={"batch_kib": (1024, 256, 4096, 16384)},
    environment=environment,
    receiver=receiver,
    sender=sender,
)

if __name__ == "__main__":
    main(PEER)
