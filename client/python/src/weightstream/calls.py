"""The calls that carry no payload, with their deadlines and what happens when they are not answered."""

from __future__ import annotations

import contextlib
import copy
import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar

import grpc

from weightstream.channel import Endpoint
from weightstream.errors import CancelledError, WeightStreamError, from_rpc_error
from weightstream.handshake import explained
from weightstream.limits import SUPERVISION_SECONDS
from weightstream.retries import CallKind, Remedy, RetryBudget, remedy_for
from weightstream.v1 import weightstream_pb2 as ws
from weightstream.v1.weightstream_pb2_grpc import WeightStreamStub

T = TypeVar("T")

SERVICE = "/weightstream.v1.WeightStream/"
# Of grpc.health.v1, which every server of ours has, and which wants no token.
_HEALTH_CHECK = "/grpc.health.v1.Health/Check"
_GIB = 1 << 30


class Stop:
    """Says that a transfer shall end: by its caller's wish, or since the client was closed. Waits end with it."""

    def __init__(self, closed: threading.Event, asked: threading.Event | None = None) -> None:
        self._closed = closed
        self._asked = asked

    def check(self) -> None:
        """CancelledError once it shall end."""
        if self._closed.is_set():
            raise CancelledError("the client was closed")
        if self._asked is not None and self._asked.is_set():
            raise CancelledError("cancelled by the caller; the update is left to be resumed")

    def wait(self, seconds: float) -> None:
        """Waits; CancelledError soon after it shall end."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            self.check()
            self._closed.wait(min(left, SUPERVISION_SECONDS))
        self.check()


class Control:
    """One channel for the calls that carry no payload. Any thread may use it."""

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self.channel = endpoint.open_channel()
        self.closed = threading.Event()
        self._stub: Any = WeightStreamStub(self.channel)  # type: ignore[no-untyped-call, unused-ignore]

    def close(self) -> None:
        """Ends what is under way."""
        self.closed.set()
        self.channel.close()

    def traced(self, traceparent: str | None) -> Control:
        """The same channel, for calls of one span of a trace."""
        control = copy.copy(self)
        control.endpoint = self.endpoint.traced(traceparent)
        return control

    def once(self, method: str, request: Any, seconds: float | None = None) -> Any:
        """One attempt of a call."""
        limit = self.endpoint.limits.call if seconds is None else seconds
        # A token that cannot be sent is an error of its own.
        metadata = self.endpoint.metadata()
        try:
            return getattr(self._stub, method)(request, timeout=limit, metadata=metadata)
        except grpc.RpcError as error:
            raise from_rpc_error(error, self.endpoint.address) from None
        except ValueError as error:
            raise self._closed_channel(error) from None

    def answers(
        self, method: str, request: Any, deserializer: Callable[[bytes], Any] | None, seconds: float | None = None
    ) -> Any:
        """A call that is answered with a stream, as grpcio gives it."""
        open_call: Any = self.channel.unary_stream(SERVICE + method, type(request).SerializeToString, deserializer)
        metadata = self.endpoint.metadata()
        try:
            return open_call(request, timeout=seconds, metadata=metadata)
        except ValueError as error:
            raise self._closed_channel(error) from None

    def _closed_channel(self, error: ValueError) -> CancelledError:
        """ValueError is grpcio's word for it."""
        return CancelledError(f"the client was closed: {error}", self.endpoint.address)

    def call(
        self,
        kind: CallKind,
        method: str,
        request: Any,
        budget: RetryBudget | None = None,
        stop: Stop | None = None,
        seconds: float | None = None,
    ) -> Any:
        """Repeats a call until it is answered, or the limits say that the server is not there."""
        budget = budget or RetryBudget(self.endpoint.limits.connect)
        stop = stop or Stop(self.closed)
        return self.until_answered(kind, lambda: self.once(method, request, seconds), budget, stop)

    def until_answered(self, kind: CallKind, call: Callable[[], T], budget: RetryBudget, stop: Stop) -> T:
        """Repeats a call for as long as its failures say that it was lost on the way."""
        while True:
            stop.check()
            began = time.monotonic()
            try:
                result = call()
            except WeightStreamError as failure:
                stop.check()
                error = explained(self.endpoint, failure)
                if remedy_for(kind, error) is not Remedy.RETRY:
                    budget.answered()
                    raise error from None
                wait = budget.no_answer(began, error)
            else:
                budget.answered()
                return result
            stop.wait(wait)
            self.await_connected(budget.outage_left(), stop)

    def await_connected(self, seconds: float, stop: Stop) -> None:
        """Waits until the channel is connected, or that long: calls to a server that is not there fail at once."""
        # A call that waits for the connection: grpc.channel_ready_future leaves a thread behind, which complains on
        # stderr when the channel is closed. Whatever is answered, somebody is there.
        check: Any = self.channel.unary_unary(_HEALTH_CHECK, request_serializer=None, response_deserializer=None)
        try:
            call = check.future(b"", timeout=max(seconds, SUPERVISION_SECONDS), wait_for_ready=True)
        except ValueError as error:
            raise self._closed_channel(error) from None
        try:
            while not call.done():
                stop.check()
                with contextlib.suppress(grpc.FutureTimeoutError, grpc.FutureCancelledError, grpc.RpcError):
                    call.result(timeout=SUPERVISION_SECONDS)
        finally:
            call.cancel()

    def commit_seconds(self, model_bytes: int) -> float:
        """A commit may have to write the whole model to a disk."""
        limits = self.endpoint.limits
        return limits.call + limits.per_gib * model_bytes / _GIB

    def round_trip(self, model: str, short_enough: float) -> float:
        """The least seconds that a short call takes: of a near but busy server, several are needed to see it."""
        request = ws.GetModelRequest(model=model)
        least = float("inf")
        start = time.monotonic()
        for _ in range(8):
            began = time.monotonic()
            try:
                self._stub.GetModel(request, timeout=self.endpoint.limits.call, metadata=self.endpoint.metadata())
            except grpc.RpcError as error:
                # That there is no such model is an answer as well.
                if getattr(error, "code", lambda: None)() is not grpc.StatusCode.NOT_FOUND:
                    return 0.0
            least = min(least, time.monotonic() - began)
            if least < short_enough or time.monotonic() - start > 0.04:
                break
        return least
