"""Pushes NumPy arrays as a new version of a model, with nothing but the generated stubs."""

from collections.abc import Iterator

import crc32c
import grpc
import numpy as np
from weightstream.v1 import weightstream_pb2 as ws
from weightstream.v1.weightstream_pb2_grpc import WeightStreamStub

DTYPES = {"float16": "F16", "float32": "F32", "float64": "F64", "int32": "I32", "int64": "I64", "uint8": "U8"}


def spec_of(name: str, array: np.ndarray) -> ws.TensorSpec:
    return ws.TensorSpec(name=name, dtype=DTYPES[array.dtype.name], shape=array.shape)


def missing_chunks(update: ws.BeginUpdateResponse, tensors: dict[str, np.ndarray]) -> Iterator[ws.WeightChunk]:
    for missing in update.missing:
        spec = spec_of(missing.name, tensors[missing.name])
        data = memoryview(np.ascontiguousarray(tensors[missing.name])).cast("B")
        for part in missing.ranges:
            for begin in range(part.begin, part.end, update.bucket_limit_bytes):
                piece = bytes(data[begin : min(begin + update.bucket_limit_bytes, part.end)])
                yield ws.WeightChunk(
                    update_id=update.update_id, name=spec.name, dtype=spec.dtype, shape=spec.shape,
                    offset=begin, crc32c=crc32c.crc32c(piece), data=piece,
                )  # fmt: skip


def push(address: str, model: str, version: int, tensors: dict[str, np.ndarray]) -> ws.CommitUpdateResponse:
    specs = [spec_of(name, array) for name, array in tensors.items()]
    with grpc.insecure_channel(address) as channel:
        server = WeightStreamStub(channel)
        update = server.BeginUpdate(ws.BeginUpdateRequest(model=model, version=version, tensors=specs), timeout=30)
        if update.missing:
            server.Push(missing_chunks(update, tensors), timeout=600)
        return server.CommitUpdate(ws.CommitUpdateRequest(model=model, update_id=update.update_id), timeout=60)
