"""Invariant 4: what has landed is not asked for again, nor sent again. By what servers log and say, and by the line."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tests.faults.witness import BrokenInvariant

# What passes beside the bytes of tensors, each about twice of what was measured. Of an HTTP/2 frame of 16 KiB:
_FRAME_BYTES = 16 << 10
_FRAMING_OF_FRAME = 16
# Of a chunk: its message's header, with name, shape and checksums.
_FRAMING_OF_CHUNK = 96
# Of a BeginUpdate: its manifest's line for each tensor, and connections and calls of the round.
_FRAMING_OF_TENSOR = 64
_FRAMING_OF_ROUND = 16 << 10
# Calls that brought no update about, and so no line in the log: tried again while a disk is full or a server stopped.
_CALLS_BYTES = 256 << 10


@dataclass(frozen=True)
class Begin:
    """A BeginUpdate, as the server logged it, and where in its log."""

    update: str
    resumed: bool
    missing_bytes: int
    log_position: int


@dataclass(frozen=True)
class Landed:
    """What the server said has landed of an update, before it logged anything from this position on."""

    update: str
    landed_bytes: int
    total_bytes: int
    log_position: int


@dataclass
class Proven:
    """How much the checks had to go by: where both are 0 they could not have failed."""

    resumes: int = 0
    # Bytes that had landed, and were not asked for by the resume that came next.
    bytes_kept: int = 0


def check(begins: Sequence[Begin], landed: Sequence[Landed], may_lose: bool) -> Proven:
    """BrokenInvariant if a Begin asks for what had landed; may_lose: an update may have been lost, or superseded."""
    least: dict[str, int] = {}
    proven = Proven()
    for begin in begins:
        if begin.missing_bytes > least.get(begin.update, begin.missing_bytes):
            raise BrokenInvariant(f"invariant 4: update {begin.update} misses bytes that it had: {begins}")
        least[begin.update] = begin.missing_bytes
        before = [each for each in landed if each.log_position <= begin.log_position]
        for each in before:
            if each.update != begin.update:
                if not may_lose and each.landed_bytes:
                    raise BrokenInvariant(f"invariant 4: {each} was forgotten, and {begin.update} begun")
            elif begin.missing_bytes > each.total_bytes - each.landed_bytes:
                raise BrokenInvariant(f"invariant 4: {each} had landed, and was asked for again: {begins}")
        kept = [each.landed_bytes for each in before if each.update == begin.update]
        if any(kept):
            proven.resumes += 1
            proven.bytes_kept += max(kept)
    return proven


# ---- On the line ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Mark:
    """A moment at which nothing was under way to a server: where its log was, and how many bytes had passed to it.

    A round may have been told what is missing before, and open its connections only now: it may send what had not
    landed yet, `rest_bytes`; None if the server was not asked.
    """

    log_position: int
    passed_bytes: int
    rest_bytes: int | None = 0


@dataclass(frozen=True)
class Sent:
    """What is pushed: how many tensors, in chunks of how many bytes."""

    tensors: int
    chunk_bytes: int

    def most_bytes(self, missing_bytes: int) -> int:
        """What a round may send that was told that so much is missing."""
        chunks = missing_bytes // self.chunk_bytes + self.tensors
        frames = missing_bytes // _FRAME_BYTES + chunks
        framing = frames * _FRAMING_OF_FRAME + chunks * _FRAMING_OF_CHUNK
        return missing_bytes + framing + self.tensors * _FRAMING_OF_TENSOR + _FRAMING_OF_ROUND


@dataclass
class OnLine:
    """How much the check of the line had to go by."""

    # Of these the first mark of a push is none: nothing can have landed before it.
    marks_in_mid_push: int = 0
    bytes_since_them: int = 0


def check_line(
    begins: Sequence[Begin],
    marks: Sequence[Mark],
    passed_bytes: int,
    sent: Sent,
    undisturbed: bool = True,
    superseded_streams: int = 0,
) -> OnLine:
    """BrokenInvariant if more passed since a mark than the rest and its framing.

    Neither client nor server counts here: `passed_bytes` is the proxy's count at the end of the push. What passes after
    a mark answers a Begin after it, each of which sends what it was told to be missing once at most (that this is no
    more than the rest is what check() sees to), or the last one before it, which goes on. That one and the first after
    the last mark bring the rest together, if nothing else broke meanwhile (`undisturbed`). Of a sender that another one
    has superseded each stream may send one more chunk before it is told.
    """
    line = OnLine()
    for mark in marks:
        since = [begin.missing_bytes for begin in begins if begin.log_position >= mark.log_position]
        before = [begin.missing_bytes for begin in begins if begin.log_position < mark.log_position]
        rest = mark.rest_bytes if mark.rest_bytes is not None else sum(before[-1:])
        together = mark is marks[-1] and undisturbed
        rounds = [max([rest, *since[:1]]), *since[1:]] if together else [rest, *since]
        passed = passed_bytes - mark.passed_bytes
        most = _CALLS_BYTES + sum(map(sent.most_bytes, rounds)) + superseded_streams * sent.most_bytes(sent.chunk_bytes)
        if passed > most:
            raise BrokenInvariant(
                f"invariant 4: {passed} bytes passed on the line since {mark}, {most} at most: {begins}"
            )
        if mark is not marks[0]:
            line.marks_in_mid_push += 1
            line.bytes_since_them += passed
    return line
