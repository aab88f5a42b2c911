"""Compares a checkpoint with the file of a version, bit for bit.

    compare_bytes.py CHECKPOINT FILE

CHECKPOINT is a .safetensors file or a folder of them. Reads both by the format's own rules, without our code. Exits
with 1 if a tensor is there only once, has another dtype or shape, or any other byte.
"""

from __future__ import annotations

import json
import mmap
import sys
from pathlib import Path
from typing import Any

BLOCK_BYTES = 16 << 20


def tensors_of(path: Path) -> dict[str, tuple[Any, memoryview]]:
    """Dtype and shape, and the bytes, of each tensor of a file or a folder."""
    tensors = {}
    for part in sorted(path.glob("*.safetensors")) if path.is_dir() else [path]:
        with part.open("rb") as file:
            data = memoryview(mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ))
        start = 8 + int.from_bytes(data[:8], "little")
        for name, entry in json.loads(bytes(data[8:start])).items():
            if name != "__metadata__":
                begin, end = entry["data_offsets"]
                tensors[name] = ((entry["dtype"], entry["shape"]), data[start + begin : start + end])
    return tensors


def equal(left: memoryview, right: memoryview) -> bool:
    # As bytes, a block at a time: a view compares its elements one by one.
    blocks = range(0, len(left), BLOCK_BYTES)
    return len(left) == len(right) and all(
        bytes(left[at : at + BLOCK_BYTES]) == bytes(right[at : at + BLOCK_BYTES]) for at in blocks
    )


def main() -> int:
    if len(sys.argv) != 3:
        print("usage: compare_bytes.py CHECKPOINT FILE", file=sys.stderr)
        return 2
    sent, held = tensors_of(Path(sys.argv[1])), tensors_of(Path(sys.argv[2]))
    differing = sorted(sent.keys() ^ held.keys())
    for name in sent.keys() & held.keys():
        if sent[name][0] != held[name][0] or not equal(sent[name][1], held[name][1]):
            differing.append(name)
    if differing:
        print(f"{len(differing)} tensors differ, among them {differing[0]}", file=sys.stderr)
        return 1
    print(f"{len(sent)} tensors, {sum(len(data) for _, data in sent.values())} bytes: the same, bit for bit")
    return 0


if __name__ == "__main__":
    sys.exit(main())
