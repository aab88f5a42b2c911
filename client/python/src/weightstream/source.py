"""Where the weights to push come from: arrays and tensors in memory, or a checkpoint on disk.

Bytes are borrowed where they lie in host memory, row-major and little-endian; what does not (a GPU's tensor, a
transposed view) is copied when its turn comes, a few tensors at a time, never the whole model.
"""

from __future__ import annotations

import functools
import hashlib
import importlib
import os
import sys
import threading
import uuid
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from weightstream import arguments, dlpack, dtypes
from weightstream.errors import InvalidArgumentError
from weightstream.header import manifest_crc32c
from weightstream.limits import MOST_SOURCE_ID_BYTES
from weightstream.safetensors_file import SafetensorsFile, open_checkpoint
from weightstream.spec import TensorSpec

Tensors: TypeAlias = "Mapping[str, Any] | Iterable[tuple[str, Any]] | str | os.PathLike[str]"
"""What can be pushed: names and tensors, as a mapping or in pairs, or the path of a checkpoint."""

# Connections read neighbouring tensors at the same time; more than these few are not needed at once.
_COPIES_KEPT = 4

Reader = Callable[[], memoryview]


class _Entry:
    """A tensor, and how to get its bytes; `borrowed` if that costs no copy."""

    def __init__(self, spec: TensorSpec, read: Reader, borrowed: bool) -> None:
        self.spec = spec
        self.read = read
        self.borrowed = borrowed


def _bytes_of(array: np.ndarray[Any, Any]) -> memoryview:
    return array.reshape(-1).view(np.uint8).data if array.size else memoryview(b"")


def _numpy_entry(name: str, array: np.ndarray[Any, Any]) -> _Entry:
    spec = TensorSpec(name, dtypes.from_foreign(array.dtype.name, name), tuple(array.shape))
    little_endian = array.dtype.newbyteorder("<")
    if array.flags.c_contiguous and (array.dtype.byteorder != ">" and sys.byteorder == "little"):
        return _Entry(spec, lambda: _bytes_of(array), borrowed=True)
    return _Entry(spec, lambda: _bytes_of(np.ascontiguousarray(array, dtype=little_endian)), borrowed=False)


def _torch_entry(torch: Any, name: str, tensor: Any) -> _Entry:
    if hasattr(tensor, "full_tensor"):
        raise InvalidArgumentError(f'tensor "{name}" is sharded (a DTensor); push what its full_tensor() returns')
    tensor = tensor.detach()
    if tensor.layout != torch.strided or tensor.is_quantized or tensor.device.type == "meta":
        raise InvalidArgumentError(f'tensor "{name}" is sparse, quantized or without data; push a dense tensor')
    kind = str(tensor.dtype).removeprefix("torch.")
    shape = tuple(tensor.shape)
    if kind == dtypes.TORCH_F4:
        spec = TensorSpec(name, "F4", (*shape[:-1], 2 * shape[-1]))
    else:
        spec = TensorSpec(name, dtypes.from_foreign(kind, name), shape)

    def read() -> memoryview:
        if tensor.numel() == 0:
            return memoryview(b"")
        flat = tensor.resolve_conj().resolve_neg().cpu().contiguous().reshape(-1)
        if flat.is_complex():
            flat = torch.view_as_real(flat).reshape(-1)
        return _bytes_of(flat.view(torch.uint8).numpy())

    borrowed = tensor.device.type == "cpu" and tensor.is_contiguous() and not tensor.is_conj() and not tensor.is_neg()
    return _Entry(spec, read, borrowed)


def _dlpack_entry(name: str, value: Any) -> _Entry:
    if not dlpack.on_host(value):
        try:
            torch: Any = importlib.import_module("torch")
        except ImportError:
            raise InvalidArgumentError(
                f'tensor "{name}" is not in host memory, and reading it from its device takes PyTorch; copy it first'
            ) from None
        return _torch_entry(torch, name, torch.from_dlpack(value))
    host = dlpack.read(name, value)
    # The view alone does not keep the memory.
    return _Entry(TensorSpec(name, host.dtype, host.shape), lambda: host.data, borrowed=True)


def _entry_of(name: Any, value: Any) -> _Entry:
    if not isinstance(name, str):
        raise InvalidArgumentError(f"a tensor's name is {name!r}, not a str; give a mapping of names, or pairs")
    # Who gives a tensor of PyTorch has imported it.
    torch: Any = sys.modules.get("torch")
    if torch is not None and isinstance(value, torch.Tensor):
        return _torch_entry(torch, name, value)
    if isinstance(value, np.ndarray | np.generic):
        if isinstance(value, np.ma.MaskedArray):
            raise InvalidArgumentError(
                f'tensor "{name}" is a masked array, and weights have no mask; push its filled(VALUE), or its data'
            )
        return _numpy_entry(name, np.asarray(value))
    if hasattr(value, "__dlpack__"):
        return _dlpack_entry(name, value)
    raise InvalidArgumentError(
        f'tensor "{name}" is a {type(value).__name__}; give a NumPy array, a PyTorch tensor, or what has __dlpack__'
    )


