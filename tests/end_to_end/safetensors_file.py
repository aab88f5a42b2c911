"""An independent reader of safetensors files: the format's rules, and none of Weightstream's code.

The format: 8 bytes of little-endian length, that many bytes of JSON, then the tensors' bytes without a hole.
"""

from __future__ import annotations

import contextlib
import json
import mmap
import os
import struct
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

# Bits of one element; those under 8 are packed.
DTYPE_BITS = {
    "BOOL": 8,
    "F4": 4,
    "F6_E2M3": 6,
    "F6_E3M2": 6,
    "U8": 8,
    "I8": 8,
    "F8_E5M2": 8,
    "F8_E4M3": 8,
    "F8_E8M0": 8,
    "F8_E4M3FNUZ": 8,
    "F8_E5M2FNUZ": 8,
    "I16": 16,
    "U16": 16,
    "F16": 16,
    "BF16": 16,
    "I32": 32,
    "U32": 32,
    "F32": 32,
    "C64": 64,
    "F64": 64,
    "I64": 64,
    "U64": 64,
}

MAX_HEADER_BYTES = 100_000_000
PAGE_BYTES = 4096


class FormatError(ValueError):
    """The file breaks a rule of the format."""


def size_in_bytes(dtype: str, shape: tuple[int, ...]) -> int:
    """Bytes of a tensor; FormatError if its packed elements do not fill whole bytes."""
    bits = DTYPE_BITS[dtype]
    for extent in shape:
        bits *= extent
    if bits % 8:
        raise FormatError(f"{dtype}{list(shape)} does not fill whole bytes")
    return bits // 8


def alignment(dtype: str) -> int:
    """Where a tensor of this type may start, in bytes: a multiple of its element's size."""
    return max(1, DTYPE_BITS[dtype] // 8) if DTYPE_BITS[dtype] >= 8 else 1


@dataclass(frozen=True)
class Entry:
    """A tensor of a file; begin and end count from the data section's start."""

    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    names = dict(pairs)
    if len(names) != len(pairs):
        raise FormatError("the header names something twice")
    return names


class SafetensorsFile:
    """One file, mapped; it keeps every byte that it had when it was opened only if nobody writes the file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            status = os.fstat(descriptor)
            self.file_bytes = status.st_size
            # Which file of the machine: another one at the same path, were it equal in every byte, is not this one.
            self.identity = (status.st_dev, status.st_ino)
            if self.file_bytes < 8:
                raise FormatError(f"{path}: {self.file_bytes} bytes are no safetensors file")
            self._map = mmap.mmap(descriptor, self.file_bytes, prot=mmap.PROT_READ)
        finally:
            os.close(descriptor)
        self._view = memoryview(self._map)
        self.metadata: dict[str, str] = {}
        self.tensors: dict[str, Entry] = {}
        self.data_start = 0
        try:
            self._parse()
        except BaseException:
            self.close()
            raise

    def _parse(self) -> None:
        (length,) = struct.unpack("<Q", self._view[:8])
        if length > MAX_HEADER_BYTES or 8 + length > self.file_bytes:
            raise FormatError(f"{self.path}: a header of {length} bytes in a file of {self.file_bytes}")
        header = json.loads(bytes(self._view[8 : 8 + length]), object_pairs_hook=_without_duplicates)
        self.data_start = 8 + length
        self.metadata = header.pop("__metadata__", {})
        for name, entry in header.items():
            begin, end = entry["data_offsets"]
            self.tensors[name] = Entry(entry["dtype"], tuple(entry["shape"]), begin, end)
        self._check_ranges()

    def _check_ranges(self) -> None:
        at = 0
        for name, entry in sorted(self.tensors.items(), key=lambda item: (item[1].begin, item[1].end)):
            if entry.begin != at:
                raise FormatError(f"{self.path}: {name} starts at {entry.begin}, the one before it ends at {at}")
            if entry.end - entry.begin != size_in_bytes(entry.dtype, entry.shape):
                raise FormatError(f"{self.path}: {name} has {entry.end - entry.begin} bytes, not what its shape says")
            at = entry.end
        if self.data_start + at != self.file_bytes:
            raise FormatError(f"{self.path}: {self.file_bytes} bytes, the tensors end at {self.data_start + at}")

    def check_placement(self) -> None:
        """What Weightstream promises beyond the format: the data start on a page, every tensor is aligned."""
        if self.data_start % PAGE_BYTES:
            raise FormatError(f"{self.path}: the data start at {self.data_start}, not on a page")
        for name, entry in self.tensors.items():
            if entry.begin % alignment(entry.dtype):
                raise FormatError(f"{self.path}: {name} ({entry.dtype}) lies at {entry.begin}, not aligned")

    def data(self, name: str) -> memoryview:
        """A tensor's bytes, in place."""
        entry = self.tensors[name]
        return self._view[self.data_start + entry.begin : self.data_start + entry.end]

    def close(self) -> None:
        """Ends the mapping, or leaves it to the last view of data() that a failed assertion may still hold."""
        with contextlib.suppress(BufferError):
            self._view.release()
            self._map.close()

    def __enter__(self) -> SafetensorsFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
