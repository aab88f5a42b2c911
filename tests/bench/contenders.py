"""Who sends: raw TCP, the plain stub, and Weightstream; each makes rounds of the same bytes."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.bench.processes import Receiver, run_round
from tests.bench.readiness import await_prepared
from tests.bench.rounds import MIB, Case, Label, Round

PLACE_MIB = 1024
MODEL = "bench"
# So that it is not the first rounds that find a receiver's threads and buffers unmade.
WARM_UP_MIB = 256
# Of a warm push that found no memory ready: it must not pass for one.
NOT_READY = "NOT READY"
# The baselines by name.
PROGRAMS = {"tcp": "raw_tcp", "stub": "plain_stub"}


@dataclass(frozen=True)
class Settings:
    """What was asked for, and where things are."""

    benchmarks: Path
    server: Path
    command: Path
    # In shared memory; everything in it is removed at the end.
    folder: Path
    total_mib: int = 4096
    rounds: int = 5
    connections: tuple[int, ...] = (1, 2, 4)
    small_tensors: int = 100_000
    link_mib: int = 256
    # Of distinct bytes in the source, which are sent over and over.
    period_mib: int = 1024
    # A folder that is not in memory, for what is about reading files.
    disk: Path = Path("/var/tmp")
    # Where plots go; None: none are made.
    plots: Path | None = None
    _numbers: Iterator[int] = field(default_factory=itertools.count, repr=False, compare=False)

    def new_path(self, name: str) -> Path:
        return self.folder / f"{name}-{next(self._numbers)}"

    @property
    def source(self) -> Path:
        """The file with the distinct bytes, made by the first sender that needs it."""
        return self.folder / "source"

    @property
    def place_mib(self) -> int:
        """Of a baseline's destination, which is used again from its start where more is sent."""
        return min(PLACE_MIB, self.total_mib)

    def source_flags(self, total_mib: int) -> list[str]:
        return [f"--total_mib={total_mib}", f"--period_mib={self.period_mib}", f"--source_file={self.source}"]


class Baseline:
    """raw_tcp (`tcp`, the ceiling) or plain_stub (`stub`, the floor): a receiver that stays up, its place ready."""

    def __init__(
        self, name: str, settings: Settings, at: Sequence[str] = (), to: Sequence[str] = (), listen: str = "127.0.0.1"
    ) -> None:
        """`at` and `to` are put before the sender's and the receiver's command: ip netns exec NAME."""
        self.name, self._settings, self._sender_prefix = name, settings, at
        self._program = settings.benchmarks / PROGRAMS[name]
        place = f"--place_mib={settings.place_mib}"
        command: list[str | Path] = [*to, self._program, "receive", place, f"--listen={listen}:0"]
        self.receiver = Receiver(command, settings.new_path(f"{name}-receiver.log"))

    def __enter__(self) -> Baseline:
        return self

    def __exit__(self, *_: object) -> None:
        self.receiver.stop()

    def send(self, total_mib: int, connections: int) -> Round:
        words: list[str | Path] = [
            *self._sender_prefix,
            self._program,
            "send",
            self.receiver.address,
            f"--connections={connections}",
        ]
        words += self._settings.source_flags(total_mib)
        return run_round(words, [self.receiver], self._settings.new_path(f"{self.name}-sender.log"))

    def warmed_up(self) -> Baseline:
        self.send(min(self._settings.total_mib, WARM_UP_MIB), 2)
        return self

    def case(self, total_mib: int, connections: int, note: str = "") -> Case:
        label = Label(self.name, connections, total_mib, note=note)
        return lambda: [(label, self.send(total_mib, connections))]


@dataclass(frozen=True)
class Work:
    """What Weightstream is to push, and how."""

    total_mib: int
    connections: int
    shape: str = "one"
    chunk_kib: int = 0
    # Of the servers' certificates; None: plaintext.
    tls_ca: Path | None = None

    def label(self, contender: str, arena: str, show_shape: bool = False) -> Label:
        shape = self.shape if show_shape else ""
        return Label(contender, self.connections, self.total_mib, arena, shape, self.chunk_kib)


@contextlib.contextmanager
def server(
    settings: Settings, *flags: str, prefix: Sequence[str] = (), listen: str = "127.0.0.1"
) -> Iterator[Receiver]:
    """A fresh weightstream-server with an empty data folder, both gone at the end."""
    folder = settings.new_path("data")
    command: list[str | Path] = [
        *prefix,
        settings.server,
        f"--listen={listen}:0",
        f"--data-dir={folder}",
        "--keep-versions=1",
        # The link of the measurements is not loopback, and is ours.
        "--allow-plaintext",
        *flags,
    ]
    try:
        with Receiver(command, settings.new_path("server.log")) as receiver:
            yield receiver
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def push_command(settings: Settings, servers: Sequence[Receiver], work: Work) -> list[str | Path]:
    return [
        settings.benchmarks / "library_push",
        ",".join(one.address for one in servers),
        f"--model={MODEL}",
        f"--shape={work.shape}",
        f"--small_tensors={settings.small_tensors}",
        f"--connections={work.connections}",
        f"--chunk_kib={work.chunk_kib}",
        *([f"--tls_ca={work.tls_ca}"] if work.tls_ca else []),
        *settings.source_flags(work.total_mib),
    ]


def push(settings: Settings, servers: Sequence[Receiver], work: Work) -> Round:
    return run_round(push_command(settings, servers, work), servers, settings.new_path("push.log"))


def push_warm(settings: Settings, servers: Sequence[Receiver], work: Work, wanted_bytes: int) -> tuple[str, Round]:
    """A push once every server has that much memory ready; says what the arena was."""
    ready = await_all_prepared(settings, servers, work, wanted_bytes)
    return "warm" if ready else NOT_READY, push(settings, servers, work)


def await_all_prepared(settings: Settings, servers: Sequence[Receiver], work: Work, wanted_bytes: int) -> bool:
    return all([await_prepared(settings.command, one.address, MODEL, wanted_bytes, work.tls_ca) for one in servers])


def fresh_server_case(settings: Settings, contender: str, work: Work, *flags: str, show_shape: bool = False) -> Case:
    """A server of its own each time: the first push is cold, the second warm."""

    def run() -> list[tuple[Label, Round]]:
        with server(settings, *flags) as receiver:
            cold = push(settings, [receiver], work)
            arena, warm = push_warm(settings, [receiver], work, cold.bytes)
        return [
            (work.label(contender, "cold", show_shape), cold),
            (work.label(contender, arena, show_shape), warm),
        ]

    return run


def standing_servers_case(settings: Settings, contender: str, servers: Sequence[Receiver], work: Work) -> Case:
    """Servers that stay up, each push into memory made ready since the last. They hold a version of one tensor of
    this size already."""

    def run() -> list[tuple[Label, Round]]:
        arena, warm = push_warm(settings, servers, work, work.total_mib * MIB)
        # What they do behind a commit is not to burden the next contender's round.
        await_all_prepared(settings, servers, work, work.total_mib * MIB)
        return [(dataclasses.replace(work.label(contender, arena), receivers=len(servers)), warm)]

    return run