class Source:
    """Tensors in the order of a version's layout, and their bytes. Any thread may read it.

    `source_id` names these very bytes, for instance "run 17, step 4200": a process that is started again with the same
    id resumes what the first one left. Without one, memory gets a random id and a checkpoint one from its files.
    """

    def __init__(
        self,
        entries: Sequence[_Entry],
        metadata: Mapping[str, str],
        source_id: str,
        files: Sequence[SafetensorsFile] = (),
    ) -> None:
        source_id_bytes = len(arguments.text("source_id", source_id).encode())
        if source_id_bytes > MOST_SOURCE_ID_BYTES:
            raise InvalidArgumentError(f"source_id has {source_id_bytes} bytes; give at most {MOST_SOURCE_ID_BYTES}")
        for entry in entries:
            arguments.text("a tensor's name", entry.spec.name)
            # Before it is sorted: this is what says which tensor has a dtype that nobody knows.
            _ = entry.spec.nbytes
        self._entries = sorted(entries, key=lambda entry: entry.spec.layout_key)
        self.specs = [entry.spec for entry in self._entries]
        self.sizes = [spec.nbytes for spec in self.specs]
        self.total_bytes = sum(self.sizes)
        self.metadata = dict(metadata)
        self.source_id = source_id
        self.index = {spec.name: i for i, spec in enumerate(self.specs)}
        if len(self.index) != len(self.specs):
            twice = next(a.name for a, b in zip(self.specs, self.specs[1:], strict=False) if a.name == b.name)
            raise InvalidArgumentError(f'two tensors are named "{twice}"; names must differ')
        self._files = files
        self._lock = threading.Lock()
        self._copies: OrderedDict[int, memoryview] = OrderedDict()

    def view(self, tensor: int) -> memoryview:
        """A tensor's bytes, row-major and little-endian, by its number in `specs`."""
        entry = self._entries[tensor]
        if entry.borrowed:
            return entry.read()
        with self._lock:
            if tensor not in self._copies:
                self._copies[tensor] = entry.read()
                if len(self._copies) > _COPIES_KEPT:
                    self._copies.popitem(last=False)
            self._copies.move_to_end(tensor)
            return self._copies[tensor]

    @functools.cached_property
    def manifest_crc32c(self) -> int:
        """By which a commit says what it means."""
        return manifest_crc32c(self.specs, self.metadata)

    def in_place(self, tensor: int) -> bool:
        """Whether view() is the caller's own memory."""
        return self._entries[tensor].borrowed

    def check_unchanged(self) -> None:
        """FailedPreconditionError if a checkpoint's file was written, replaced or removed since it was opened."""
        for file in self._files:
            file.check_unchanged()


def _files_id(files: Iterable[SafetensorsFile]) -> str:
    digest = hashlib.sha256()
    for file in files:
        # Not the change time, which a new link to the file alters.
        digest.update(repr((file.path.name, file.identity[:4])).encode())
    return f"files-{digest.hexdigest()[:32]}"


def _pairs(tensors: Any) -> Iterator[tuple[Any, Any]]:
    if isinstance(tensors, Mapping):
        yield from tensors.items()
        return
    if isinstance(tensors, bytes) or not isinstance(tensors, Iterable):
        raise InvalidArgumentError(
            f"tensors is a {type(tensors).__name__}; give a mapping of names to tensors, pairs of both, or a path"
        )
    for pair in tensors:
        # Neither a name of two letters nor an array of two rows is meant to be one.
        if not isinstance(pair, tuple | list) or len(pair) != 2:
            held = f" of {len(pair)}" if isinstance(pair, tuple | list) else ""
            raise InvalidArgumentError(
                f"tensors holds a {type(pair).__name__}{held}; give pairs of a name and a tensor"
            )
        yield pair[0], pair[1]


def open_source(tensors: Tensors, metadata: Mapping[str, str] | None = None, source_id: str | None = None) -> Source:
    """Of whatever can be pushed. An iterator is read to its end, since the manifest comes first."""
    given = arguments.metadata(metadata)
    source_id = arguments.optional_text("source_id", source_id)
    if isinstance(tensors, str | os.PathLike):
        files = open_checkpoint(Path(os.fsdecode(tensors)))
        entries = [
            _Entry(spec, lambda file=file, name=name: file.data(name), borrowed=True)  # type: ignore[misc]
            for file in files
            for name, spec in file.specs.items()
        ]
        held = files[0].metadata if files else {}
        return Source(entries, {**held, **given}, source_id or _files_id(files), files)
    return Source([_entry_of(*pair) for pair in _pairs(tensors)], given, source_id or f"python-{uuid.uuid4().hex}")
