"""Writes a Hugging Face style checkpoint of random bf16 weights: several shards and an index.

    make_checkpoint.py FOLDER [--mib=1024] [--shards=4] [--seed=1]

Much of it is as in a real model: an embedding many times larger than a chunk, hundreds of small tensors, a few scalars;
and an empty tensor, which real models have too. The same seed gives the same bytes.
"""

from __future__ import annotations

import argparse
import json
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

MIB = 1 << 20
BYTES_OF = {"BF16": 2, "I64": 8}
# Random bytes cost more than writing them: a block is drawn once and then changed by a word for each use.
BLOCK_BYTES = 8 * MIB
LAYERS = 100
# What the layers take; the embedding takes the rest.
LAYERS_SHARE = 0.6


@dataclass(frozen=True)
class Spec:
    """A tensor to write."""

    name: str
    dtype: str
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        return BYTES_OF[self.dtype] * int(np.prod(self.shape, dtype=np.int64))


def specs_of(total_bytes: int) -> list[Spec]:
    """Tensors of about that many bytes together."""
    hidden = max(16, int((total_bytes * LAYERS_SHARE / LAYERS / 2 / 3) ** 0.5) // 16 * 16)
    specs = []
    for layer in range(LAYERS):
        prefix = f"model.layers.{layer}"
        specs += [
            Spec(f"{prefix}.input_layernorm.weight", "BF16", (hidden,)),
            Spec(f"{prefix}.self_attn.qkv_proj.weight", "BF16", (hidden, hidden)),
            Spec(f"{prefix}.self_attn.qkv_proj.bias", "BF16", (hidden,)),
            Spec(f"{prefix}.mlp.up_proj.weight", "BF16", (hidden, hidden)),
            Spec(f"{prefix}.mlp.down_proj.weight", "BF16", (hidden, hidden)),
            Spec(f"{prefix}.mlp.scale", "BF16", ()),
        ]
    specs.append(Spec("model.unused_adapter.weight", "BF16", (0, hidden)))
    specs.append(Spec("model.step", "I64", ()))
    rest = total_bytes - sum(spec.size for spec in specs)
    specs.append(Spec("model.embed_tokens.weight", "BF16", (max(1, rest // (2 * hidden)), hidden)))
    return specs


def blocks(rng: np.random.Generator, block: np.ndarray, size: int) -> Iterator[memoryview]:
    """`size` bytes that look random and differ from call to call."""
    while size > 0:
        changed = block ^ rng.integers(0, 2**64, dtype=np.uint64)
        part = memoryview(changed).cast("B")[:size]
        yield part
        size -= len(part)


def write_shard(file: BinaryIO, specs: list[Spec], rng: np.random.Generator, block: np.ndarray) -> None:
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    at = 0
    for spec in specs:
        header[spec.name] = {"dtype": spec.dtype, "shape": spec.shape, "data_offsets": [at, at + spec.size]}
        at += spec.size
    text = json.dumps(header, separators=(",", ":")).encode()
    file.write(struct.pack("<Q", len(text)) + text)
    for spec in specs:
        for part in blocks(rng, block, spec.size):
            file.write(part)


def write_checkpoint(folder: Path, total_bytes: int, shards: int, seed: int) -> int:
    """Writes the checkpoint and returns the size of its tensors in bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    block = rng.integers(0, 2**64, BLOCK_BYTES // 8, dtype=np.uint64)
    specs = specs_of(total_bytes)
    weight_map = {}
    for shard in range(shards):
        name = f"model-{shard + 1:05}-of-{shards:05}.safetensors"
        part = specs[len(specs) * shard // shards : len(specs) * (shard + 1) // shards]
        weight_map.update({spec.name: name for spec in part})
        with (folder / name).open("wb") as file:
            write_shard(file, part, rng, block)
    total = sum(spec.size for spec in specs)
    index = {"metadata": {"total_size": total}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=1))
    return total


def main() -> None:
    parser = argparse.ArgumentParser(description="Writes a Hugging Face style checkpoint of random bf16 weights.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--mib", type=int, default=1024, help="about how large, in MiB (default 1024)")
    parser.add_argument("--shards", type=int, default=4, help="how many files (default 4)")
    parser.add_argument("--seed", type=int, default=1, help="another seed gives other weights (default 1)")
    options = parser.parse_args()
    total = write_checkpoint(options.folder, options.mib * MIB, options.shards, options.seed)
    print(f"{options.folder}: {total / MIB:.0f} MiB in {options.shards} shards")


if __name__ == "__main__":
    main()
