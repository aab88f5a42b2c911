"""How long a client waits for what."""

from __future__ import annotations

from dataclasses import dataclass, fields

from weightstream import arguments


@dataclass(frozen=True)
class Limits:
    """Every wait is bounded by one of these, all in seconds."""

    connect: float = 25
    """To reach a server, at first and after each loss, counted from its last sign of life. With what it takes to
    notice, a dead one is reported within 30 seconds."""
    call: float = 30
    """For a call that does not depend on the model's size."""
    stall: float = 30
    """Without a byte of progress while data are under way, the server counts as dead."""
    per_gib: float = 20
    """Added to `call` for each GiB of a commit, and to `stall` for each GiB of the largest tensor of a digest."""
    keepalive_time: float = 10
    """How often a silent connection is asked whether it lives."""
    keepalive_timeout: float = 10
    """How long it may take to answer."""

    def __post_init__(self) -> None:
        for each in fields(self):
            arguments.seconds(f"Limits.{each.name}", getattr(self, each.name), zero=each.name == "per_gib")
