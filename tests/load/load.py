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
import operator
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from tests.end_to_end.waiting import wait_until

KIB = 1 << 10
MIB = 1 << 20
# The clients come in four rounds (load_client.cc). What malloc, gRPC and the history of ended updates keep is there
# after the first, the warm-up; of the others the third and the last are compared, in between which lies a quarter of
# the updates: 2,500 in a row, or 10,000 and more of 64 clients in ten minutes.
#
# After each round nobody is connected: what is allocated then and not freed, counted to the byte (heap_gauge.cc), and
# what is open, the server keeps. Less than 1 KiB was seen to come and go. So some bytes of an update are found, and a
# descriptor of each five hundredth.
ROUNDS = 4
MOST_HEAP_GROWTH_BYTES = 8 * KIB
MOST_HEAP_GROWTH_BYTES_A_CLIENT = 256
MOST_GROWTH_DESCRIPTORS = 2
# Resident memory is what malloc once needed at the same time: it grows in steps, with the most that was ever in flight,
# and by the holes between. A step may come late; what grows from the second round to the third and again from the third
# to the last goes on. With 64 clients that takes about 15 seconds: in a run of less than a minute it is not judged.
LEAST_SECONDS_OF_MEMORY = 60
MOST_GROWTH_BYTES = MIB // 2
MOST_GROWTH_BYTES_A_CLIENT = 8 * KIB
MOST_STEP_BYTES = 4 * MIB
MOST_STEP_BYTES_A_CLIENT = 128 * KIB
MOST_GROWTH_THREADS = 4
# Of the arenas, which are shared memory: each model has one or two, and one more while an update is on its way.
MOST_GROWTH_SHARED = 0.1
MOST_GROWTH_SHARED_BYTES = MIB
# The most updates of a client over the fewest.
MOST_UNFAIR = 2.0
_STOP_SECONDS = 120
LEAST_SAMPLES = 5
# After a round: how long a server is waited for, and how often it is looked at without that anything is freed any more.
_REST_SECONDS = 30
_REST_LOOKS = 20
_REST_LOOK_SECONDS = 0.05
# A server under a sanitizer keeps freed memory in quarantine: its size says nothing.
SANITIZED = ("libasan", "libtsan")


ANONYMOUS = operator.attrgetter("anonymous_bytes")
SHARED = operator.attrgetter("shared_bytes")
DESCRIPTORS = operator.attrgetter("descriptors")
THREADS = operator.attrgetter("threads")


class LoadError(Exception):
    """What was promised does not hold, or a program did not do its part."""


@dataclass
class Sample:
    """The server at one moment."""

    # Allocated and not freed; 0 under a sanitizer.
    heap_bytes: int
    anonymous_bytes: int
    shared_bytes: int
    descriptors: int
    threads: int


@dataclass
class Round:
    """The server while the clients were at it, and afterwards, when nobody was connected."""

    busy: list[Sample]
    rest: Sample

    def median(self, what: Callable[[Sample], int]) -> int:
        return int(statistics.median(map(what, self.busy)))

    def __str__(self) -> str:
        return f"{len(self.busy)} samples, and at rest {self.rest}"


