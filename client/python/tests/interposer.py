"""A server between the client and the real one: it passes every call on, but for what a test makes of it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent import futures
from typing import Any

import grpc
from weightstream.v1 import weightstream_pb2 as ws
from weightstream.v1.weightstream_pb2_grpc import WeightStreamStub

_SERVICE = "weightstream.v1.WeightStream"
_STREAMED_ANSWERS = {"Pull": ws.WeightChunk, "DigestModel": ws.TensorDigest, "WatchModel": ws.Model}
_CALL_SECONDS = 60

# A chunk fills gRPC's default limit of 4 MiB, and its header passes it.
_UNLIMITED = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]

# Given how often the method was called before, the request (of Push: the stream of chunks), what passes it on, and the
# call, it returns the answer.
Hook = Callable[[int, Any, Callable[[Any], Any], grpc.ServicerContext], Any]


class Interposer:
    """Listens on `address`. `hooks` are by method; `calls` counts what came."""

    def __init__(self, target: str, hooks: dict[str, Hook]) -> None:
        self._channel = grpc.insecure_channel(target, options=_UNLIMITED)
        self._stub = WeightStreamStub(self._channel)
        self.hooks = hooks
        self.calls: dict[str, int] = {}
        self._lock = threading.Lock()
        self._server = grpc.server(futures.ThreadPoolExecutor(16), options=[("grpc.so_reuseport", 0), *_UNLIMITED])
        methods = ws.DESCRIPTOR.services_by_name["WeightStream"].methods
        self._server.add_generic_rpc_handlers(
            [grpc.method_handlers_generic_handler(_SERVICE, {m.name: self._handler(m) for m in methods})]
        )
        self.address = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        self._server.start()

    def _handler(self, method: Any) -> Any:
        name = method.name
        request = getattr(ws, method.input_type.name)
        answer = getattr(ws, method.output_type.name)
        coders = {"request_deserializer": request.FromString, "response_serializer": answer.SerializeToString}
        if name == "Push":
            return grpc.stream_unary_rpc_method_handler(self._unary(name), **coders)
        if name in _STREAMED_ANSWERS:
            return grpc.unary_stream_rpc_method_handler(self._streamed(name), **coders)
        return grpc.unary_unary_rpc_method_handler(self._unary(name), **coders)

    def _answer(self, name: str, request: Any, context: grpc.ServicerContext) -> Any:
        with self._lock:
            before = self.calls.get(name, 0)
            self.calls[name] = before + 1

        def pass_on(what: Any) -> Any:
            return getattr(self._stub, name)(what, timeout=_CALL_SECONDS)

        try:
            return self.hooks[name](before, request, pass_on, context) if name in self.hooks else pass_on(request)
        except grpc.RpcError as error:
            told: Any = error
            context.abort(told.code(), told.details())

    def _unary(self, name: str) -> Callable[[Any, grpc.ServicerContext], Any]:
        return lambda request, context: self._answer(name, request, context)

    def _streamed(self, name: str) -> Callable[[Any, grpc.ServicerContext], Iterator[Any]]:
        def answer(request: Any, context: grpc.ServicerContext) -> Iterator[Any]:
            try:
                yield from self._answer(name, request, context)
            except grpc.RpcError as error:
                told: Any = error
                context.abort(told.code(), told.details())

        return answer

    def close(self) -> None:
        """Ends every call, and the port."""
        self._server.stop(None).wait()
        self._channel.close()
