"""What happens in a schedule, drawn from its seed alone: the same seed is the same schedule, anywhere."""

from __future__ import annotations

import enum
import random
from dataclasses import dataclass, replace

from tests.faults.memory_watch import most_growth_bytes

MIB = 1 << 20
KIB = 1 << 10


class Kind(enum.Enum):
    """What is broken. In each schedule one of these comes for certain, by the seed, and others by chance."""

    CUT = "connections cut"
    BLACKHOLE = "blackhole"
    DELAY = "delay"
    REORDER = "reordering and loss"
    BANDWIDTH = "bandwidth drop"
    SERVER_KILL = "server killed and restarted"
    SERVER_STOP = "server stopped for a while"
    CLIENT_KILL = "client killed, and started again"
    CLIENT_STOP = "client stopped for longer than the server's keepalive"
    DISK_FULL = "disk full"
    SERVER_CLOCK = "the server's clock jumps"
    CLIENT_CLOCK = "the client's clock jumps"
    COMMIT_REPLY = "commit reply lost"
    COMMIT_REPLY_AND_KILL = "commit reply lost, server killed and restarted"
    TWO_SENDERS = "two senders of one version"
    CORRUPTION = "bits flipped on the way"
    SERVER_DEATH = "server killed for good"


KINDS = list(Kind)

# After these alone a push may end without its version, as long as it says why; after all others it must succeed.
MAY_FAIL = {Kind.DISK_FULL, Kind.TWO_SENDERS, Kind.CORRUPTION, Kind.SERVER_DEATH}

# Made with a line between namespaces; where there is none, the proxy holds the bytes up instead.
NEEDS_LINE = {Kind.DELAY, Kind.REORDER, Kind.BANDWIDTH}

# In one schedule of ten the model is so many times as large as all the memory that a server may take beside it
# (memory_watch.py), so that one which holds a model is found out. Seventeen kinds and ten have no common divisor: each
# kind gets its share.
MOST_SMALL_BYTES = int(MIB * 2**3.6)
LARGE_EVERY = 10
LARGE_FACTOR = 1.5
LARGE_LINE_MBIT = 1000

# A server that is stopped with more strength than this is so for longer than the client's keepalive: half of them.
LONG_STOP = 0.5


@dataclass(frozen=True)
class Fault:
    """One thing that is broken, once that part of the model's bytes has passed to the server."""

    kind: Kind
    server: int
    after_bytes: int
    # How long, or how far; each kind has its own use for it. 0 to 1.
    strength: float
    # For what else the kind draws.
    seed: int

    @property
    def long_stop(self) -> bool:
        return self.kind is Kind.SERVER_STOP and self.strength > LONG_STOP

    @property
    def name(self) -> str:
        """Its row in the table."""
        return "server stopped for longer than keepalive" if self.long_stop else self.kind.value

    def __str__(self) -> str:
        return f"{self.name} (server {self.server}, after {self.after_bytes} bytes, {self.strength:.2f})"


@dataclass(frozen=True)
class Push:
    """One version, and what is broken while it is pushed."""

    version: int
    faults: tuple[Fault, ...]
    # Afterwards it is read back through the same line, with these faults.
    pulled: bool
    pull_fault: Fault | None


@dataclass(frozen=True)
class Schedule:
    """All that is drawn. The last push has no faults: whatever happened before, a new version gets through."""

    seed: int
    servers: int
    tensors: int
    model_bytes: int
    connections: int
    bucket_kib: int
    line_mbit: int
    device: str
    keep_versions: int
    pushes: tuple[Push, ...]

    @property
    def most_growth_bytes(self) -> int:
        """How much memory of its own a server may take on top of its start: invariant 3."""
        senders = 2 if Kind.TWO_SENDERS in self.kinds() else 1
        return most_growth_bytes(senders * self.connections)

    def kinds(self) -> set[Kind]:
        pull_faults = [push.pull_fault for push in self.pushes if push.pull_fault]
        return {fault.kind for push in self.pushes for fault in push.faults} | {fault.kind for fault in pull_faults}

    def describe(self) -> str:
        lines = [
            f"seed {self.seed}: {self.servers} servers ({self.device}), {self.tensors} tensors, "
            f"{self.model_bytes} bytes, {self.connections} connections, {self.bucket_kib} KiB a chunk, "
            f"{self.line_mbit} Mbit/s"
        ]
        for push in self.pushes:
            lines.append(f"  version {push.version}: {'; '.join(map(str, push.faults)) or 'no fault'}")
            if push.pulled:
                lines.append(f"    pulled: {push.pull_fault or 'no fault'}")
        return "\n".join(lines)


