"""The wire by hand: generated stubs, so that a test can say what no well-behaved client would."""

from __future__ import annotations

import contextlib
import unittest
from collections.abc import Iterable, Iterator, Sequence
from types import TracebackType
from typing import Any

import crc32c
import grpc
from weightstream.v1 import weightstream_pb2 as ws
from weightstream.v1.weightstream_pb2_grpc import WeightStreamStub

from tests.end_to_end.checkpoints import Tensor

CALL_SECONDS = 30

UNLIMITED = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]


def specs_of(tensors: Iterable[Tensor]) -> list[Any]:
    return [ws.TensorSpec(name=t.name, dtype=t.dtype, shape=t.shape) for t in tensors]


def chunk_of(tensor: Tensor, begin: int = 0, end: int | None = None, **fields: Any) -> Any:
    """An honest chunk of a tensor's bytes, but for the fields that are given otherwise."""
    data = tensor.data[begin:end]
    honest = {
        "name": tensor.name,
        "dtype": tensor.dtype,
        "shape": tensor.shape,
        "offset": begin,
        "crc32c": crc32c.crc32c(data),
        "data": data,
    }
    return ws.WeightChunk(**(honest | fields))


class Wire:
    """One connection to a server, with a deadline on every call."""

    def __init__(self, address: str) -> None:
        # A pool of its own: gRPC would share one connection among all channels to one address.
        self.channel = grpc.insecure_channel(address, options=[*UNLIMITED, ("grpc.use_local_subchannel_pool", 1)])
        self.stub = WeightStreamStub(self.channel)

    def begin(self, model: str, version: int, tensors: Sequence[Tensor] = (), **fields: Any) -> Any:
        request = ws.BeginUpdateRequest(model=model, version=version, **({"tensors": specs_of(tensors)} | fields))
        return self.stub.BeginUpdate(request, timeout=CALL_SECONDS)

    def push(self, update_id: str, chunks: Iterable[Any]) -> Any:
        def with_update() -> Iterator[Any]:
            for number, chunk in enumerate(chunks):
                if number == 0 and not chunk.update_id:
                    chunk.update_id = update_id
                yield chunk

        return self.stub.Push(with_update(), timeout=CALL_SECONDS)

    def commit(self, model: str, update_id: str) -> Any:
        return self.stub.CommitUpdate(ws.CommitUpdateRequest(model=model, update_id=update_id), timeout=CALL_SECONDS)

    def abort(self, model: str, update_id: str, reason: str = "") -> None:
        request = ws.AbortUpdateRequest(model=model, update_id=update_id, reason=reason)
        self.stub.AbortUpdate(request, timeout=CALL_SECONDS)

    def model(self, model: str) -> Any:
        return self.stub.GetModel(ws.GetModelRequest(model=model), timeout=CALL_SECONDS)

    def push_all(self, model: str, version: int, tensors: Sequence[Tensor], **fields: Any) -> Any:
        """A whole update of small tensors, one chunk each."""
        update = self.begin(model, version, tensors, **fields)
        if update.missing:
            self.push(update.update_id, [chunk_of(t) for t in tensors])
        return self.commit(model, update.update_id)

    def close(self) -> None:
        self.channel.close()

    def __enter__(self) -> Wire:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


@contextlib.contextmanager
def refused(test: unittest.TestCase, code: grpc.StatusCode, *words: str) -> Iterator[None]:
    """The block's call must end with this code and a message that holds all the words."""
    with test.assertRaises(grpc.RpcError) as caught:
        yield
    error: Any = caught.exception
    test.assertEqual(error.code(), code, error.details())
    for word in words:
        test.assertIn(word, error.details())
