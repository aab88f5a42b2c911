"""NIXL's writes by its UCX backend, which is allowed nothing but TCP over the loopback device.

UCX opens one TCP connection for the bulk of what two of its workers send each other. So a connection here is a pair of
agents; or, with workers=1, one of several workers of one sending agent, which all write to the same receiving worker.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from tests.bench.peers.memory import Memory, Piece, pieces
from tests.bench.peers.one_round import Address, Peer, Receiver, Sender, Settings, main


def environment(_connections: int, _settings: Settings) -> Mapping[str, str]:
    return {"UCX_TLS": "tcp", "UCX_NET_DEVICES": "lo", "NIXL_LOG_LEVEL": "ERROR"}


def agents_of(connections: int, settings: Settings) -> int:
    return 1 if settings["workers"] else connections


def agent_on(memory: Memory, name: str, workers: int, progress_thread: bool) -> Any:
    from nixl._api import nixl_agent, nixl_agent_config, nixl_thread_sync_t

    several = nixl_thread_sync_t.NIXL_THREAD_SYNC_RW if workers > 1 else nixl_thread_sync_t.NIXL_THREAD_SYNC_NONE
    agent = nixl_agent(name, nixl_agent_config(enable_prog_thread=progress_thread, backends=[], sync_mode=several))
    agent.create_backend("UCX", {"num_workers": str(workers)})
    agent.register_memory([(memory.address, memory.bytes, 0, "")], "DRAM")
    return agent


def receiver(place: Memory, connections: int, settings: Settings) -> Receiver:
    # Without a progress thread nobody would move the bytes out of the sockets.
    agents = [
        agent_on(place, f"receiver{number}", workers=1, progress_thread=True)
        for number in range(agents_of(connections, settings))
    ]

    class NixlReceiver:
        def address(self) -> Address:
            metadata = [base64.b64encode(agent.get_agent_metadata()).decode() for agent in agents]
            return {"memory": place.address, "metadata": metadata}

        def connect(self) -> None:
            pass

        def expect(self, length: int) -> None:
            pass

        def landed(self) -> None:
            """A transfer is done at the sender when UCX has flushed it: the receiver has acknowledged it."""

    return NixlReceiver()


def start(agent: Any, remote: str, run: list[Piece], here: int, there: int) -> Any:
    """Begins to write every piece, from the address `here` to the other side's `there`."""
    transfer = agent.initialize_xfer(
        "WRITE",
        agent.get_xfer_descs([(here + piece.begin, piece.bytes, 0) for piece in run], "DRAM"),
        agent.get_xfer_descs([(there + piece.begin, piece.bytes, 0) for piece in run], "DRAM"),
        remote,
    )
    agent.transfer(transfer)
    return transfer


def wait(transfers: list[tuple[Any, Any]]) -> None:
    """Waits as the package's own examples do: by asking. Without a progress thread the asking is what sends."""
    waiting = transfers
    while waiting:
        states = [agent.check_xfer_state(transfer) for agent, transfer in waiting]
        if "ERR" in states:
            raise RuntimeError("a NIXL transfer ended with an error")
        waiting = [one for one, state in zip(waiting, states, strict=True) if state != "DONE"]
    for agent, transfer in transfers:
        agent.release_xfer_handle(transfer)


def sender(origin: Memory, connections: int, settings: Settings, address: Address) -> Sender:
    count = agents_of(connections, settings)
    progress_thread = bool(settings["progress_thread"])
    agents = [agent_on(origin, f"sender{number}", connections // count, progress_thread) for number in range(count)]
    remotes = []
    for agent, metadata in zip(agents, address["metadata"], strict=True):
        remotes.append(agent.add_remote_agent(base64.b64decode(metadata)))
        agent.make_connection(remotes[-1])
    # A worker belongs to the thread that first starts something: so each connection has its own, and they stay.
    starters = [ThreadPoolExecutor(1) for _ in range(connections)]

    class NixlSender:
        def send(self, length: int) -> None:
            runs = pieces(length, connections, origin.bytes, settings["descriptor_kib"] << 10)
            started = []
            for number, (starter, run) in enumerate(zip(starters, runs, strict=True)):
                agent, remote = agents[number % count], remotes[number % count]
                started.append((agent, starter.submit(start, agent, remote, run, origin.address, address["memory"])))
            wait([(agent, transfer.result()) for agent, transfer in started])

    return NixlSender()


PEER = Peer(
    name="NIXL, UCX over TCP",
    distribution="nixl",
    modules=("nixl._api",),
    # UCX's own segment sizes stay: from 64 KiB to 1 MiB they made no difference.
    grid={"descriptor_kib": (16384, 1024), "workers": (1, 0), "progress_thread": (0, 1)},
    environment=environment,
    receiver=receiver,
    sender=sender,
)

if __name__ == "__main__":
    main(PEER)
