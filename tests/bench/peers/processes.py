"""The processes of a measurement: receivers that say where they listen, and senders that print what they cost."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

# The longest that one process of a round may take.
ROUND_SECONDS = 600.0
STOP_SECONDS = 30.0
# How long a receiver is watched to see that it has gone quiet.
QUIET_SPAN_SECONDS = 0.25
QUIET_DEADLINE_SECONDS = 60.0
CLOCK_TICKS = os.sysconf("SC_CLK_TCK")

Command = Sequence[str | Path]


class RoundError(RuntimeError):
    """A process did not start, or failed; the message has its last words."""


@dataclass(frozen=True)
class Round:
    """What one round cost: the clock, and the processor time of each side."""

    bytes: int
    seconds: float
    sender_cpu_seconds: float
    receiver_cpu_seconds: float

    def gb_per_second(self) -> float:
        return self.bytes / self.seconds / 1e9


def process_cpu_seconds(pid: int) -> float:
    """User and system time of another process, all threads."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError as error:
        raise RoundError(f"process {pid} has ended: {error}") from None
    return (int(fields[11]) + int(fields[12])) / CLOCK_TICKS


def last_words(messages: IO[str]) -> str:
    messages.seek(0)
    lines = [line.strip() for line in messages if line.strip()]
    return lines[-1] if lines else "it said nothing"


@dataclass(frozen=True)
class Listening:
    """A receiver that runs: its process, and the address that it printed."""

    pid: int
    address: str
    messages: IO[str]


@contextlib.contextmanager
def receiver(command: Command, cwd: Path | None = None) -> Iterator[Listening]:
    """Starts a receiver, yields it once it listens, and ends it."""
    with (
        tempfile.TemporaryFile("w+") as messages,
        subprocess.Popen(
            [str(word) for word in command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=messages,
            text=True,
            cwd=cwd,
        ) as process,
    ):
        assert process.stdout is not None and process.stdin is not None
        # A receiver that neither listens nor ends must not hold the measurement.
        watchdog = threading.Timer(ROUND_SECONDS, process.kill)
        watchdog.start()
        try:
            line = process.stdout.readline()
            if not line.startswith("listening on "):
                process.kill()
                process.wait()
                raise RoundError(last_words(messages))
            watchdog.cancel()
            yield Listening(process.pid, line.removeprefix("listening on ").strip(), messages)
        finally:
            watchdog.cancel()
            process.stdin.close()
            process.terminate()
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()


def run(command: Command, cwd: Path | None = None) -> dict[str, Any]:
    """Runs a sender to its end, and returns the JSON that it prints."""
    words = [str(word) for word in command]
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=ROUND_SECONDS, check=False, cwd=cwd)
    except subprocess.TimeoutExpired:
        raise RoundError(f"no end within {ROUND_SECONDS:.0f} seconds") from None
    except OSError as error:
        raise RoundError(str(error)) from None
    if done.returncode != 0:
        lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
        raise RoundError(lines[-1] if lines else f"exit code {done.returncode}, and no message")
    return dict(json.loads(done.stdout.splitlines()[-1]))


def round_of(report: dict[str, Any], receiver_cpu_seconds: float) -> Round:
    return Round(report["bytes"], report["seconds"], report["cpu_seconds"], receiver_cpu_seconds)


def wait_until_quiet(pid: int) -> None:
    """Waits until a process uses next to no processor time, so that what it does later burdens nobody else's round."""
    pause = threading.Event()
    deadline = time.monotonic() + QUIET_DEADLINE_SECONDS
    while time.monotonic() < deadline:
        before = process_cpu_seconds(pid)
        pause.wait(QUIET_SPAN_SECONDS)
        if process_cpu_seconds(pid) - before <= 1 / CLOCK_TICKS:
            return
    raise RoundError(f"process {pid} was still busy {QUIET_DEADLINE_SECONDS:.0f} seconds after its round")
