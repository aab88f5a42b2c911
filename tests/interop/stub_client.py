"""A client of Weightstream in Python, from nothing but generated stubs. README.md says what it is asked to do.

It prints one JSON object, and does the same as the one in Go beside it.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import crc32c
import grpc
from weightstream.v1 import weightstream_pb2 as ws
from weightstream.v1.weightstream_pb2_grpc import WeightStreamStub

from tests.interop.stub_errors import provoke_errors, provoke_refusals

CALL_SECONDS = 30
TRANSFER_SECONDS = 120


class ShardedCheckpoint:
    """A Hugging Face folder: the tensors' specs by name, and their bytes."""

    def __init__(self, folder: Path) -> None:
        self.specs: dict[str, Any] = {}
        self.data: dict[str, memoryview] = {}
        index = json.loads((folder / "model.safetensors.index.json").read_text())
        for shard in sorted(set(index["weight_map"].values())):
            self._read(folder / shard)

    def _read(self, shard: Path) -> None:
        file = memoryview(shard.read_bytes())
        start = 8 + int.from_bytes(file[:8], "little")
        header = json.loads(bytes(file[8:start]))
        header.pop("__metadata__", None)
        for name, entry in header.items():
            self.specs[name] = ws.TensorSpec(name=name, dtype=entry["dtype"], shape=entry["shape"])
            begin, end = entry["data_offsets"]
            self.data[name] = file[start + begin : start + end]


def missing_chunks(update: Any, checkpoint: ShardedCheckpoint) -> Iterator[Any]:
    for missing in update.missing:
        spec, data = checkpoint.specs[missing.name], checkpoint.data[missing.name]
        for part in missing.ranges:
            for begin in range(part.begin, part.end, update.bucket_limit_bytes):
                piece = bytes(data[begin : min(begin + update.bucket_limit_bytes, part.end)])
                yield ws.WeightChunk(
                    update_id=update.update_id,
                    name=spec.name,
                    dtype=spec.dtype,
                    shape=spec.shape,
                    offset=begin,
                    crc32c=crc32c.crc32c(piece),
                    data=piece,
                )


def push(server: WeightStreamStub, model: str, version: int, folder: Path) -> dict[str, Any]:
    """Begins again where the connection is lost: the answer to BeginUpdate says what is still missing."""
    checkpoint = ShardedCheckpoint(folder)
    request = ws.BeginUpdateRequest(
        model=model,
        version=version,
        tensors=[checkpoint.specs[name] for name in sorted(checkpoint.specs)],
        metadata={"format": "pt"},
        source_id=str(folder),
    )
    begins = []
    deadline = time.monotonic() + TRANSFER_SECONDS
    while True:
        update = server.BeginUpdate(request, timeout=CALL_SECONDS, wait_for_ready=True)
        begins.append({"missing_bytes": update.missing_bytes, "resumed": update.resumed})
        try:
            server.Push(missing_chunks(update, checkpoint), timeout=TRANSFER_SECONDS)
            break
        except grpc.RpcError as error:
            code = error.code()  # type: ignore[attr-defined, unused-ignore]
            if code != grpc.StatusCode.UNAVAILABLE or time.monotonic() > deadline:
                raise
    committed = server.CommitUpdate(
        ws.CommitUpdateRequest(model=model, update_id=update.update_id), timeout=CALL_SECONDS
    )
    return {"begins": begins, "path": committed.path}


def pull(server: WeightStreamStub, model: str, version: int, path: Path) -> dict[str, Any]:
    """Writes the bytes of a version to a file, one tensor behind the other, as they come."""
    tensors: list[dict[str, Any]] = []
    with path.open("wb") as out:
        for chunk in server.Pull(ws.PullRequest(model=model, version=version), timeout=TRANSFER_SECONDS):
            if not chunk.HasField("crc32c") or chunk.crc32c != crc32c.crc32c(chunk.data):
                raise ValueError(f"tensor {chunk.name} at {chunk.offset}: the data do not match their checksum")
            if not tensors or tensors[-1]["name"] != chunk.name:
                tensors.append({"name": chunk.name, "dtype": chunk.dtype, "shape": list(chunk.shape), "bytes": 0})
            if chunk.offset != tensors[-1]["bytes"]:
                raise ValueError(f"tensor {chunk.name}: bytes at {chunk.offset} came after {tensors[-1]['bytes']}")
            tensors[-1]["bytes"] += len(chunk.data)
            out.write(chunk.data)
    return {"tensors": tensors}


def main() -> None:
    what, address, *rest = sys.argv[1:]
    with grpc.insecure_channel(address) as channel:
        if what == "errors":
            result = provoke_errors(channel)
        elif what == "refusals":
            result = provoke_refusals(channel, *rest)
        else:
            model, version, path = rest
            result = {"push": push, "pull": pull}[what](WeightStreamStub(channel), model, int(version), Path(path))
    print(json.dumps(result))


if __name__ == "__main__":
    main()
