"""Maps safetensors files and Hugging Face checkpoint folders.

The format: 8 bytes of little-endian header length, that many bytes of JSON, then the tensors' bytes without a hole.
"""

from __future__ import annotations

import errno
import json
import mmap
import os
import struct
from pathlib import Path
from typing import Any

import crc32c

from weightstream.errors import (
    FailedPreconditionError,
    InvalidArgumentError,
    NotFoundError,
    PermissionDeniedError,
    WeightStreamError,
)
from weightstream.spec import TensorSpec

INDEX_NAME = "model.safetensors.index.json"
SINGLE_NAME = "model.safetensors"
_PREFIX_BYTES = 8
# The format's own cap.
_MOST_HEADER_BYTES = 100_000_000

# Device, inode, size, modification and change time: what tells one state of a file from another.
Identity = tuple[int, int, int, int, int]


def _identity(status: os.stat_result) -> Identity:
    return (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


def _refusal(path: Path, error: OSError) -> WeightStreamError:
    """What the file system said of a path, as an error of ours."""
    if error.errno in (errno.EACCES, errno.EPERM):
        return PermissionDeniedError(
            f"cannot read {path}: {error.strerror}; let this user read it, and search the folders above it"
        )
    if error.errno in (errno.ENOENT, errno.ENOTDIR):
        return NotFoundError(f"cannot open {path}: {error.strerror}")
    if error.errno in (errno.ENAMETOOLONG, errno.ELOOP, errno.EISDIR, errno.ENODEV, errno.ENXIO):
        return InvalidArgumentError(
            f"cannot read {path}: {error.strerror}; give a .safetensors file, or the folder of a checkpoint"
        )
    return FailedPreconditionError(f"cannot read {path}: {error.strerror}; see to the medium that it lies on")


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    entries = dict(pairs)
    if len(entries) != len(pairs):
        raise ValueError("a name comes twice")
    return entries


class SafetensorsFile:
    """One file, mapped for reading. What is read stays valid while any view of it lives, also after the file's removal.

    The mapping is private: who writes to it changes pages of his own, never the file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise _refusal(path, error) from None
        except ValueError as error:
            raise InvalidArgumentError(f"{str(path)!r} is no path: {error}") from None
        try:
            status = os.fstat(descriptor)
            self.identity = _identity(status)
            if status.st_size < _PREFIX_BYTES:
                raise InvalidArgumentError(f"{path}: {status.st_size} bytes are no safetensors file")
            self._view = memoryview(mmap.mmap(descriptor, status.st_size, access=mmap.ACCESS_COPY))
        except OSError as error:
            raise _refusal(path, error) from None
        finally:
            os.close(descriptor)
        self.specs: dict[str, TensorSpec] = {}
        self.metadata: dict[str, str] = {}
        self._ranges: dict[str, tuple[int, int]] = {}
        self._data_start = 0
        self._parse()

    def _parse(self) -> None:
        (length,) = struct.unpack("<Q", self._view[:_PREFIX_BYTES])
        self._data_start = _PREFIX_BYTES + length
        if length > _MOST_HEADER_BYTES or self._data_start > len(self._view):
            raise InvalidArgumentError(
                f"{self.path}: a header of {length} bytes in a file of {len(self._view)}; it is truncated, or none"
            )
        try:
            text = bytes(self._view[_PREFIX_BYTES : self._data_start])
            header = json.loads(text, object_pairs_hook=_without_duplicates)
            self.metadata = {str(key): str(value) for key, value in header.pop("__metadata__", {}).items()}
            for name, entry in header.items():
                self.specs[name] = TensorSpec(name, entry["dtype"], tuple(int(n) for n in entry["shape"]))
                begin, end = entry["data_offsets"]
                self._ranges[name] = (int(begin), int(end))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise InvalidArgumentError(f"{self.path}: the header is not safetensors': {error}") from None
        self._check_ranges()

    def _check_ranges(self) -> None:
        at = 0
        for name, (begin, end) in sorted(self._ranges.items(), key=lambda item: item[1]):
            spec = self.specs[name]
            try:
                size = spec.nbytes
            except InvalidArgumentError as error:
                raise error.within(str(self.path)) from None
            if begin != at or end - begin != size:
                raise InvalidArgumentError(
                    f'{self.path}: tensor "{name}", {spec}, lies at [{begin}, {end}), not at [{at}, {at + size})'
                )
            at = end
        if self._data_start + at != len(self._view):
            raise InvalidArgumentError(
                f"{self.path}: the tensors end at byte {self._data_start + at} of {len(self._view)}; it is truncated"
            )

    def data(self, name: str) -> memoryview:
        """A tensor's bytes, in place."""
        begin, end = self._ranges[name]
        return self._view[self._data_start + begin : self._data_start + end]

    def header_crc32c(self) -> int:
        """What VersionInfo.manifest_crc32c says of a version's file."""
        return int(crc32c.crc32c(self._view[: self._data_start]))

    def check_unchanged(self) -> None:
        """FailedPreconditionError if the file was written, replaced or removed since it was opened."""
        try:
            now = _identity(self.path.stat())
        except FileNotFoundError as error:
            raise FailedPreconditionError(f"{self.path} was removed while it was read: {error.strerror}") from None
        except OSError as error:
            raise _refusal(self.path, error) from None
        # A new link or a change of mode is none of its content: all but the change time.
        if now[:4] != self.identity[:4]:
            raise FailedPreconditionError(f"{self.path} was written or replaced while it was read")


def _read_index(folder: Path) -> dict[str, set[str]]:
    """Which tensors each shard holds."""
    path = folder / INDEX_NAME
    shards: dict[str, set[str]] = {}
    try:
        weight_map = json.loads(path.read_text())["weight_map"]
        for tensor, shard in weight_map.items():
            shards.setdefault(shard, set()).add(tensor)
    except OSError as error:
        raise _refusal(path, error) from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InvalidArgumentError(f"{path} is no index of a checkpoint: {error!r}") from None
    for shard in shards:
        if not isinstance(shard, str) or Path(shard).name != shard:
            raise InvalidArgumentError(f"{path} names the shard {shard!r}, which is not a file of this folder")
    return shards


def _open_shards(folder: Path) -> list[SafetensorsFile]:
    files = []
    seen: dict[str, str] = {}
    for shard, names in sorted(_read_index(folder).items()):
        file = SafetensorsFile(folder / shard)
        if set(file.specs) != names:
            odd = sorted(set(file.specs) ^ names)[0]
            raise InvalidArgumentError(
                f'{file.path} and {INDEX_NAME} do not agree on tensor "{odd}"; the folder mixes checkpoints'
            )
        for name in names:
            if name in seen:
                raise InvalidArgumentError(f'tensor "{name}" is in both {seen[name]} and {shard}')
            seen[name] = shard
        files.append(file)
    return files


def open_checkpoint(path: Path) -> list[SafetensorsFile]:
    """The files of a checkpoint: one .safetensors file, or those of a Hugging Face folder."""
    try:
        if not path.is_dir():
            return [SafetensorsFile(path)]
        if (path / INDEX_NAME).exists():
            return _open_shards(path)
        if (path / SINGLE_NAME).exists():
            return [SafetensorsFile(path / SINGLE_NAME)]
        # Not glob, which takes a folder that it may not read for an empty one.
        files = sorted(file for file in path.iterdir() if file.name.endswith(".safetensors"))
    except OSError as error:
        raise _refusal(path, error) from None
    if len(files) != 1 or "-of-" in files[0].name:
        raise InvalidArgumentError(
            f"{path} holds neither {INDEX_NAME} nor {SINGLE_NAME}, and not exactly one whole .safetensors file"
        )
    return [SafetensorsFile(files[0])]
