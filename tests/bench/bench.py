"""`make bench`: how fast weights move, beside what a user would otherwise do, in one run on one machine.

Every contender sends the same bytes over loopback. Rounds are interleaved, so that a slow minute of the machine is
shared by all; each figure is the median of the rounds, with the least and the most. See docs/performance.md for how to
read the table.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

GIB = 1 << 30
CLOCK_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Round:
    """What one round of one contender cost."""

    bytes: int
    seconds: float
    sender_cpu_seconds: float
    receiver_cpu_seconds: float


@dataclass
class Settings:
    binaries: Path
    server: Path
    total_mib: int
    rounds: int
    connections: list[int] = field(default_factory=lambda: [2])


def cpu_seconds(pid: int) -> float:
    """User and system time of a process, all threads."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / CLOCK_TICKS


@contextlib.contextmanager
def receiver(*command: str | Path) -> Iterator[tuple[int, str]]:
    """Starts a receiving process, and yields its pid and the address that it says it listens on."""
    with subprocess.Popen(
        [str(word) for word in command],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        assert process.stdout is not None and process.stdin is not None
        line = process.stdout.readline()
        if not line.startswith("listening on "):
            raise RuntimeError(f"{command[0]} did not start: {line!r}")
        try:
            yield process.pid, line.removeprefix("listening on ").strip()
        finally:
            process.stdin.close()
            process.terminate()
            process.wait(timeout=60)


def send(receiver_pid: int, *command: str | Path) -> Round:
    """Runs a sender to its end, which prints what the round cost on its side."""
    before = cpu_seconds(receiver_pid)
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=600, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{command[0]} failed: {done.stderr.strip()}")
    report = json.loads(done.stdout)
    return Round(
        bytes=report["bytes"],
        seconds=report["seconds"],
        sender_cpu_seconds=report["cpu_seconds"],
        receiver_cpu_seconds=cpu_seconds(receiver_pid) - before,
    )


class Contender(Protocol):
    name: str

    def run(self, connections: int) -> Round: ...


class RawTcp:
    """The ceiling: recv straight into place."""

    name = "tcp"

    def __init__(self, settings: Settings, pid: int, address: str) -> None:
        self._settings, self._pid, self._port = settings, pid, address.rpartition(":")[2]

    def run(self, connections: int) -> Round:
        settings = self._settings
        binary = settings.binaries / "raw_tcp"
        return send(
            self._pid, binary, "send", self._port, f"--total_mib={settings.total_mib}", f"--connections={connections}"
        )


class PlainStub:
    """The floor: generated stubs, default settings."""

    name = "stub"

    def __init__(self, settings: Settings, pid: int, address: str) -> None:
        self._settings, self._pid, self._address = settings, pid, address

    def run(self, connections: int) -> Round:
        settings = self._settings
        binary = settings.binaries / "plain_stub"
        return send(
            self._pid,
            binary,
            "send",
            self._address,
            f"--total_mib={settings.total_mib}",
            f"--connections={connections}",
        )


class Weightstream:
    """The real server and the real library: every checksum, the commit included."""

    def __init__(self, name: str, settings: Settings, pid: int, address: str, shape: str = "one") -> None:
        self.name, self._settings, self._pid, self._address, self._shape = name, settings, pid, address, shape

    def run(self, connections: int) -> Round:
        settings = self._settings
        return send(
            self._pid,
            settings.binaries / "library_push",
            self._address,
            f"--model={self._shape}",
            f"--shape={self._shape}",
            f"--total_mib={settings.total_mib}",
            f"--connections={connections}",
        )


@contextlib.contextmanager
def contenders(settings: Settings) -> Iterator[list[Contender]]:
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="weightstream-bench-", dir="/dev/shm")))
        raw = stack.enter_context(receiver(settings.binaries / "raw_tcp", "receive"))
        stub = stack.enter_context(receiver(settings.binaries / "plain_stub", "serve"))

        def server(name: str, *flags: str) -> tuple[int, str]:
            data_dir = f"--data-dir={folder / name}"
            return stack.enter_context(
                receiver(settings.server, "--listen=127.0.0.1:0", data_dir, "--keep-versions=1", *flags)
            )

        host = server("host")
        staged = server("staged", "--device=host-staged")
        yield [
            RawTcp(settings, *raw),
            PlainStub(settings, *stub),
            Weightstream("weightstream", settings, *host),
            Weightstream("weightstream, llama-like", settings, *host, shape="llama"),
            Weightstream("weightstream, staged", settings, *staged),
        ]


