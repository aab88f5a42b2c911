"""Makes mistakes, each of which a server must answer with a code of its own, and tells how Python shows them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import crc32c
import grpc
from weightstream.v1 import weightstream_pb2 as ws
from weightstream.v1.weightstream_pb2_grpc import WeightStreamStub

CALL_SECONDS = 30
DEADLINE_SECONDS = 0.2

Seen = dict[str, dict[str, str]]


def f32(elements: int, dtype: str = "F32") -> Any:
    return ws.TensorSpec(name="weight", dtype=dtype, shape=[elements])


class Provoker:
    """Notes what each mistake ends with."""

    def __init__(self, channel: grpc.Channel) -> None:
        self.channel = channel
        self.server = WeightStreamStub(channel)
        self.found: Seen = {}

    @contextlib.contextmanager
    def noted(self, name: str) -> Iterator[None]:
        try:
            yield
        except grpc.RpcError as error:
            told: Any = error
            self.found[name] = {"code": told.code().name, "message": told.details()}

    def begin(self, model: str, version: int, spec: Any, source: str = "") -> Any:
        request = ws.BeginUpdateRequest(model=model, version=version, tensors=[spec], source_id=source)
        return self.server.BeginUpdate(request, timeout=CALL_SECONDS)

    def send(self, update: Any, spec: Any, data: bytes, wrong: int = 0) -> None:
        chunk = ws.WeightChunk(
            update_id=update.update_id,
            name=spec.name,
            dtype=spec.dtype,
            shape=spec.shape,
            crc32c=crc32c.crc32c(data) ^ wrong,
            data=data,
        )
        self.server.Push(iter([chunk]), timeout=CALL_SECONDS)

    def commit(self, model: str, update: Any) -> None:
        self.server.CommitUpdate(ws.CommitUpdateRequest(model=model, update_id=update.update_id), timeout=CALL_SECONDS)

    def begin_mistakes(self) -> None:
        with self.noted("unknown dtype"):
            self.begin("bad", 1, f32(4, "F31"))
        with self.noted("unknown model"):
            self.server.GetModel(ws.GetModelRequest(model="nobody-knows"), timeout=CALL_SECONDS)

    def update_mistakes(self) -> None:
        """Every mistake that an update in flight can be told: it ends superseded."""
        spec = f32(1 << 19)
        update = self.begin("errors", 1, spec, "one")
        with self.noted("over the bucket limit"):
            self.send(update, spec, bytes(update.bucket_limit_bytes + 1))
        with self.noted("wrong checksum"):
            self.send(update, spec, bytes(1024), wrong=1)
        with self.noted("commit before complete"):
            self.commit("errors", update)
        newer = self.begin("errors", 2, spec, "two")
        with self.noted("superseded"):
            self.send(update, spec, bytes(1024))
        # A server that is told to end waits for updates in flight.
        self.server.AbortUpdate(ws.AbortUpdateRequest(model="errors", update_id=newer.update_id), timeout=CALL_SECONDS)

    def version_taken(self) -> None:
        spec = f32(4)
        update = self.begin("taken", 1, spec)
        self.send(update, spec, bytes(16))
        self.commit("taken", update)
        with self.noted("version taken"):
            self.begin("taken", 1, spec)

    def ended_watches(self) -> None:
        request = ws.WatchModelRequest(model="errors")
        with self.noted("deadline"):
            list(self.server.WatchModel(request, timeout=DEADLINE_SECONDS))
        watch = self.server.WatchModel(request, timeout=CALL_SECONDS)
        next(watch)
        watch.cancel()
        with self.noted("cancelled"):
            list(watch)

    def lost_ways(self) -> None:
        with self.noted("unknown method"):
            call = self.channel.unary_unary(
                "/weightstream.v1.WeightStream/NoSuchCall", ws.GetModelRequest.SerializeToString, ws.Model.FromString
            )
            call(ws.GetModelRequest(), timeout=CALL_SECONDS)
        # A port that only root could serve at, and nobody does.
        with grpc.insecure_channel("127.0.0.1:1") as nobody, self.noted("nobody there"):
            WeightStreamStub(nobody).ListModels(ws.ListModelsRequest(), timeout=CALL_SECONDS)


def provoke_refusals(channel: grpc.Channel, token: str) -> Seen:
    """What a server with tokens answers to who has none, a wrong one, or one that may only read."""
    provoker = Provoker(channel)
    for name, held in (("no token", ""), ("unknown token", token + "0"), ("role that does not suffice", token)):
        metadata = [("authorization", f"Bearer {held}")] if held else []
        request = ws.BeginUpdateRequest(model="refused", version=1, tensors=[f32(4)])
        with provoker.noted(name):
            provoker.server.BeginUpdate(request, timeout=CALL_SECONDS, metadata=metadata)
    return provoker.found


def provoke_errors(channel: grpc.Channel) -> Seen:
    provoker = Provoker(channel)
    provoker.begin_mistakes()
    provoker.update_mistakes()
    provoker.version_taken()
    provoker.ended_watches()
    provoker.lost_ways()
    return provoker.found
