"""Many clients at one server for a long time, and thousands of updates in a row: `make load`, which builds all.

    make load                                   # 64 clients for 10 minutes, then 10,000 updates in a row
    make load ARGS="--seconds=60"               # 64 clients for one minute
    make load CONFIG=asan ARGS="--seconds=60"   # the same with the binaries of --config=asan

Exits 1 if an update failed, if memory, descriptors or threads grew, or if a client got less than its share.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

MIB = 1 << 20
# Between the medians of the first and the last quarter, between which lie three quarters of the updates: 7,500 in a
# row, or some 35,000 and more of 64 clients in ten minutes. So some hundred bytes an update are found, and a descriptor
# or a thread of each thousandth. What malloc and gRPC keep for later settles in the first quarter, more of it for more
# clients, whose connections come and go.
MOST_GROWTH_BYTES = 4 * MIB
MOST_GROWTH_BYTES_A_CLIENT = MIB // 8
MOST_GROWTH_DESCRIPTORS = 4
CLIENTS_A_DESCRIPTOR = 8
MOST_GROWTH_THREADS = 8
# Of the arenas, which are shared memory: each model has one or two, and one more while an update is on its way.
MOST_GROWTH_SHARED = 0.25
MOST_GROWTH_SHARED_BYTES = 4 * MIB
# The most updates of a client over the fewest.
MOST_UNFAIR = 2.0
_START_SECONDS = 60
_STOP_SECONDS = 120
# A server under a sanitizer keeps freed memory in quarantine: its size says nothing.
SANITIZED = ("libasan", "libtsan")


class LoadError(Exception):
    """What was promised does not hold, or a program did not do its part."""


@dataclass
class Sample:
    """The server at one moment."""

    anonymous_bytes: int
    shared_bytes: int
    descriptors: int
    threads: int


@dataclass
class Report:
    """Of one run."""

    name: str
    seconds: float
    updates: list[int]
    latencies: list[float]
    samples: list[Sample] = field(default_factory=list)
    sanitizer: str = ""

    def quarter(self, last: bool) -> Sample:
        """The medians of the first or the last quarter."""
        count = max(1, len(self.samples) // 4)
        part = self.samples[-count:] if last else self.samples[:count]
        return Sample(
            int(statistics.median(s.anonymous_bytes for s in part)),
            int(statistics.median(s.shared_bytes for s in part)),
            int(statistics.median(s.descriptors for s in part)),
            int(statistics.median(s.threads for s in part)),
        )

    def percentile(self, part: float) -> float:
        ordered = sorted(self.latencies)
        return ordered[min(len(ordered) - 1, int(part * len(ordered)))]

    def check(self) -> None:
        """LoadError for growth or unfairness."""
        first, last = self.quarter(last=False), self.quarter(last=True)
        clients = len(self.updates)
        # Under a sanitizer memory says nothing.
        memory = 0 if self.sanitizer else last.anonymous_bytes - first.anonymous_bytes
        for grown, most, what in (
            (memory, MOST_GROWTH_BYTES + clients * MOST_GROWTH_BYTES_A_CLIENT, "memory"),
            (
                last.shared_bytes - first.shared_bytes,
                int(MOST_GROWTH_SHARED_BYTES + MOST_GROWTH_SHARED * first.shared_bytes),
                "shared memory",
            ),
            (
                last.descriptors - first.descriptors,
                MOST_GROWTH_DESCRIPTORS + clients // CLIENTS_A_DESCRIPTOR,
                "descriptors",
            ),
            (last.threads - first.threads, MOST_GROWTH_THREADS, "threads"),
        ):
            if grown > most:
                raise LoadError(
                    f"{self.name}: the server's {what} grew by {grown}, over {most}: from {first} to {last}"
                )
        if clients > 1 and max(self.updates) > MOST_UNFAIR * min(self.updates):
            raise LoadError(f"{self.name}: from {min(self.updates)} to {max(self.updates)} updates a client")

    def lines(self) -> list[str]:
        first, last = self.quarter(last=False), self.quarter(last=True)
        milliseconds = [f"{1000 * self.percentile(part):.1f}" for part in (0.5, 0.99, 0.999)]
        return [
            f"{self.name}{', under ' + self.sanitizer if self.sanitizer else ''}:",
            f"  {sum(self.updates):,} updates in {self.seconds:.0f} s, none failed; "
            f"{min(self.updates)} to {max(self.updates)} a client",
            f"  Begin to Commit: p50 {milliseconds[0]} ms, p99 {milliseconds[1]} ms, p99.9 {milliseconds[2]} ms",
            f"  memory of its own {first.anonymous_bytes / MIB:.0f} -> {last.anonymous_bytes / MIB:.0f} MiB, "
            f"arenas {first.shared_bytes / MIB:.0f} -> {last.shared_bytes / MIB:.0f} MiB, "
            f"descriptors {first.descriptors} -> {last.descriptors}, threads {first.threads} -> {last.threads} "
            "(medians of the first and the last quarter)",
        ]


def sample(pid: int) -> Sample:
    status = Path(f"/proc/{pid}/status").read_text()
    fields = dict(re.findall(r"^(\w+):\s+(\d+)", status, re.MULTILINE))
    descriptors = len(list(Path(f"/proc/{pid}/fd").iterdir()))
    return Sample(int(fields["RssAnon"]) << 10, int(fields["RssShmem"]) << 10, descriptors, int(fields["Threads"]))


def sanitizer_of(pid: int) -> str:
    maps = Path(f"/proc/{pid}/maps").read_text()
    return next((library for library in SANITIZED if library in maps), "")


@dataclass(frozen=True)
class Binaries:
    """The two programs; `wrapper` goes before each."""

    server: Path
    client: Path
    wrapper: Sequence[str] = ()

    def words(self, program: Path, *arguments: str) -> list[str]:
        return [*self.wrapper, str(program.resolve(strict=True)), *arguments]


def run(name: str, binaries: Binaries, client_flags: Sequence[str]) -> Report:
    """One server, one process of clients; LoadError if either does not end well."""
    with contextlib.ExitStack() as stack:
        folder = Path(tempfile.mkdtemp(prefix="weightstream-load-", dir="/dev/shm"))
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        server_log = stack.enter_context((folder / "server.log").open("w+"))
        words = binaries.words(binaries.server, "--listen=127.0.0.1:0", f"--data-dir={folder / 'data'}")
        server = subprocess.Popen(
            [*words, "--keep-versions=1", "--log-level=warning"], stdout=subprocess.PIPE, stderr=server_log, text=True
        )
        stack.callback(server.kill)
        assert server.stdout is not None
        address = server.stdout.readline().removeprefix("listening on ").strip()
        if not address:
            raise LoadError(f"the server did not start: {(folder / 'server.log').read_text()[-2000:]}")
        report = _drive(name, binaries, [address, *client_flags], server)
        server.terminate()
        if (code := server.wait(_STOP_SECONDS)) != 0:
            raise LoadError(f"{name}: the server ended with {code}: {(folder / 'server.log').read_text()[-4000:]}")
        return report


def _drive(name: str, binaries: Binaries, arguments: Sequence[str], server: subprocess.Popen[str]) -> Report:
    began = time.monotonic()
    report = Report(name, 0, [], [], sanitizer=sanitizer_of(server.pid))
    with tempfile.TemporaryFile("w+") as messages:
        client = subprocess.Popen(
            binaries.words(binaries.client, *arguments), stdout=subprocess.PIPE, stderr=messages, text=True
        )
        assert client.stdout is not None
        try:
            for line in client.stdout:
                said = json.loads(line)
                if "progress" in said:
                    report.samples.append(sample(server.pid))
                else:
                    report.updates, report.latencies = said["updates"], said["seconds"]
            code = client.wait(_STOP_SECONDS)
        finally:
            client.kill()
        messages.seek(0)
        if code != 0 or not report.updates:
            raise LoadError(f"{name}: the clients ended with {code}: {messages.read()[-4000:]}")
    report.seconds = time.monotonic() - began
    # What has been promised to the first quarter is there only if something was seen of it.
    if len(report.samples) < 4:
        raise LoadError(f"{name}: only {len(report.samples)} samples; let it run longer")
    return report


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make load", description="Loads one server, and measures what it takes.")
    parser.add_argument(
        "--seconds", type=float, help="64 clients for so long, and nothing else (600, then the updates)"
    )
    parser.add_argument("--updates", type=int, default=10_000, help="updates in a row of one small model (10000)")
    parser.add_argument("--clients", type=int, default=64, help="each with a model of its own (64)")
    parser.add_argument("--model-kib", type=int, default=1024, help="of each client's model (1024)")
    parser.add_argument("--binaries", type=Path, default=Path("bazel-bin"), help="where they were built (bazel-bin)")
    parser.add_argument("--run-under", default="", help="a command to put before each program: setarch -R")
    return parser.parse_args()


def main() -> int:
    arguments = _parse()
    binaries = Binaries(
        arguments.binaries / "server/weightstream-server",
        arguments.binaries / "tests/load/load_client",
        arguments.run_under.split(),
    )
    crowd = [f"--clients={arguments.clients}", f"--model_kib={arguments.model_kib}"]
    crowd.append(f"--seconds={arguments.seconds or 600}")
    runs = [(f"{arguments.clients} clients with a model of {arguments.model_kib} KiB each", crowd)]
    if arguments.seconds is None:
        alone = ["--clients=1", f"--updates={arguments.updates}", "--model_kib=256"]
        runs.append((f"{arguments.updates:,} updates in a row of a model of 256 KiB", alone))
    for name, flags in runs:
        try:
            report = run(name, binaries, flags)
            print("\n".join(report.lines()), flush=True)
            report.check()
        except LoadError as error:
            print(f"FAILED: {error}")
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
