"""The way in: a client of one Weightstream server."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from weightstream import arguments
from weightstream.calls import Control, Stop
from weightstream.channel import Endpoint, TlsOptions, Token
from weightstream.limits import DEFAULT_CONNECTIONS, MOST_CHUNK_BYTES, MOST_CONNECTIONS
from weightstream.load import load_version
from weightstream.progress import ProgressOption, Reporter
from weightstream.pull import Pull
from weightstream.push import Push, PushResult
from weightstream.retries import CallKind, RetryBudget
from weightstream.source import Tensors, open_source
from weightstream.state import ModelState
from weightstream.time_limits import Limits
from weightstream.trace import traceparent_for_push
from weightstream.v1 import weightstream_pb2 as ws
from weightstream.verify import differences
from weightstream.version import Version
from weightstream.watch import watch_model


class Client:
    """Pushes versions of models to one server, and reads them back.

        with weightstream.Client("10.0.0.5:7070") as client:
            client.push("policy", None, model.named_parameters())

    Every error is a WeightStreamError: one of the arguments, a wrong type included, is an InvalidArgumentError before
    anything is sent. What the caller's own code raises comes out as it is: tensors that are read, an iterator of them,
    the functions given as `token` and `progress`.

    A lost connection, or a server that is started again, is met by trying again for as long as `limits` say, and costs
    the chunks in flight. Any thread may call any method, several at a time.

    Args:
        address: HOST:PORT, [IPV6]:PORT, unix:/PATH or dns:///HOST:PORT.
        tls: How to know the server and be known by it; True trusts gRPC's built-in list of authorities.
        token: A bearer token, or what returns the current one. Refused over plaintext TCP to another host, unless
            `allow_plaintext_token`.
        limits: Every wait's bound.
        connections: TCP connections for the data of one push.
    """

    def __init__(
        self,
        address: str,
        *,
        tls: TlsOptions | bool = False,
        token: Token | None = None,
        allow_plaintext_token: bool = False,
        limits: Limits | None = None,
        connections: int = DEFAULT_CONNECTIONS,
    ) -> None:
        self.address = address
        self._connections = arguments.whole("connections", connections, 1, MOST_CONNECTIONS)
        limits = Limits() if limits is None else limits
        self._control = Control(Endpoint(address, tls, token, allow_plaintext_token, limits))

    def close(self) -> None:
        """Ends the connection, and what is under way in other threads."""
        self._control.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def push(
        self,
        model: str,
        version: int | None,
        tensors: Tensors,
        *,
        metadata: Mapping[str, str] | None = None,
        source_id: str | None = None,
        progress: ProgressOption = False,
        chunk_bytes: int | None = None,
        cancel: threading.Event | None = None,
        traceparent: str | None = None,
    ) -> PushResult:
        """Makes tensors the current version of a model; returns once they are.

        Args:
            model: 1 to 128 of A-Z a-z 0-9 . _ -, with a letter or digit first.
            version: Higher than any before; None takes the next one, or that of an update in flight of the same
                `source_id`.
            tensors: Names and tensors (a mapping or pairs, so also `model.named_parameters()`), of NumPy, PyTorch or
                anything with DLPack; or the path of a .safetensors file or a Hugging Face folder. They must not change
                before this returns.
            metadata: Kept in the version's file, for instance {"format": "pt"}.
            source_id: Names these very bytes, so that another process can resume what this one began.
            progress: True for a bar by tqdm, or a function.
            chunk_bytes: The most payload in a message; None chooses.
            cancel: Once it is set the push ends with CancelledError, and the update is left to be resumed.
            traceparent: The span that this push is a child of, as W3C Trace Context writes it: on the server's log
                lines of the update. None takes the environment's TRACEPARENT, where there is one.
        """
        model = arguments.model(model)
        version = arguments.version(version, "the next one")
        if chunk_bytes is not None:
            chunk_bytes = arguments.whole("chunk_bytes", chunk_bytes, 1, MOST_CHUNK_BYTES)
        arguments.cancel(cancel)
        control = self._control.traced(traceparent_for_push(traceparent))
        source = open_source(tensors, metadata, source_id)
        with Reporter(progress, f"push {model}") as reporter:
            return Push(
                control,
                source,
                model,
                version,
                self._connections,
                chunk_bytes,
                Stop(control.closed, cancel),
                reporter,
            ).run()

    def pull(
        self,
        model: str,
        version: int | None = None,
        *,
        names: Iterable[str] | None = None,
        into: Mapping[str, Any] | None = None,
        progress: ProgressOption = False,
    ) -> Version:
        """Reads a version over the wire; each chunk's checksum is checked.

        Args:
            model: Its name.
            version: One that the server holds; None is the current one.
            names: The tensors to read; None is all.
            into: Arrays or tensors in host memory to read into, by name: of the version's dtypes and shapes. What they
                hold is undefined if the pull fails.
            progress: True for a bar by tqdm, or a function.
        """
        model = arguments.model(model)
        version = arguments.version(version, "the current one")
        names = arguments.names(names)
        arguments.into(into)
        with Reporter(progress, f"pull {model}") as reporter:
            return Pull(self._control, model, version or 0, reporter).run(names, into)

    def load(self, model: str, version: int | None = None) -> Version:
        """Maps a version's file, where the server is on this host: no byte is copied, however large the model.

        The mapping stays whole and unchanged for as long as any tensor of it lives, whatever is committed, rolled back
        or removed meanwhile. What is written to it stays in this process. NotFoundError where the file cannot be read
        from here; pull() then can.
        """
        return load_version(self._control, arguments.model(model), arguments.version(version, "the current one"))

    def verify(self, model: str, tensors: Tensors, version: int | None = None) -> list[str]:
        """Compares every byte with a version by digests, which the server computes from where it lies now.

        Returns what differs, a line a tensor; an empty list is equality. Metadata are not compared.
        """
        model = arguments.model(model)
        version = arguments.version(version, "the current one")
        source = open_source(tensors)
        budget = RetryBudget(self._control.endpoint.limits.connect)
        return differences(self._control, source, model, version or 0, budget, Stop(self._control.closed))

    def watch(self, model: str, *, interval: float = 0.5, timeout: float | None = None) -> Iterator[ModelState]:
        """A model's state now, and again at each change; works for a model that does not exist yet.

        Ends after `timeout` seconds, or when the iterator is closed; a lost connection is taken up again.

        Args:
            model: Its name.
            interval: The least seconds between two states that differ in progress only.
            timeout: How long to watch; None is without end.
        """
        # Here and not in the generator, which would check only once it is asked for the first state.
        model, interval, timeout = arguments.model(model), arguments.interval(interval), arguments.timeout(timeout)
        return watch_model(self._control, model, interval, timeout)

    def model(self, model: str) -> ModelState:
        """What the server holds of a model, what is in flight, and how far."""
        request = ws.GetModelRequest(model=arguments.model(model))
        return ModelState.from_proto(self._control.call(CallKind.READ, "GetModel", request))

    def models(self) -> list[ModelState]:
        """The same of every model that the server knows, by name."""
        reply = self._control.call(CallKind.READ, "ListModels", ws.ListModelsRequest())
        return [ModelState.from_proto(model) for model in reply.models]

    def rollback(self, model: str, version: int) -> ModelState:
        """Makes a version that the server still holds current again."""
        request = ws.RollbackModelRequest(model=arguments.model(model), version=arguments.held_version(version))
        return ModelState.from_proto(self._control.call(CallKind.READ, "RollbackModel", request).model)
