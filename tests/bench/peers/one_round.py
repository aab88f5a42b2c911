"""One round between two processes: what every peer's program does with its command line, its clock and its report.

The receiver listens on a control connection of its own, beside the peer's data path. The sender asks over it for the
peer's address, says what is coming, and asks at the end whether it has landed: so the clock runs until every byte is in
place, whatever the library itself promises. Nothing that is sent over the control connection grows with the bytes.

On stdout both say what the programs of `make bench` say, so that the same driver runs and measures them: the receiver
where it listens; the sender "sending" at the start and a report at the end.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.metadata
import json
import os
import resource
import socket
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, Protocol, TextIO

from tests.bench.peers.memory import Memory, destination, source
from tests.bench.rounds import MIB

# The longest that one answer may take: the whole transfer ends within one.
ANSWER_SECONDS = 300.0
# Sent before the clock starts, so that connections, threads and buffers are there, as they are in a long-lived sender.
WARMUP_BYTES = 256 * MIB

Settings = Mapping[str, int]
Address = dict[str, Any]


class Receiver(Protocol):
    """A peer's receiving side, over a Memory that is there from the start."""

    def address(self) -> Address:
        """What the sender needs to know, as JSON."""

    def connect(self) -> None:
        """Its part of connecting, while the sender does its own; returns when both are connected."""

    def expect(self, length: int) -> None:
        """`length` bytes will come; must not wait for them."""

    def landed(self) -> None:
        """Returns once all the bytes expected are in place."""


class Sender(Protocol):
    """A peer's sending side, connected."""

    def send(self, length: int) -> None:
        """Sends `length` bytes, the source over and over; returns when the library reports them sent."""


@dataclass(frozen=True)
class Peer:
    """One program that a user might pick: what drives it, and what can be set on it."""

    # As in the table, and the distribution whose version is reported.
    name: str
    distribution: str
    # Modules that must import for the peer to be there.
    modules: Sequence[str]
    # The values that a sweep tries, by setting; the first of each is used without a sweep.
    grid: Mapping[str, Sequence[int]]
    # Set in both processes before anything of the peer's is imported, for a number of connections and the settings.
    environment: Callable[[int, Settings], Mapping[str, str]]
    receiver: Callable[[Memory, int, Settings], Receiver]
    sender: Callable[[Memory, int, Settings, Address], Sender]

    def defaults(self) -> dict[str, int]:
        return {name: values[0] for name, values in self.grid.items()}


class ControlError(RuntimeError):
    """The other process said that it failed, or said nothing any more."""


class Control:
    """The control connection: questions and answers, each a line of JSON."""

    def __init__(self, connection: socket.socket) -> None:
        connection.settimeout(ANSWER_SECONDS)
        self._file = connection.makefile("rwb")

    def put(self, message: Mapping[str, Any]) -> None:
        self._file.write(json.dumps(message).encode() + b"\n")
        self._file.flush()

    def get(self) -> dict[str, Any] | None:
        """The next message; None when the other side has closed the connection."""
        line = self._file.readline()
        return dict(json.loads(line)) if line else None

    def answer(self) -> dict[str, Any]:
        message = self.get()
        if message is None:
            raise ControlError("the receiver has ended; its last words are on its stderr")
        if "error" in message:
            raise ControlError(f"the receiver failed: {message['error']}")
        return message

    def ask(self, question: str, **details: Any) -> dict[str, Any]:
        self.put({"do": question, **details})
        return self.answer()


def cpu_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def serve(receiver: Receiver, place: Memory, control: Control) -> None:
    """Answers the sender's questions until it closes the connection."""

    def expect(message: dict[str, Any]) -> dict[str, Any]:
        receiver.expect(message["bytes"])
        return {}

    def landed(_: dict[str, Any]) -> dict[str, Any]:
        receiver.landed()
        return {}

    def connect(_: dict[str, Any]) -> dict[str, Any]:
        receiver.connect()
        return {}

    answers: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
        "address": lambda _: receiver.address(),
        "connect": connect,
        "expect": expect,
        "landed": landed,
        "digest": lambda message: {"digest": place.digest(message["bytes"])},
    }
    while message := control.get():
        try:
            control.put(answers[message["do"]](message))
        except Exception as error:
            control.put({"error": f"{type(error).__name__}: {error}"})
            raise


