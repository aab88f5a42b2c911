"""Finds out that a peer which is there takes or brings no data."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

_LOOKS_EVERY_SECONDS = 0.25


class StallWatch:
    """While it is entered, calls `on_stall` once, from a thread of its own, if no tick() came for `seconds`."""

    def __init__(self, seconds: float, on_stall: Callable[[], object]) -> None:
        self._seconds = seconds
        self._on_stall = on_stall
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True, name="weightstream-stall")
        self.last_progress = time.monotonic()
        self.stalled = False

    def tick(self) -> None:
        """A byte moved."""
        self.last_progress = time.monotonic()

    def _watch(self) -> None:
        while not self._ended.wait(min(_LOOKS_EVERY_SECONDS, self._seconds / 4)):
            if time.monotonic() - self.last_progress > self._seconds:
                self.stalled = True
                self._on_stall()
                return

    def __enter__(self) -> StallWatch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
