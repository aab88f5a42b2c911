"""Invariant 4: what has landed is not asked for again, and so not sent again. By what servers log and say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tests.faults.witness import BrokenInvariant


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
