"""Who is measured: raw TCP and Weightstream, whose receivers live on; and the peers, with new processes each round."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from tests.bench.peers import flight_peer, gloo_peer, mooncake_peer, nixl_peer
from tests.bench.peers.one_round import Peer
from tests.bench.peers.processes import (
    Listening,
    Round,
    RoundError,
    last_words,
    process_cpu_seconds,
    receiver,
    round_of,
    run,
    wait_until_quiet,
)

PEERS: tuple[Peer, ...] = (flight_peer.PEER, mooncake_peer.PEER, nixl_peer.PEER, gloo_peer.PEER)


@dataclass(frozen=True)
class Setup:
    """Where the programs are, and what each of them sends."""

    # Bazel's binaries, and build/peers.
    binaries: Path
    home: Path
    # The repository's root, from which the peers' modules are found.
    root: Path
    # Random bytes on tmpfs, which all of them send over and over, and the size of every destination.
    source: Path
    source_mib: int
    total_mib: int


class Contender(Protocol):
    """One row of the table for each number of connections."""

    @property
    def name(self) -> str: ...

    def run(self, connections: int, verify: bool) -> Round: ...

    def settings(self, connections: int) -> Mapping[str, int]: ...


class Reference:
    """A receiver of this repository that lives as long as the measurement, and a sender a round."""

    def __init__(self, name: str, listening: Listening, sender: Sequence[str | Path], setup: Setup) -> None:
        self.name = name
        self._listening = listening
        self._command: list[str | Path] = [
            *sender,
            f"--total_mib={setup.total_mib}",
            f"--period_mib={setup.source_mib}",
            f"--source_file={setup.source}",
        ]

    def run(self, connections: int, verify: bool) -> Round:
        before = process_cpu_seconds(self._listening.pid)
        report = run([*self._command, f"--connections={connections}"])
        done = round_of(report, process_cpu_seconds(self._listening.pid) - before)
        # Weightstream prepares the next version's memory behind a commit: not at the cost of the next contender.
        wait_until_quiet(self._listening.pid)
        return done

    def settings(self, connections: int) -> Mapping[str, int]:
        return {}


@dataclass
class PeerContender:
    """Two new processes a round, with the settings chosen for the number of connections."""

    peer: Peer
    setup: Setup
    chosen: dict[int, dict[str, int]] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.peer.name

    def settings(self, connections: int) -> Mapping[str, int]:
        return self.chosen.get(connections, self.peer.defaults())

    def run(self, connections: int, verify: bool) -> Round:
        return self.run_with(connections, self.settings(connections), self.setup.total_mib, verify)

    def run_with(self, connections: int, settings: Mapping[str, int], total_mib: int, verify: bool) -> Round:
        words = [f"--connections={connections}", *(f"--set={name}={value}" for name, value in settings.items())]
        place = f"--place-mib={self.setup.source_mib}"
        with receiver([*self._program("receive"), place, *words], cwd=self.setup.root) as listening:
            sending = [f"--source={self.setup.source}", f"--total-mib={total_mib}", *words]
            if verify:
                sending.append("--verify")
            try:
                report = run([*self._program("send"), listening.address, *sending], cwd=self.setup.root)
            except RoundError as error:
                raise RoundError(f"{error} (the receiver's last words: {last_words(listening.messages)})") from None
        return round_of(report, report["receiver_cpu_seconds"])

    def version(self) -> str:
        """The installed version; RoundError, with the reason, where the peer cannot be used."""
        refused = self.setup.home / "not_installed" / self.peer.distribution
        if refused.is_file():
            lines = refused.read_text().split("\n")
            raise RoundError("could not be installed: " + next((line for line in reversed(lines) if line), "no reason"))
        return str(run(self._program("probe"), cwd=self.setup.root)["version"])

    def _program(self, role: str) -> list[str | Path]:
        python = self.setup.home / "venv" / "bin" / "python"
        return [python, "-m", self.peer.receiver.__module__, role]


def source_file(path: Path, length_mib: int) -> None:
    """Makes the random bytes that are sent."""
    with Path("/dev/urandom").open("rb") as random, path.open("wb") as file:
        for _ in range(length_mib):
            file.write(random.read(1 << 20))


@contextlib.contextmanager
def references(setup: Setup, data_dir: Path) -> Iterator[list[Contender]]:
    """Raw TCP, the ceiling; and Weightstream: the real server and library, every checksum, the commit included."""
    raw_tcp = setup.binaries / "tests" / "bench" / "raw_tcp"
    push = setup.binaries / "tests" / "bench" / "library_push"
    server = setup.binaries / "server" / "weightstream-server"
    with (
        receiver([raw_tcp, "receive", f"--place_mib={setup.source_mib}"]) as raw,
        receiver([server, "--listen=127.0.0.1:0", f"--data-dir={data_dir}", "--keep-versions=1"]) as weightstream,
    ):
        yield [
            Reference("tcp", raw, (raw_tcp, "send", raw.address), setup),
            Reference("weightstream", weightstream, (push, weightstream.address, "--model=peers"), setup),
        ]


def read_settings(path: Path) -> dict[str, dict[int, dict[str, int]]]:
    """Settings by peer and connections, from the "settings" of an earlier run's JSON."""
    found = json.loads(path.read_text())["settings"]
    return {name: {int(count): dict(values) for count, values in of.items()} for name, of in found.items()}
