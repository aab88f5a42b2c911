"""Follows a model's state, over lost connections and restarts of the server."""

from __future__ import annotations

import time
from collections.abc import Iterator

import grpc

from weightstream.calls import Control, Stop
from weightstream.errors import from_rpc_error
from weightstream.handshake import explained
from weightstream.retries import CallKind, Remedy, RetryBudget, remedy_for
from weightstream.state import ModelState
from weightstream.v1 import weightstream_pb2 as ws


def watch_model(control: Control, model: str, interval: float, timeout: float | None) -> Iterator[ModelState]:
    """The state now and at each change, until `timeout` seconds have passed or the iterator is closed."""
    deadline = None if timeout is None else time.monotonic() + timeout
    request = ws.WatchModelRequest(model=model, interval_ms=max(1, round(interval * 1000)))
    budget = RetryBudget(control.endpoint.limits.connect)
    stop = Stop(control.closed)
    while True:
        left = None if deadline is None else deadline - time.monotonic()
        if left is not None and left <= 0:
            return
        began = time.monotonic()
        stop.check()
        call = control.answers("WatchModel", request, ws.Model.FromString, left)
        try:
            for state in call:
                budget.progressed()
                began = time.monotonic()
                yield ModelState.from_proto(state)
            wait = budget.short_wait()
        except grpc.RpcError as error:
            if deadline is not None and time.monotonic() >= deadline:
                return
            failure = explained(control.endpoint, from_rpc_error(error, control.endpoint.address))
            if remedy_for(CallKind.READ, failure) is not Remedy.RETRY:
                raise failure from None
            wait = budget.no_answer(began, failure)
        finally:
            call.cancel()
        stop.wait(wait)
        patience = budget.outage_left()
        if deadline is not None:
            patience = min(patience, deadline - time.monotonic())
        control.await_connected(patience, stop)
