"""Compares a source with a version on a server by digests, which the server computes from where the version lies."""

from __future__ import annotations

from typing import Any

import crc32c
import grpc

from weightstream.calls import Control, Stop
from weightstream.errors import DeadlineExceededError, from_rpc_error
from weightstream.retries import CallKind, RetryBudget
from weightstream.source import Source
from weightstream.spec import TensorSpec
from weightstream.stall import StallWatch
from weightstream.v1 import weightstream_pb2 as ws

_GIB = 1 << 30


def differences(
    control: Control, source: Source, model: str, version: int, budget: RetryBudget, stop: Stop
) -> list[str]:
    """What differs, a line a tensor; nothing if every byte is the same. Metadata are not compared."""
    digests = control.until_answered(
        CallKind.READ, lambda: _digests(control, model, version, max(source.sizes, default=0)), budget, stop
    )
    found = [f'"{spec.name}": not on the server' for spec in source.specs if spec.name not in digests]
    for name, digest in digests.items():
        stop.check()
        tensor = source.index.get(name)
        if tensor is None:
            found.append(f'"{name}": only on the server')
            continue
        there = TensorSpec.from_proto(digest.spec)
        if there != source.specs[tensor]:
            found.append(f'"{name}": {source.specs[tensor]} here, {there} there')
            continue
        found += _differing_block(name, source.view(tensor), digest)
    return found


def _differing_block(name: str, data: memoryview, digest: Any) -> list[str]:
    step = digest.block_bytes or max(1, len(data))
    blocks = range(0, len(data), step)
    if len(blocks) != len(digest.crc32c):
        return [f'"{name}": {len(blocks)} blocks here, {len(digest.crc32c)} there']
    for begin, checksum in zip(blocks, digest.crc32c, strict=True):
        block = data[begin : begin + step]
        if crc32c.crc32c(block) != checksum:
            return [f'"{name}": bytes differ in [{begin}, {begin + len(block)})']
    return []


def _digests(control: Control, model: str, version: int, largest_tensor: int) -> dict[str, Any]:
    endpoint = control.endpoint
    # Told a tensor at a time, from a medium that may be a disk.
    patience = endpoint.limits.stall + endpoint.limits.per_gib * largest_tensor / _GIB
    request = ws.DigestModelRequest(model=model, version=version)
    call = control.answers("DigestModel", request, ws.TensorDigest.FromString)
    found = {}
    with StallWatch(patience, call.cancel) as watch:
        try:
            for digest in call:
                watch.tick()
                found[digest.spec.name] = digest
        except grpc.RpcError as error:
            if watch.stalled:
                raise DeadlineExceededError(f"no digest came for {patience:g} seconds", endpoint.address) from None
            raise from_rpc_error(error, endpoint.address) from None
        finally:
            call.cancel()
    return found