@dataclass
class Report:
    """Of one run."""

    name: str
    seconds: float
    updates: list[int]
    latencies: list[float]
    rounds: list[Round] = field(default_factory=list)
    sanitizer: str = ""

    def percentile(self, part: float) -> float:
        ordered = sorted(self.latencies)
        return ordered[min(len(ordered) - 1, int(part * len(ordered)))]

    def check(self) -> None:
        """LoadError for growth or unfairness."""
        _, _, third, last = self.rounds
        clients = len(self.updates)

        def expect(what: str, before: int, after: int, most: int) -> None:
            if after - before > most:
                raise LoadError(
                    f"{self.name}: the server's {what} grew by {after - before}, over {most}, from {before} in the "
                    f"third quarter to {after} in the last"
                )

        expect(
            "heap in use at rest",
            third.rest.heap_bytes,
            last.rest.heap_bytes,
            MOST_HEAP_GROWTH_BYTES + clients * MOST_HEAP_GROWTH_BYTES_A_CLIENT,
        )
        descriptors = third.rest.descriptors
        expect("descriptors at rest", descriptors, last.rest.descriptors, MOST_GROWTH_DESCRIPTORS)
        shared = third.median(SHARED)
        most_shared = int(MOST_GROWTH_SHARED_BYTES + MOST_GROWTH_SHARED * shared)
        expect("shared memory", shared, last.median(SHARED), most_shared)
        expect("threads", third.median(THREADS), last.median(THREADS), MOST_GROWTH_THREADS)
        # Under a sanitizer resident memory says nothing.
        if not self.sanitizer and self.seconds >= LEAST_SECONDS_OF_MEMORY:
            self._check_memory()
        if clients > 1 and max(self.updates) > MOST_UNFAIR * min(self.updates):
            raise LoadError(f"{self.name}: from {min(self.updates)} to {max(self.updates)} updates a client")

    def _check_memory(self) -> None:
        clients = len(self.updates)
        memory = [each.median(ANONYMOUS) for each in self.rounds]
        steps = (memory[2] - memory[1], memory[3] - memory[2])
        most = MOST_GROWTH_BYTES + clients * MOST_GROWTH_BYTES_A_CLIENT
        if min(steps) > most:
            raise LoadError(f"{self.name}: the server's memory goes on to grow, by more than {most} each: {memory}")
        most = MOST_STEP_BYTES + clients * MOST_STEP_BYTES_A_CLIENT
        if steps[1] > most:
            raise LoadError(f"{self.name}: the server's memory grew in the last quarter, by more than {most}: {memory}")

    def lines(self) -> list[str]:
        milliseconds = [f"{1000 * self.percentile(part):.1f}" for part in (0.5, 0.99, 0.999)]

        def row(what: str, show: Callable[[Round], str]) -> str:
            return f"  {what}: {' -> '.join(map(show, self.rounds))}"

        return [
            f"{self.name}{', under ' + self.sanitizer if self.sanitizer else ''}:",
            f"  {sum(self.updates):,} updates in {self.seconds:.0f} s, none failed; "
            f"{min(self.updates)} to {max(self.updates)} a client",
            f"  Begin to Commit: p50 {milliseconds[0]} ms, p99 {milliseconds[1]} ms, p99.9 {milliseconds[2]} ms",
            row("heap in use after each quarter, KiB", lambda r: f"{r.rest.heap_bytes / KIB:,.1f}"),
            row("descriptors after each quarter", lambda r: f"{r.rest.descriptors}"),
            row("memory of its own, median of each quarter, MiB", lambda r: f"{r.median(ANONYMOUS) / MIB:.1f}"),
            row("arenas, MiB", lambda r: f"{r.median(SHARED) / MIB:.0f}"),
            row("descriptors", lambda r: f"{r.median(DESCRIPTORS)}"),
            row("threads", lambda r: f"{r.median(THREADS)}"),
        ]


def sample(pid: int, gauge: Path) -> Sample:
    status = Path(f"/proc/{pid}/status").read_text()
    fields = dict(re.findall(r"^(\w+):\s+(\d+)", status, re.MULTILINE))
    descriptors = len(list(Path(f"/proc/{pid}/fd").iterdir()))
    return Sample(
        int.from_bytes(gauge.read_bytes(), "little", signed=True),
        int(fields["RssAnon"]) << 10,
        int(fields["RssShmem"]) << 10,
        descriptors,
        int(fields["Threads"]),
    )


def sanitizer_of(program: Path) -> str:
    content = program.read_bytes()
    return next((library for library in SANITIZED if library.encode() in content), "")


@dataclass(frozen=True)
class Binaries:
    """The two programs, and the library that counts the server's heap; `wrapper` goes before each."""

    server: Path
    client: Path
    heap_gauge: Path
    wrapper: Sequence[str] = ()

    def words(self, program: Path, *arguments: str) -> list[str]:
        return [*self.wrapper, str(program.resolve(strict=True)), *arguments]


