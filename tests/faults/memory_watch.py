"""Invariant 3: a server's memory beyond its targets is bounded, whatever the model's size. Watched from its start."""

from __future__ import annotations

import re
import threading
from pathlib import Path

from tests.faults.witness import BrokenInvariant

# On top of what a server has when it begins to listen, the staging ring among it: what a connection may have on its way
# through gRPC, whose windows grow with the line, and what malloc keeps of that. Up to 14 MiB of a connection were seen.
_A_CONNECTION_BYTES = 24 << 20
_MORE_BYTES = 8 << 20
_POLL_SECONDS = 0.02
_ANONYMOUS = re.compile(r"^RssAnon:\s+(\d+) kB$", re.MULTILINE)


def most_growth_bytes(connections: int) -> int:
    """How much a server's memory may grow for that many connections of senders, whatever they send."""
    return connections * _A_CONNECTION_BYTES + _MORE_BYTES


def anonymous_bytes(pid: int) -> int:
    """Memory of a process that is its own: no file's, no shared memory's (the arenas). 0 once it has ended."""
    try:
        found = _ANONYMOUS.search(Path(f"/proc/{pid}/status").read_text())
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return int(found[1]) << 10 if found else 0


class MemoryWatch:
    """Looks at a process from its start on, in a thread, until stop()."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self.baseline_bytes = anonymous_bytes(pid)
        self._peak_bytes = self.baseline_bytes
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    @property
    def grown_bytes(self) -> int:
        """The most that was seen, on top of what the process had at its start."""
        return self._peak_bytes - self.baseline_bytes

    def _run(self) -> None:
        while not self._end.wait(_POLL_SECONDS):
            self._look()

    def _look(self) -> None:
        self._peak_bytes = max(self._peak_bytes, anonymous_bytes(self._pid))

    def check(self, name: str, most_bytes: int) -> int:
        """The most that was seen on top of the start; BrokenInvariant if that is too much."""
        self._look()
        if self.grown_bytes > most_bytes:
            raise BrokenInvariant(
                f"invariant 3: {name} had {self.grown_bytes} bytes of memory of its own on top of the "
                f"{self.baseline_bytes} at its start, {most_bytes} at most"
            )
        return self.grown_bytes

    def stop(self) -> None:
        self._end.set()
        self._thread.join()
