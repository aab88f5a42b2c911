"""Cuts what a server misses into chunks and deals them out to its connections, as client/planner.h does."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from weightstream import dtypes
from weightstream.errors import InternalError
from weightstream.limits import MOST_FOLLOWING_NAME_BYTES, MOST_FOLLOWING_TENSORS, SMALL_TENSOR_BYTES
from weightstream.source import Source
from weightstream.spec import TensorSpec

_PAGE = 4096


@dataclass(frozen=True)
class Missing:
    """What of the source's tensor number `tensor` is to be sent: ascending, disjoint ranges of bytes."""

    tensor: int
    ranges: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Chunk:
    """Bytes [begin, end) of a tensor; of a packed chunk all of it, and of those that follow."""

    tensor: int
    begin: int
    end: int
    followed_by: tuple[int, ...] = ()


def check_missing(reply: Any, source: Source) -> list[Missing]:
    """What an answer to BeginUpdate says is missing, in the order of the layout; InternalError if it makes no sense."""
    if not reply.update_id:
        raise _bad_reply("the update id is empty")
    if reply.everything_missing:
        found = [Missing(i, ((0, size),)) for i, size in enumerate(source.sizes) if size]
    else:
        found = [_check_tensor(each, source) for each in reply.missing]
    if len({each.tensor for each in found}) != len(found):
        raise _bad_reply("a tensor is listed twice")
    total = sum(end - begin for each in found for begin, end in each.ranges)
    if total != reply.missing_bytes:
        raise _bad_reply(f"the missing ranges add up to {total} bytes, not to {reply.missing_bytes}")
    if total and not reply.bucket_limit_bytes:
        raise _bad_reply("the bucket limit is 0")
    return sorted(found, key=lambda each: each.tensor)


def _bad_reply(what: str) -> InternalError:
    return InternalError(
        f"the server's answer to BeginUpdate makes no sense: {what}; is it a weightstream server of a compatible "
        "version?"
    )


def _check_tensor(missing: Any, source: Source) -> Missing:
    tensor = source.index.get(missing.name)
    if tensor is None:
        raise _bad_reply(f'it misses tensor "{missing.name}", which the manifest does not hold')
    ranges = tuple((part.begin, part.end) for part in missing.ranges)
    at = 0
    for begin, end in ranges:
        if begin < at or end <= begin or end > source.sizes[tensor]:
            raise _bad_reply(f'bytes [{begin}, {end}) of tensor "{missing.name}" of {source.sizes[tensor]}')
        at = end
    return Missing(tensor, ranges)


def _grid(spec: TensorSpec, chunk_bytes: int) -> int:
    """The coarsest multiple on which chunks of this size can end: pages, whole elements, or bytes."""
    element = math.lcm(dtypes.BITS[spec.dtype], 8) // 8
    aligned = math.lcm(element, _PAGE)
    if chunk_bytes >= aligned:
        return aligned
    return element if chunk_bytes >= element else 1


class Plan:
    """Deals out chunks one after the other to whoever asks next, so that a slow connection simply takes fewer.

    Small tensors that are missing whole come last, several packed into each chunk, where the server takes that.
    Any thread may take chunks.
    """

    def __init__(self, specs: Sequence[TensorSpec], missing: Sequence[Missing], chunk_bytes: int, pack: bool) -> None:
        self._specs = specs
        self._chunk_bytes = chunk_bytes
        small = min(SMALL_TENSOR_BYTES, chunk_bytes // 2) if pack else 0
        self._large: list[Missing] = []
        self._small: list[tuple[int, int]] = []
        for each in missing:
            size = specs[each.tensor].nbytes
            if size <= small and each.ranges == ((0, size),):
                self._small.append((each.tensor, size))
            else:
                self._large.append(each)
        self._lock = threading.Lock()
        self._chunks = self._cut()

    def take(self) -> Chunk | None:
        """The next chunk, or None once all were dealt out."""
        with self._lock:
            return next(self._chunks, None)

    def _cut(self) -> Iterator[Chunk]:
        for each in self._large:
            grid = _grid(self._specs[each.tensor], self._chunk_bytes)
            for begin, end in each.ranges:
                at = begin
                while at < end:
                    cut = end
                    if end - at > self._chunk_bytes:
                        cut = (at + self._chunk_bytes) // grid * grid
                    yield Chunk(each.tensor, at, cut)
                    at = cut
        yield from self._pack()

    def _pack(self) -> Iterator[Chunk]:
        pack: list[tuple[int, int]] = []
        packed_bytes = name_bytes = 0
        for tensor, size in self._small:
            name = len(self._specs[tensor].name.encode())
            full = packed_bytes + size > self._chunk_bytes or len(pack) > MOST_FOLLOWING_TENSORS
            if pack and (full or name_bytes + name > MOST_FOLLOWING_NAME_BYTES):
                yield self._packed(pack)
                pack, packed_bytes, name_bytes = [], 0, 0
            pack.append((tensor, size))
            packed_bytes += size
            name_bytes += name
        if pack:
            yield self._packed(pack)

    @staticmethod
    def _packed(pack: Sequence[tuple[int, int]]) -> Chunk:
        first, size = pack[0]
        return Chunk(first, 0, size, tuple(tensor for tensor, _ in pack[1:]))
