"""A server made of the generated stubs that misbehaves as a test tells it to."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent import futures
from types import TracebackType
from typing import Any

import grpc
from weightstream.v1 import weightstream_pb2 as ws
from weightstream.v1.weightstream_pb2_grpc import WeightStreamServicer, add_WeightStreamServicer_to_server

from tests.end_to_end.safetensors_file import size_in_bytes
from tests.end_to_end.wire import UNLIMITED

PushHandler = Callable[[Iterator[Any], grpc.ServicerContext], Any]
BeginHandler = Callable[[Any, grpc.ServicerContext], Any]
CommitHandler = Callable[[Any, grpc.ServicerContext], Any]

BUCKET_BYTES = 64 << 10
_CALLS_AT_ONCE = 16


def everything_is_missing(request: Any, _context: grpc.ServicerContext) -> Any:
    """The honest answer to a first BeginUpdate."""
    response = ws.BeginUpdateResponse(update_id="fake", bucket_limit_bytes=BUCKET_BYTES)
    for spec in request.tensors:
        size = size_in_bytes(spec.dtype, tuple(spec.shape))
        response.total_bytes += size
        if size:
            response.missing.add(name=spec.name).ranges.add(begin=0, end=size)
    response.missing_bytes = response.total_bytes
    return response


def nothing_is_missing(request: Any, context: grpc.ServicerContext) -> Any:
    """The honest answer once every byte has landed: a commit comes next."""
    response = everything_is_missing(request, context)
    del response.missing[:]
    response.missing_bytes = 0
    return response


class FakeServer(WeightStreamServicer):
    """Serves until closed; begins honestly unless told otherwise, and knows no CommitUpdate unless given one."""

    def __init__(
        self, push: PushHandler, begin: BeginHandler = everything_is_missing, commit: CommitHandler | None = None
    ) -> None:
        self._push = push
        self._begin = begin
        self._commit = commit or super().CommitUpdate
        self.begins = 0
        self.chunks = 0
        self.commits = 0
        self._server = grpc.server(futures.ThreadPoolExecutor(_CALLS_AT_ONCE), options=UNLIMITED)
        add_WeightStreamServicer_to_server(self, self._server)
        self.address = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        self._server.start()

    def BeginUpdate(self, request: Any, context: grpc.ServicerContext) -> Any:
        self.begins += 1
        return self._begin(request, context)

    def Push(self, request_iterator: Iterator[Any], context: grpc.ServicerContext) -> Any:
        def counted() -> Iterator[Any]:
            for chunk in request_iterator:
                self.chunks += 1
                yield chunk

        return self._push(counted(), context)

    def CommitUpdate(self, request: Any, context: grpc.ServicerContext) -> Any:
        self.commits += 1
        return self._commit(request, context)

    def __enter__(self) -> FakeServer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.stop(grace=None).wait(30)
