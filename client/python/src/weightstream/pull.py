"""Reads a committed version back over the wire, each byte copied once from its message to where it belongs."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import Any

import crc32c
import grpc
import numpy as np

from weightstream.calls import Control, Stop
from weightstream.errors import (
    DataLossError,
    DeadlineExceededError,
    InternalError,
    InvalidArgumentError,
    NotFoundError,
    WeightStreamError,
    from_rpc_error,
)
from weightstream.header import manifest_crc32c
from weightstream.progress import Progress, Reporter
from weightstream.retries import CallKind, Remedy, RetryBudget, remedy_for
from weightstream.source import Source, open_source
from weightstream.spec import TensorSpec
from weightstream.stall import StallWatch
from weightstream.v1 import weightstream_pb2 as ws
from weightstream.version import Tensor, Version
from weightstream.wire import decode_chunk

_MESSAGE_SECONDS = 0.05


class _Part:
    """A tensor on its way: chunks of one come in ascending order, so that what is missing is its end."""

    def __init__(self, spec: TensorSpec, data: memoryview) -> None:
        self.spec = spec
        self.data = data
        self.done = 0


def _memory(specs: Iterable[TensorSpec]) -> dict[str, _Part]:
    return {spec.name: _Part(spec, np.empty(spec.nbytes, np.uint8).data) for spec in specs}


def _caller_memory(specs: Iterable[TensorSpec], into: Mapping[str, Any]) -> dict[str, _Part]:
    """The caller's arrays, which must be what the version's tensors are."""
    target: Source = open_source(into)
    parts = {}
    for spec in specs:
        number = target.index.get(spec.name)
        if number is None:
            raise InvalidArgumentError(f'`into` has no tensor "{spec.name}", which the version holds as {spec}')
        if target.specs[number] != spec:
            raise InvalidArgumentError(
                f'`into` holds tensor "{spec.name}" as {target.specs[number]}, the version as {spec}'
            )
        if not target.in_place(number):
            raise InvalidArgumentError(
                f'tensor "{spec.name}" of `into` is not contiguous memory of this host, little-endian and row-major'
            )
        data = target.view(number)
        if data.readonly and len(data):
            raise InvalidArgumentError(f'tensor "{spec.name}" of `into` is read-only')
        parts[spec.name] = _Part(spec, data)
    return parts


class Pull:
    """One pull. `run` is called once, and everything else is behind it."""

    def __init__(self, control: Control, model: str, version: int, reporter: Reporter) -> None:
        self._control = control
        self._model = model
        self._version = version
        self._reporter = reporter
        self._stop = Stop(control.closed)
        self._budget = RetryBudget(control.endpoint.limits.connect)
        self._parts: dict[str, _Part] = {}
        self._whole = True
        self._total = 0
        self._done = 0
        self._retries = 0
        self._last_progress = time.monotonic()
        self._last_told = 0.0

    def run(self, names: Iterable[str] | None, into: Mapping[str, Any] | None) -> Version:
        """Blocks until everything is there and checked."""
        request = ws.GetManifestRequest(model=self._model, version=self._version)
        manifest = self._control.call(CallKind.READ, "GetManifest", request, self._budget, self._stop)
        # From here on this very version, though another may become current.
        self._version = manifest.version
        specs = [TensorSpec.from_proto(spec) for spec in manifest.tensors]
        self._check_intact(manifest, specs)
        specs = self._chosen(specs, names)
        self._parts = _memory(specs) if into is None else _caller_memory(specs, into)
        self._total = sum(len(part.data) for part in self._parts.values())
        while self._done < self._total:
            self._attempt()
        self._tell("done")
        tensors = {name: Tensor(part.spec, part.data, shared=False) for name, part in self._parts.items()}
        return Version(self._model, self._version, tensors, dict(manifest.metadata))

    def _check_intact(self, manifest: Any, specs: list[TensorSpec]) -> None:
        if not manifest.HasField("manifest_crc32c"):
            return
        if manifest.manifest_crc32c != manifest_crc32c(specs, dict(manifest.metadata)):
            raise DataLossError(
                f'the manifest of version {self._version} of "{self._model}" does not match its checksum: it was '
                "damaged on the way; pull again",
                self._control.endpoint.address,
            )

    def _chosen(self, specs: list[TensorSpec], names: Iterable[str] | None) -> list[TensorSpec]:
        if names is None:
            return specs
        self._whole = False
        wanted = set(names)
        unknown = wanted - {spec.name for spec in specs}
        if unknown:
            raise NotFoundError(
                f'version {self._version} of "{self._model}" has no tensor "{min(unknown)}"',
                self._control.endpoint.address,
            )
        return [spec for spec in specs if spec.name in wanted]

    def _attempt(self) -> None:
        before, began = self._done, time.monotonic()
        try:
            self._receive_missing()
            failure: WeightStreamError = InternalError("the server left out part of the version")
        except WeightStreamError as error:
            if remedy_for(CallKind.READ, error) is not Remedy.RETRY:
                raise
            failure = error
        if self._done == self._total:
            return
        self._retries += 1
        if self._done > before:
            self._budget.progressed()
            self._budget.last_alive(self._last_progress)
            wait = self._budget.short_wait()
        elif isinstance(failure, DataLossError | InternalError):
            wait = self._budget.fruitless(failure)
        else:
            wait = self._budget.no_answer(began, failure)
        self._stop.wait(wait)
        self._control.await_connected(self._budget.outage_left(), self._stop)

    def _request(self) -> Any:
        request = ws.PullRequest(model=self._model, version=self._version)
        # At first everything, which the request says by naming nothing.
        if self._done == 0 and self._whole:
            return request
        for part in self._parts.values():
            if part.done < len(part.data):
                rest = ws.ByteRange(begin=part.done, end=len(part.data))
                request.parts.append(ws.TensorRanges(name=part.spec.name, ranges=[rest]))
        return request

    def _receive_missing(self) -> None:
        endpoint = self._control.endpoint
        call = self._control.answers("Pull", self._request(), deserializer=None)
        stall = endpoint.limits.stall
        with StallWatch(stall, call.cancel) as watch:
            try:
                for message in call:
                    watch.tick()
                    self._receive(message)
                    self._tell("receiving")
            except grpc.RpcError as error:
                if watch.stalled:
                    raise DeadlineExceededError(f"no data came for {stall:g} seconds", endpoint.address) from None
                raise from_rpc_error(error, endpoint.address) from None
            finally:
                self._last_progress = watch.last_progress
                call.cancel()

    def _receive(self, message: bytes) -> None:
        chunk, data = decode_chunk(message)
        part = self._parts.get(chunk.name)
        if part is None or TensorSpec.from_proto(chunk) != part.spec:
            raise self._bad(chunk, "with another dtype or shape than its manifest, or that it does not hold")
        end = chunk.offset + len(data)
        if chunk.offset != part.done or end > len(part.data):
            raise self._bad(chunk, f"of bytes [{chunk.offset}, {end}) of {len(part.data)}, after {part.done}")
        if not chunk.HasField("crc32c"):
            raise self._bad(chunk, "without a checksum")
        if crc32c.crc32c(data) != chunk.crc32c:
            raise DataLossError(
                f'tensor "{chunk.name}", bytes [{chunk.offset}, {end}): the data do not match their checksum; they '
                "were damaged on the way",
                self._control.endpoint.address,
            )
        if len(data):
            part.data[chunk.offset : end] = data
        part.done = end
        self._done += len(data)

    def _bad(self, chunk: Any, what: str) -> InternalError:
        return InternalError(
            f'the server sent a chunk of tensor "{chunk.name}" {what}; is it a weightstream server of a '
            "compatible version?",
            self._control.endpoint.address,
        )

    def _tell(self, phase: str) -> None:
        now = time.monotonic()
        if phase == "receiving" and now - self._last_told < _MESSAGE_SECONDS:
            return
        self._last_told = now
        self._reporter.tell(Progress(phase, self._version, self._total, self._done, 0, self._retries))
