"""Sends what a server misses, once, over several connections at a time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import grpc

from weightstream.calls import SERVICE, Stop
from weightstream.channel import Endpoint
from weightstream.errors import (
    CancelledError,
    DeadlineExceededError,
    InternalError,
    WeightStreamError,
    from_rpc_error,
)
from weightstream.limits import RELEASE_SECONDS, SUPERVISION_SECONDS
from weightstream.plan import Chunk, Plan
from weightstream.retries import CallKind, Remedy, remedy_for
from weightstream.source import Source
from weightstream.v1 import weightstream_pb2 as ws
from weightstream.wire import encode_chunk


class PushRound:
    """One round of one update: `complete`, or `cause` and what it means. Used once."""

    def __init__(self, endpoint: Endpoint, source: Source, plan: Plan, update_id: str, stop: Stop) -> None:
        self._endpoint = endpoint
        self._source = source
        self._plan = plan
        self._update_id = update_id
        self._stop = stop
        self.sent_bytes = 0
        self.last_progress = time.monotonic()
        self.complete = False
        self.give_up = False
        self.stalled = False
        self.cause: BaseException | None = None
        self._lock = threading.Lock()
        # Notified as calls end, and as iterators leave the source's bytes.
        self._change = threading.Condition(self._lock)
        self._calls: list[Any] = []
        self._running = 0
        self._reading = 0
        self._ended = False
        self._least_missing: int | None = None

    def run(self, connections: int, streams_per_connection: int, on_look: Callable[[], None]) -> None:
        """Returns once every call has ended and no thread reads the source any more."""
        channels = [self._endpoint.open_channel() for _ in range(connections)]
        try:
            for number in range(connections * streams_per_connection):
                chunk = self._plan.take()
                if chunk is None:
                    break
                self._open(channels[number % connections], chunk)
            self._supervise(on_look)
        finally:
            self._release()
            for channel in channels:
                channel.close()
        if self.cause is None:
            self.complete = self._least_missing == 0
        if self.cause is None and not self.complete:
            self.cause = InternalError(
                f"everything was sent and accepted, yet {self._least_missing} bytes are missing", self._endpoint.address
            )

    def _open(self, channel: grpc.Channel, first: Chunk) -> None:
        push: Any = channel.stream_unary(
            SERVICE + "Push", request_serializer=None, response_deserializer=ws.PushResponse.FromString
        )
        call = push.future(self._messages(first), metadata=self._endpoint.metadata())
        with self._lock:
            self._calls.append(call)
            self._running += 1
        call.add_done_callback(self._on_end)

    def _messages(self, first: Chunk) -> Iterator[bytes]:
        """The chunks of one stream. Run by a thread of grpcio, which logs what is raised in it and hides it."""
        chunk: Chunk | None = first
        update_id = self._update_id
        while chunk is not None:
            with self._lock:
                if self._ended:
                    return
                self._reading += 1
            try:
                message, size = self._encode(chunk, update_id)
            except Exception as error:
                # Whatever the caller's tensors raise as they are read: a device's failure, out of memory.
                self._fail(error, give_up=True)
                return
            finally:
                with self._lock:
                    self._reading -= 1
                    self._change.notify_all()
            yield message
            # Asked for the next one: grpcio has handed this one on.
            update_id = ""
            with self._lock:
                self.sent_bytes += size
                self.last_progress = time.monotonic()
            chunk = self._plan.take()

    def _encode(self, chunk: Chunk, update_id: str) -> tuple[bytes, int]:
        specs = self._source.specs
        pieces = [self._source.view(chunk.tensor)[chunk.begin : chunk.end]]
        pieces += [self._source.view(tensor) for tensor in chunk.followed_by]
        names = [specs[tensor].name for tensor in chunk.followed_by]
        message = encode_chunk(specs[chunk.tensor], chunk.begin, pieces, update_id, names)
        return message, sum(map(len, pieces))

    def _on_end(self, call: Any) -> None:
        try:
            missing = call.result().missing_bytes
        except grpc.RpcError as error:
            failure = from_rpc_error(error, self._endpoint.address)
            self._fail(failure, give_up=remedy_for(CallKind.PUSH, failure) is Remedy.GIVE_UP)
        except grpc.FutureCancelledError:
            self._fail(CancelledError("cancelled"), give_up=False)
        else:
            with self._lock:
                if self._least_missing is None or missing < self._least_missing:
                    self._least_missing = missing
        with self._lock:
            self.last_progress = time.monotonic()
            self._running -= 1
            self._change.notify_all()

    def _fail(self, cause: BaseException, give_up: bool) -> None:
        """The first cause counts; what a cancelled call says after it is its effect."""
        with self._lock:
            if self._ended:
                return
            self.cause = self.cause or cause
            if not give_up:
                return
            self.cause, self.give_up, self._ended = cause, True, True
            calls = list(self._calls)
        for call in calls:
            call.cancel()

    def _supervise(self, on_look: Callable[[], None]) -> None:
        stall = self._endpoint.limits.stall
        while True:
            with self._lock:
                if not self._running:
                    return
                self._change.wait(SUPERVISION_SECONDS)
                silence = time.monotonic() - self.last_progress
            on_look()
            self._stop.check()
            if silence > stall and not self._ended:
                self.stalled = True
                self._end(DeadlineExceededError(f"no data were taken for {stall:g} seconds", self._endpoint.address))

    def _end(self, cause: WeightStreamError) -> None:
        with self._lock:
            if self._ended:
                return
            self.cause, self._ended = cause, True
            calls = list(self._calls)
        for call in calls:
            call.cancel()

    def _release(self) -> None:
        """Also after an interrupt: whoever called may change the tensors as soon as this returns."""
        with self._lock:
            self._ended = True
            calls = list(self._calls)
        for call in calls:
            call.cancel()
        with self._lock:
            if not self._change.wait_for(lambda: not self._reading, RELEASE_SECONDS):
                raise InternalError("a tensor's bytes are still being read; do not change the tensors yet")
