"""Seeded checkpoints, and files of them: written here byte for byte, with none of Weightstream's code."""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tests.end_to_end.safetensors_file import size_in_bytes


@dataclass(frozen=True)
class Tensor:
    """A tensor and its row-major bytes."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    data: bytes

    def __post_init__(self) -> None:
        assert len(self.data) == size_in_bytes(self.dtype, self.shape), self.name


def random_tensor(rng: np.random.Generator, name: str, dtype: str, shape: Sequence[int]) -> Tensor:
    """Every bit pattern may come up: NaNs with payloads, negative zeros, subnormal numbers."""
    size = size_in_bytes(dtype, tuple(shape))
    data = rng.bytes(size)
    if dtype == "BOOL":
        data = bytes(byte & 1 for byte in data)
    return Tensor(name, dtype, tuple(shape), data)


def filled_tensor(name: str, words: int, version: int) -> Tensor:
    """A U64 tensor that says in every word which version it belongs to."""
    return Tensor(name, "U64", (words,), np.full(words, fill_word(version), dtype="<u8").tobytes())


def fill_word(version: int) -> int:
    """A word whose every byte differs from one version to the next (an odd multiplier, modulo 2**64)."""
    return version * 0x9E3779B97F4A7C15 % 2**64


def header_bytes(
    specs: Iterable[tuple[str, str, tuple[int, ...]]], metadata: Mapping[str, str] | None = None
) -> tuple[bytes, int]:
    """Length and JSON of a file whose tensors lie in the order given; and the size of its data section."""
    header: dict[str, object] = {"__metadata__": dict(metadata)} if metadata else {}
    at = 0
    for name, dtype, shape in specs:
        end = at + size_in_bytes(dtype, shape)
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [at, end]}
        at = end
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text, at


def write_safetensors(path: Path, tensors: Sequence[Tensor], metadata: Mapping[str, str] | None = None) -> Path:
    """A file of the tensors in the order given, aligned to nothing: the format allows it."""
    header, _ = header_bytes([(t.name, t.dtype, t.shape) for t in tensors], metadata)
    with path.open("wb") as file:
        file.write(header)
        for tensor in tensors:
            file.write(tensor.data)
    return path


def write_sharded(folder: Path, tensors: Sequence[Tensor], shards: int) -> Path:
    """A Hugging Face folder: the tensors dealt out to shards, and the index."""
    folder.mkdir()
    weight_map = {}
    for shard in range(shards):
        name = f"model-{shard + 1:05}-of-{shards:05}.safetensors"
        part = tensors[shard::shards]
        write_safetensors(folder / name, part, {"format": "pt"})
        weight_map.update({tensor.name: name for tensor in part})
    total = sum(len(tensor.data) for tensor in tensors)
    index = {"metadata": {"total_size": total}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return folder


def write_filled(path: Path, version: int, words: Sequence[int]) -> Path:
    """A checkpoint that says in every word, and in its metadata, which version it is."""
    tensors = [filled_tensor(f"filled.{i}", count, version) for i, count in enumerate(words)]
    return write_safetensors(path, tensors, {"fill": str(version)})


def write_sparse(path: Path, name: str, dtype: str, shape: tuple[int, ...], islands: Mapping[int, bytes]) -> Path:
    """One huge tensor: zeros that take no disk, but for islands of bytes at their offsets into the tensor."""
    header, size = header_bytes([(name, dtype, shape)])
    with path.open("wb") as file:
        file.write(header)
        file.truncate(len(header) + size)
        for offset, data in islands.items():
            os.pwrite(file.fileno(), data, len(header) + offset)
    return path