def run(name: str, binaries: Binaries, client_flags: Sequence[str]) -> Report:
    """One server, one process of clients; LoadError if either does not end well."""
    with contextlib.ExitStack() as stack:
        folder = Path(tempfile.mkdtemp(prefix="weightstream-load-", dir="/dev/shm"))
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        server_log = stack.enter_context((folder / "server.log").open("w+"))
        gauge = folder / "heap"
        gauge.write_bytes(bytes(8))
        sanitizer = sanitizer_of(binaries.server)
        # A sanitizer has an allocator of its own, and its library must be the first.
        loaded = {} if sanitizer else {"LD_PRELOAD": str(binaries.heap_gauge.resolve(strict=True))}
        words = binaries.words(binaries.server, "--listen=127.0.0.1:0", f"--data-dir={folder / 'data'}")
        server = subprocess.Popen(
            [*words, "--keep-versions=1", "--log-level=warning"],
            stdout=subprocess.PIPE,
            stderr=server_log,
            text=True,
            env=os.environ | loaded | {"HEAP_GAUGE": str(gauge)},
        )
        stack.callback(server.kill)
        assert server.stdout is not None
        stack.callback(server.stdout.close)
        address = server.stdout.readline().removeprefix("listening on ").strip()
        if not address:
            raise LoadError(f"the server did not start: {(folder / 'server.log').read_text()[-2000:]}")
        report = Report(name, 0, [], [], sanitizer=sanitizer)
        _drive(report, binaries, [address, *client_flags], lambda: sample(server.pid, gauge))
        server.terminate()
        if (code := server.wait(_STOP_SECONDS)) != 0:
            raise LoadError(f"{name}: the server ended with {code}: {(folder / 'server.log').read_text()[-4000:]}")
        return report


def _look_at_rest(look: Callable[[], Sample]) -> Sample:
    """The server once what the clients left behind is gone: its least heap, of some that do not shrink any more."""
    least, seen_since = look(), 0

    def settled() -> bool:
        nonlocal least, seen_since
        now = look()
        shrinks = (now.heap_bytes, now.descriptors) < (least.heap_bytes, least.descriptors)
        least, seen_since = (now, 0) if shrinks else (least, seen_since + 1)
        return seen_since >= _REST_LOOKS

    wait_until(settled, "the server frees what the clients left", _REST_SECONDS, poll=_REST_LOOK_SECONDS)
    return least


def _drive(report: Report, binaries: Binaries, arguments: Sequence[str], look: Callable[[], Sample]) -> None:
    with tempfile.TemporaryFile("w+") as messages:
        words = binaries.words(binaries.client, *arguments, f"--rounds={ROUNDS}")
        client = subprocess.Popen(
            words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=messages, text=True, bufsize=1
        )
        assert client.stdin is not None and client.stdout is not None
        try:
            _follow(report, client.stdout, client.stdin, look)
            code = client.wait(_STOP_SECONDS)
        finally:
            client.kill()
            client.communicate()
        messages.seek(0)
        if code != 0 or not report.updates:
            raise LoadError(f"{report.name}: the clients ended with {code}: {messages.read()[-4000:]}")
    # What is said of a quarter holds only if something was seen of it.
    for quarter in report.rounds:
        if len(quarter.busy) < LEAST_SAMPLES:
            raise LoadError(f"{report.name}: only {len(quarter.busy)} samples of a quarter; let it run longer")


def _follow(report: Report, said: Iterable[str], answer: IO[str], look: Callable[[], Sample]) -> None:
    busy: list[Sample] = []
    began = time.monotonic()
    for line in said:
        word = json.loads(line)
        if "progress" in word:
            busy.append(look())
        elif "rest" in word:
            report.seconds += time.monotonic() - began
            report.rounds.append(Round(busy, _look_at_rest(look)))
            busy, began = [], time.monotonic()
            answer.write("go on\n")
        else:
            report.updates, report.latencies = word["updates"], word["seconds"]


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
        arguments.binaries / "tests/load/libheap_gauge.so",
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