def receive(peer: Peer, options: argparse.Namespace, driver: TextIO) -> None:
    place = destination(options.place_mib * MIB)
    receiver = peer.receiver(place, options.connections, settings_of(peer, options))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        print(f"listening on 127.0.0.1:{listener.getsockname()[1]}", file=driver)
        listener.settimeout(ANSWER_SECONDS)
        connection, _ = listener.accept()
    serve(receiver, place, Control(connection))


def send(peer: Peer, options: argparse.Namespace, driver: TextIO) -> None:
    origin = source(options.source)
    host, _, port = options.address.rpartition(":")
    control = Control(socket.create_connection((host, int(port))))
    address = control.ask("address")
    # Both sides connect at once: in some libraries each waits for the other.
    control.put({"do": "connect"})
    sender = peer.sender(origin, options.connections, settings_of(peer, options), address)
    control.answer()

    total = options.total_mib * MIB
    transfer(sender, control, min(total, WARMUP_BYTES))
    print("sending", file=driver)
    print(json.dumps(transfer(sender, control, total)), file=driver)
    if options.verify:
        length = min(total, origin.bytes)
        if control.ask("digest", bytes=length)["digest"] != origin.digest(length):
            raise ControlError("what landed is not what was sent")


def transfer(sender: Sender, control: Control, length: int) -> dict[str, Any]:
    """Sends, waits until it has landed, and says what it cost."""
    control.ask("expect", bytes=length)
    cpu_before, start = cpu_seconds(), time.perf_counter()
    sender.send(length)
    control.ask("landed")
    seconds = time.perf_counter() - start
    return {"bytes": length, "seconds": seconds, "cpu_seconds": cpu_seconds() - cpu_before}


def probe(peer: Peer, _: argparse.Namespace, driver: TextIO) -> None:
    """Says that the peer can be imported, and its version."""
    for module in peer.modules:
        importlib.import_module(module)
    print(json.dumps({"version": importlib.metadata.version(peer.distribution)}), file=driver)


def settings_of(peer: Peer, options: argparse.Namespace) -> dict[str, int]:
    given = dict(pair.split("=", 1) for pair in options.set)
    if unknown := given.keys() - peer.grid.keys():
        raise SystemExit(f"{peer.name} has no setting {', '.join(sorted(unknown))}; it has {', '.join(peer.grid)}")
    return peer.defaults() | {name: int(value) for name, value in given.items()}


def parse(peer: Peer, arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=f"One round of {peer.name} over loopback TCP.")
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("--connections", type=int, default=2)
    shared.add_argument("--set", action="append", default=[], metavar="NAME=NUMBER", help=f"of {', '.join(peer.grid)}")
    roles = parser.add_subparsers(dest="role", required=True)
    roles.add_parser("probe", parents=[shared], help="says whether it can be imported")
    receiving = roles.add_parser("receive", parents=[shared], help="prints its address, serves one sender, ends")
    receiving.add_argument("--place-mib", type=int, default=1024, help="of the destination; the source's size")
    sending = roles.add_parser("send", parents=[shared], help="sends, and prints what it cost")
    sending.add_argument("address", help="that the receiver printed")
    sending.add_argument("--source", type=Path, required=True, help="a file of random bytes on tmpfs")
    sending.add_argument("--total-mib", type=int, default=4096)
    sending.add_argument("--verify", action="store_true", help="compares what landed, after the clock has stopped")
    return parser.parse_args(arguments)


def main(peer: Peer) -> NoReturn:
    options = parse(peer, sys.argv[1:])
    os.environ.update(peer.environment(options.connections, settings_of(peer, options)))
    # What libraries print on stdout goes to stderr, and is not taken for what we say.
    driver = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    {"probe": probe, "receive": receive, "send": send}[options.role](peer, options, driver)
    # Not by way of the libraries' own ends: some wait for a peer that is gone already, and nothing is left to save.
    os._exit(0)
