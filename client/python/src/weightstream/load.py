"""Maps a version's file where the server runs on the same host."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from weightstream.calls import Control
from weightstream.errors import FailedPreconditionError, NotFoundError, PermissionDeniedError, WeightStreamError
from weightstream.retries import CallKind
from weightstream.safetensors_file import SafetensorsFile
from weightstream.v1 import weightstream_pb2 as ws
from weightstream.version import Tensor, Version

# Between what the server says and the file's being opened, newer commits may have removed the version.
_ATTEMPTS = 10


def _held(control: Control, model: str, version: int | None) -> Any:
    state = control.call(CallKind.READ, "GetModel", ws.GetModelRequest(model=model))
    wanted = version or state.current_version
    for each in state.versions:
        if each.version == wanted:
            return each
    if not wanted:
        raise NotFoundError(f'"{model}" has no committed version yet', control.endpoint.address)
    held = ", ".join(str(each.version) for each in state.versions)
    raise NotFoundError(f'"{model}" has no version {wanted}; it holds {held}', control.endpoint.address)


def load_version(control: Control, model: str, version: int | None) -> Version:
    """The version's tensors, mapped. NotFoundError if the server's file is not on this host."""
    failure: WeightStreamError | None = None
    for _ in range(_ATTEMPTS):
        held = _held(control, model, version)
        if not held.path:
            raise FailedPreconditionError(
                f'version {held.version} of "{model}" is not in a file; read it with pull()', control.endpoint.address
            )
        try:
            file = SafetensorsFile(Path(held.path))
        except (NotFoundError, PermissionDeniedError) as error:
            failure = error
            continue
        # Another server on this host may use the path that one elsewhere does.
        if file.header_crc32c() != held.manifest_crc32c:
            raise NotFoundError(
                f"{held.path} on this host is not what the server has at that path; is the server on another host, or "
                "in a container? Read the version with pull()",
                control.endpoint.address,
            )
        tensors = {name: Tensor(spec, file.data(name), shared=True) for name, spec in file.specs.items()}
        return Version(model, held.version, tensors, file.metadata, file.path)
    assert failure is not None
    raise NotFoundError(
        f'version {held.version} of "{model}": {failure.message}; where the server is not on this host, or its '
        "folder not readable here, read the version with pull()",
        control.endpoint.address,
    )