def _draw_fault(rng: random.Random, kind: Kind, servers: int, model_bytes: int) -> Fault:
    return Fault(
        kind,
        rng.randrange(servers),
        # Some right at the start, and some at the end, when only the commit is left.
        int(model_bytes * rng.choice([0.0, rng.random(), rng.random(), rng.random(), 0.999])),
        rng.random(),
        rng.randrange(1 << 32),
    )


def _draw_faults(rng: random.Random, first: Kind | None, servers: int, model_bytes: int) -> tuple[Fault, ...]:
    kinds = [first] if first else []
    # A second one on top is where the bugs are; of those that take long, no more than the one that is certain.
    others = [kind for kind in KINDS if kind not in (Kind.SERVER_DEATH, first)]
    kinds += rng.sample(others, rng.choice([0, 1, 1] if first else [0, 0, 1]))
    if first is Kind.SERVER_DEATH:
        kinds = [first]
    return tuple(_draw_fault(rng, kind, servers, model_bytes) for kind in kinds)


def draw(seed: int) -> Schedule:
    """The schedule of a seed."""
    rng = random.Random(seed)
    certain = KINDS[seed % len(KINDS)]
    servers = rng.choice([1, 1, 2, 3])
    model_bytes = int(MIB * 2 ** rng.uniform(1, 3.6))
    pushes = []
    where = rng.randrange(2)
    for index in range(2):
        faults = _draw_faults(rng, certain if index == where else None, servers, model_bytes)
        pull_kinds = [Kind.CUT, Kind.CORRUPTION, Kind.DELAY, Kind.BLACKHOLE]
        pull_fault = _draw_fault(rng, rng.choice(pull_kinds), servers, model_bytes)
        pulled = rng.random() < 0.3
        pushes.append(Push(index + 1, faults, pulled, pull_fault if pulled and rng.random() < 0.7 else None))
    pushes.append(Push(3, (), True, None))
    schedule = Schedule(
        seed=seed,
        servers=servers,
        tensors=rng.choice([1, 3, 10, 60, 300]),
        model_bytes=model_bytes,
        connections=rng.randint(1, 4),
        bucket_kib=rng.choice([16, 64, 256, 1024]),
        line_mbit=rng.choice([100, 300, 1000, 4000]),
        device=rng.choice(["host", "host-staged"]),
        keep_versions=rng.choice([1, 2, 2]),
        pushes=tuple(pushes),
    )
    return _enlarged(schedule) if seed % LARGE_EVERY == 0 else schedule


def _enlarged(schedule: Schedule) -> Schedule:
    """The same with a large model: every fault comes at the same part of it."""
    model_bytes = int(LARGE_FACTOR * schedule.most_growth_bytes)
    factor = model_bytes / schedule.model_bytes

    def later(fault: Fault) -> Fault:
        return replace(fault, after_bytes=int(fault.after_bytes * factor))

    pushes = [replace(push, faults=tuple(map(later, push.faults))) for push in schedule.pushes]
    return replace(
        schedule,
        model_bytes=model_bytes,
        line_mbit=max(schedule.line_mbit, LARGE_LINE_MBIT),
        pushes=tuple(pushes),
    )


def seconds_of(strength: float, least: float, most: float) -> float:
    return least + (most - least) * strength