@dataclass
class Row:
    contender: str
    connections: int
    rounds: list[Round]

    def rates(self) -> list[float]:
        return [one.bytes / one.seconds / 1e9 for one in self.rounds]

    def cpu_per_gib(self, side: str) -> float:
        return statistics.median(getattr(one, f"{side}_cpu_seconds") / (one.bytes / GIB) for one in self.rounds)


def measure(settings: Settings) -> list[Row]:
    with contenders(settings) as all_contenders:
        rows = {(c.name, n): Row(c.name, n, []) for n in settings.connections for c in all_contenders}
        # The first round of each warms up: arenas are fresh, pages untouched. It is told apart, not counted.
        for round_number in range(settings.rounds + 1):
            for connections in settings.connections:
                for contender in all_contenders:
                    result = contender.run(connections)
                    if round_number > 0:
                        rows[contender.name, connections].rounds.append(result)
                    print(
                        f"round {round_number} {contender.name} x{connections}: "
                        f"{result.bytes / result.seconds / 1e9:.2f} GB/s",
                        file=sys.stderr,
                    )
        return list(rows.values())


def print_table(rows: list[Row]) -> None:
    ceilings = {row.connections: statistics.median(row.rates()) for row in rows if row.contender == "tcp"}
    heading = ("contender", "connections", "GB/s", "least", "most", "of tcp", "CPU s/GiB send", "receive")
    print(f"{heading[0]:26}" + "".join(f"{title:>15}" for title in heading[1:]))
    for row in rows:
        median = statistics.median(row.rates())
        cells = (
            f"{row.connections}",
            f"{median:.2f}",
            f"{min(row.rates()):.2f}",
            f"{max(row.rates()):.2f}",
            f"{median / ceilings[row.connections]:.2f}",
            f"{row.cpu_per_gib('sender'):.2f}",
            f"{row.cpu_per_gib('receiver'):.2f}",
        )
        print(f"{row.contender:26}" + "".join(f"{cell:>15}" for cell in cells))


def write_json(rows: list[Row], path: Path) -> None:
    report = [
        {
            "contender": row.contender,
            "connections": row.connections,
            "median_gb_per_second": statistics.median(row.rates()),
            "rounds": [vars(one) for one in row.rounds],
        }
        for row in rows
    ]
    path.write_text(json.dumps(report, indent=1) + "\n")


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--bin", type=Path, default=Path("bazel-bin"), help="where Bazel put the binaries")
    parser.add_argument("--total-mib", type=int, default=2048, help="MiB that one round sends (default 2048)")
    parser.add_argument("--rounds", type=int, default=5, help="rounds that count, after one that warms up (default 5)")
    parser.add_argument("--connections", default="1,2,4", help="connection counts, separated by commas (default 1,2,4)")
    parser.add_argument("--json", type=Path, help="also writes every round to this file")
    return parser.parse_args(arguments)


def main(arguments: list[str]) -> int:
    options = parse(arguments)
    # Two versions of each of three models may be held at a time, and the receivers' places.
    wanted = 7 * (options.total_mib << 20)
    if shutil.disk_usage("/dev/shm").free < wanted:
        print(
            f"make bench: /dev/shm has less than {wanted / GIB:.0f} GiB free; use a smaller --total-mib",
            file=sys.stderr,
        )
        return 1
    settings = Settings(
        binaries=options.bin / "tests" / "bench",
        server=options.bin / "server" / "weightstream-server",
        total_mib=options.total_mib,
        rounds=options.rounds,
        connections=[int(count) for count in options.connections.split(",")],
    )
    rows = measure(settings)
    print_table(rows)
    if options.json:
        write_json(rows, options.json)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
