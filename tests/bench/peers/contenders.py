"""Who is measured: raw TCP and Weightstream, whose receivers live on; and the peers, with new processes each round."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from tests.bench.contenders import Baseline, Settings, Work, push, server
from tests.bench.peers import flight_peer, gloo_peer, mooncake_peer, nixl_peer
from tests.bench.peers.one_round import Peer
from tests.bench.processes import START_SECONDS, BenchError, Process, Receiver, cpu_seconds, run_round
from tests.bench.rounds import MIB, Round

PEERS: tuple[Peer, ...] = (flight_peer.PEER, mooncake_peer.PEER, nixl_peer.PEER, gloo_peer.PEER)

# A process that uses no more than the kernel's tick of 10 ms for so long has gone quiet.
QUIET_SPAN_SECONDS = 0.25
QUIET_CPU_SECONDS = 0.015
QUIET_DEADLINE_SECONDS = 60.0


class Contender(Protocol):
    """One row of the table for each number of connections."""

    @property
    def name(self) -> str: ...

    def run(self, connections: int, verify: bool) -> Round: ...

    def chosen_for(self, connections: int) -> Mapping[str, int]: ...


@dataclass
class Reference:
    """A contender of `make bench`: its receiver lives as long as the measurement, and nothing can be set on it."""

    name: str
    send: Callable[[int], Round]

    def run(self, connections: int, verify: bool) -> Round:
        return self.send(connections)

    def chosen_for(self, connections: int) -> Mapping[str, int]:
        return {}


@contextlib.contextmanager
def references(settings: Settings) -> Iterator[list[Contender]]:
    """Raw TCP, the ceiling; and Weightstream: the real server and library, every checksum, the commit included."""
    with Baseline("tcp", settings) as tcp, server(settings) as receiver:

        def push_and_settle(connections: int) -> Round:
            done = push(settings, [receiver], Work(settings.total_mib, connections))
            # It prepares the next version's memory behind a commit: not at the cost of the next contender.
            wait_until_quiet(receiver.pid)
            return done

        yield [
            Reference("tcp", lambda connections: tcp.send(settings.total_mib, connections)),
            Reference("weightstream", push_and_settle),
        ]


@dataclass
class PeerContender:
    """Two new processes a round, with the settings chosen for the number of connections."""

    peer: Peer
    settings: Settings
    # build/peers.
    home: Path
    chosen: dict[int, dict[str, int]] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.peer.name

    def chosen_for(self, connections: int) -> Mapping[str, int]:
        return self.chosen.get(connections, self.peer.defaults())

    def run(self, connections: int, verify: bool) -> Round:
        return self.run_with(connections, self.chosen_for(connections), self.settings.total_mib, verify)

    def run_with(self, connections: int, chosen: Mapping[str, int], total_mib: int, verify: bool) -> Round:
        words = [f"--connections={connections}", *(f"--set={name}={value}" for name, value in chosen.items())]
        place = f"--place-mib={self.settings.period_mib}"
        sending = [f"--source={self.settings.source}", f"--total-mib={total_mib}", *words]
        if verify:
            sending.append("--verify")
        with Receiver([*self._program("receive"), place, *words], self._log("receiver")) as receiver:
            command = [*self._program("send"), receiver.address, *sending]
            try:
                return run_round(command, [receiver], self._log("sender"))
            except BenchError as error:
                raise BenchError(f"{error} (the receiver's last words: {last_line(receiver.log())})") from None

    def version(self) -> str:
        """The installed version; BenchError, with the reason, where the peer cannot be used."""
        refused = self.home / "not_installed" / self.peer.distribution
        if refused.is_file():
            raise BenchError(f"could not be installed: {last_line(refused.read_text())}")
        with Process(self._program("probe"), self._log("probe")) as process:
            version = str(json.loads(process.line("version", START_SECONDS))["version"])
            process.wait()
        return version

    def _program(self, role: str) -> list[str | Path]:
        python = self.home / "venv" / "bin" / "python"
        # Found from the folder that we run in, the root of the repository.
        return [python, "-m", self.peer.receiver.__module__, role]

    def _log(self, role: str) -> Path:
        return self.settings.new_path(f"{self.peer.distribution}-{role}.log")


def last_line(text: str) -> str:
    """Where a program says what was wrong: the end of its log, or of an error that quotes it."""
    lines = text.strip().splitlines()
    return lines[-1] if lines else "no reason"


def wait_until_quiet(pid: int) -> None:
    """Waits until a process uses next to no processor time, so that what it does later burdens nobody else's round."""
    pause = threading.Event()
    deadline = time.monotonic() + QUIET_DEADLINE_SECONDS
    while time.monotonic() < deadline:
        before = cpu_seconds(pid)
        pause.wait(QUIET_SPAN_SECONDS)
        if cpu_seconds(pid) - before <= QUIET_CPU_SECONDS:
            return
    raise BenchError(f"process {pid} was still busy {QUIET_DEADLINE_SECONDS:.0f} seconds after its round")


def make_source(settings: Settings) -> None:
    """The random bytes that are sent, made before anybody needs them: the peers cannot make them."""
    with Path("/dev/urandom").open("rb") as random, settings.source.open("wb") as file:
        for _ in range(settings.period_mib):
            file.write(random.read(MIB))


def read_chosen(path: Path) -> dict[str, dict[int, dict[str, int]]]:
    """Settings by peer and connections, from the JSON of an earlier run."""
    (section,) = json.loads(path.read_text())["sections"]
    found = section["facts"]["settings"]
    return {name: {int(count): dict(values) for count, values in of.items()} for name, of in found.items()}
