"""Rounds, the rows that they make, and how the rounds of all contenders are interleaved."""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

GIB = 1 << 30
MIB = 1 << 20


@dataclass(frozen=True)
class Round:
    """What one round of one contender took. Memory is RssAnon: see processes.py."""

    # Payload bytes that each receiver got.
    bytes: int
    receivers: int
    seconds: float
    sender_cpu_seconds: float
    # Of all receivers together.
    receiver_cpu_seconds: float
    sender_memory_bytes: int
    # Of the receiver that had the most.
    receiver_memory_bytes: int

    @property
    def rate(self) -> float:
        """GB/s on the wire: payload bytes, to all receivers."""
        return self.bytes * self.receivers / self.seconds / 1e9

    def cpu_seconds(self, side: str) -> float:
        return self.sender_cpu_seconds if side == "sender" else self.receiver_cpu_seconds

    def memory_bytes(self, side: str) -> int:
        return self.sender_memory_bytes if side == "sender" else self.receiver_memory_bytes

    @property
    def gib(self) -> float:
        return self.bytes * self.receivers / GIB


@dataclass(frozen=True)
class Label:
    """What was measured: one row of a table."""

    contender: str
    # 0: chosen by the client.
    connections: int
    total_mib: int
    # cold: the first push after the start; warm: into an arena made ready; NOT READY: it was not, see readiness.py.
    arena: str = ""
    shape: str = ""
    # 0: the contender's default.
    chunk_kib: int = 0
    receivers: int = 1
    note: str = ""

    def __str__(self) -> str:
        words = [self.contender, f"x{self.connections}", self.arena, self.shape, self.note]
        words.append(f"{self.chunk_kib} KiB" if self.chunk_kib else "")
        words.append(f"to {self.receivers}" if self.receivers > 1 else "")
        return " ".join(word for word in words if word)


@dataclass
class Row:
    """All rounds of one label."""

    label: Label
    rounds: list[Round] = field(default_factory=list)

    def rates(self) -> list[float]:
        return [one.rate for one in self.rounds]

    def rate(self) -> float:
        return statistics.median(self.rates())

    def cpu_per_gib(self, side: str) -> float:
        return statistics.median(one.cpu_seconds(side) / one.gib for one in self.rounds)

    def memory(self, side: str) -> int:
        """The most of all rounds, in bytes: a high-water mark has no median."""
        return max(one.memory_bytes(side) for one in self.rounds)


def same_connections(label: Label, other: Label) -> bool:
    """Whether `other` is the raw TCP that `label` is compared with."""
    return other.contender == "tcp" and other.connections == label.connections


@dataclass
class Section:
    """One table, or why there is none (skipped, failed). Rows are compared with the one that `reference` picks."""

    name: str
    title: str
    rows: list[Row] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    skipped: str = ""
    failed: str = ""
    facts: dict[str, Any] = field(default_factory=dict)
    reference: Callable[[Label, Label], bool] = same_connections
    ratio_heading: str = "of tcp"

    def reference_of(self, row: Row) -> Row | None:
        return next((other for other in self.rows if self.reference(row.label, other.label)), None)

    def ratio(self, row: Row) -> float | None:
        """The ratio of the medians; None where there is nothing to compare with."""
        reference = self.reference_of(row)
        return row.rate() / reference.rate() if reference else None


# One turn of one contender: it may make more than one round, as a cold and a warm push.
Case = Callable[[], list[tuple[Label, Round]]]


def interleave(name: str, rounds: int, cases: Sequence[Case]) -> list[Row]:
    """Runs every case once a round, so that a slow minute of the machine is shared by all."""
    rows: dict[Label, Row] = {}
    for number in range(1, rounds + 1):
        for case in cases:
            for label, one in case():
                rows.setdefault(label, Row(label)).rounds.append(one)
                print(f"{name} {number}/{rounds} {label}: {one.rate:.2f} GB/s", file=sys.stderr, flush=True)
    return list(rows.values())
