"""The processes of a round: a sender and its receivers, and what they cost.

Memory is the high-water of RssAnon in /proc/PID/status, sampled every 20 ms from when the sender has its source ready
until it has reported. Source, arena and preallocated destination are shared memory (RssShmem), so what remains is what
a process needs beside them.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import select
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.bench.rounds import Round

START_SECONDS = 120.0
ROUND_SECONDS = 600.0
STOP_SECONDS = 60.0
SAMPLE_SECONDS = 0.02

_CLOCK_TICKS = os.sysconf("SC_CLK_TCK")
_LOG_BYTES_SHOWN = 2000
_ANONYMOUS = re.compile(r"^RssAnon:\s+(\d+) kB$", re.MULTILINE)


class BenchError(Exception):
    """A process of a round failed; says which, and what it said."""


def cpu_seconds(pid: int) -> float:
    """User and system time of a process, all threads, to the kernel's tick of 10 ms."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _CLOCK_TICKS


def anonymous_bytes(pid: int) -> int:
    match = _ANONYMOUS.search(Path(f"/proc/{pid}/status").read_text())
    return int(match[1]) << 10 if match else 0


class HighWater:
    """Samples values in the background, and keeps the most of each."""

    def __init__(self, values: Mapping[str, Callable[[], int]]) -> None:
        self._values = values
        self._most = dict.fromkeys(values, 0)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._sample()
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stopped.set()
        self._thread.join()
        self._sample()

    def most(self, name: str) -> int:
        return self._most[name]

    def _run(self) -> None:
        while not self._stopped.wait(SAMPLE_SECONDS):
            self._sample()

    def _sample(self) -> None:
        for name, value in self._values.items():
            # A process that has just ended has nothing more to say.
            with contextlib.suppress(OSError):
                self._most[name] = max(self._most[name], value())


class Process:
    """A process that writes lines to stdout, and its messages to a log that errors quote. Killed at the end."""

    def __init__(self, command: Sequence[str | Path], log: Path) -> None:
        self._name = Path(next(word for word in command if "/" in str(word))).name
        self._log = log
        words = [str(word) for word in command]
        try:
            with log.open("wb") as messages:
                self._popen = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=messages)
        except OSError as error:
            raise BenchError(f"{self._name} cannot be started: {error}") from None
        self._text = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        return self._popen.pid

    def line(self, what: str, seconds: float) -> str:
        """The next line of stdout; BenchError if it does not come in time."""
        assert self._popen.stdout is not None
        deadline = time.monotonic() + seconds
        while b"\n" not in self._text:
            ready, _, _ = select.select([self._popen.stdout], [], [], max(0.0, deadline - time.monotonic()))
            data = os.read(self._popen.stdout.fileno(), 65536) if ready else b""
            if not data:
                when = "before its end" if ready else f"within {seconds:.0f} s"
                raise BenchError(f"{self._name}: no {what} {when}; it said: {self.log()}")
            self._text += data
        line, _, self._text = self._text.partition(b"\n")
        return line.decode()

    def log(self) -> str:
        return self._log.read_text(errors="replace")[-_LOG_BYTES_SHOWN:].strip() or "nothing"

    def wait(self) -> None:
        """Waits for its own end, which must be a good one."""
        if (code := self._popen.wait(STOP_SECONDS)) != 0:
            raise BenchError(f"{self._name} ended with {code}; it said: {self.log()}")

    def stop(self) -> None:
        """Ends it: stdin closed and SIGTERM, then SIGKILL."""
        assert self._popen.stdin is not None and self._popen.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            self._popen.stdin.close()
        self._popen.terminate()
        try:
            self._popen.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._popen.kill()
            self._popen.wait()
        self._popen.stdout.close()


class Receiver(Process):
    """A process that says where it listens, and receives until it is stopped."""

    def __init__(self, command: Sequence[str | Path], log: Path) -> None:
        super().__init__(command, log)
        try:
            line = self.line("address", START_SECONDS)
            if not line.startswith("listening on "):
                raise BenchError(f"{command[0]} did not start: {line!r}")
        except BaseException:
            self.stop()
            raise
        self.address = line.removeprefix("listening on ").strip()


# Given the sender's pid, more to sample while it sends.
Probe = Callable[[int], int]


def run_round(command: Sequence[str | Path], receivers: Sequence[Receiver], log: Path) -> Round:
    """Runs a sender to its end."""
    return run_watched_round(command, receivers, log, lambda pid: 0)[0]


def run_watched_round(
    command: Sequence[str | Path], receivers: Sequence[Receiver], log: Path, probe: Probe
) -> tuple[Round, int]:
    """Runs a sender to its end; returns the most that `probe` said as well."""
    with Process(command, log) as sender:
        if (line := sender.line("start", START_SECONDS)) != "sending":
            raise BenchError(f"{command[0]} said {line!r}, not that it sends")
        values = {str(one.pid): _anonymous_of(one.pid) for one in [sender, *receivers]}
        values["probe"] = lambda: probe(sender.pid)
        cpu_before = sum(cpu_seconds(one.pid) for one in receivers)
        with HighWater(values) as high_water:
            report = json.loads(sender.line("report", ROUND_SECONDS))
            # At once: the server now makes its next arena ready, which is not part of this round.
            cpu_after = sum(cpu_seconds(one.pid) for one in receivers)
        sender.wait()
        one_round = Round(
            bytes=report["bytes"],
            receivers=len(receivers),
            seconds=report["seconds"],
            sender_cpu_seconds=report["cpu_seconds"],
            receiver_cpu_seconds=cpu_after - cpu_before,
            sender_memory_bytes=high_water.most(str(sender.pid)),
            receiver_memory_bytes=max(high_water.most(str(one.pid)) for one in receivers),
        )
        return one_round, high_water.most("probe")


def _anonymous_of(pid: int) -> Callable[[], int]:
    return lambda: anonymous_bytes(pid)
