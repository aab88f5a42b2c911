"""The memory that peers send from and receive into, and how a whole is cut over connections."""

from __future__ import annotations

import ctypes
import hashlib
import mmap
from dataclasses import dataclass
from pathlib import Path


class Memory:
    """Mapped memory, every page of it present. Lives as long as the process: libraries may hold on to it."""

    def __init__(self, mapping: mmap.mmap) -> None:
        self.mapping = mapping
        self.bytes = len(mapping)
        self.view = memoryview(mapping)
        self.address = ctypes.addressof(ctypes.c_char.from_buffer(mapping))

    def digest(self, length: int) -> str:
        return hashlib.blake2b(self.view[:length]).hexdigest()


def destination(length: int) -> Memory:
    """Where a receiver puts the bytes: preallocated, zeroed, shared memory like a server's arena."""
    return Memory(mmap.mmap(-1, length, flags=mmap.MAP_SHARED | mmap.MAP_ANONYMOUS | mmap.MAP_POPULATE))


def source(path: Path) -> Memory:
    """What a sender sends, from a file on tmpfs. Writable, which some libraries insist on; nobody writes."""
    with path.open("r+b") as file:
        return Memory(mmap.mmap(file.fileno(), 0, flags=mmap.MAP_SHARED | mmap.MAP_POPULATE))


@dataclass(frozen=True)
class Piece:
    """One transfer: where it lies in the source and in the destination, and its bytes."""

    begin: int
    bytes: int


def pieces(total: int, connections: int, period: int, largest: int) -> list[list[Piece]]:
    """`total` bytes, which repeat the first `period`, as every connection's run of pieces of at most `largest` bytes.

    Each connection has a contiguous share, as in raw_tcp. No piece crosses the end of the period.
    """
    share = total // connections
    runs = []
    for connection in range(connections):
        at = connection * share
        end = total if connection == connections - 1 else at + share
        run = []
        while at < end:
            begin = at % period
            length = min(end - at, largest, period - begin)
            run.append(Piece(begin, length))
            at += length
        runs.append(run)
    return runs
