"""A version of a model in this process's memory: mapped from its file, or pulled."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from weightstream import dtypes
from weightstream.spec import TensorSpec

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Tensor:
    """One tensor of a version. What is made of it shares its memory, and keeps it for as long as it lives."""

    spec: TensorSpec
    data: memoryview
    """Row-major, little-endian bytes."""
    shared: bool
    """Whether the memory is a version's file, which other processes have mapped too."""

    def numpy(self) -> np.ndarray[Any, Any]:
        """The tensor as an array, without a copy; read-only where the memory is a version's file.

        BF16 and 8-bit floats take ml_dtypes; InvalidArgumentError where it is missing, and for types below a byte.
        """
        array = np.frombuffer(self.data, dtype=dtypes.numpy_dtype(self.spec.dtype)).reshape(self.spec.shape)
        if self.shared:
            array.flags.writeable = False
        return array

    def torch(self) -> torch.Tensor:
        """The tensor as PyTorch's, without a copy. What is written to a mapped one stays in this process."""
        module = importlib.import_module("torch")
        dtype = dtypes.torch_dtype(module, self.spec.dtype)
        shape = self.spec.shape
        if self.spec.dtype == "F4":
            shape = (*shape[:-1], shape[-1] // 2)
        if not len(self.data):
            return module.empty(shape, dtype=dtype)  # type: ignore[no-any-return, unused-ignore]
        with warnings.catch_warnings():
            # Of buffers that are read-only: `into` may hold such.
            warnings.simplefilter("ignore", UserWarning)
            flat = module.frombuffer(self.data, dtype=module.uint8)
        return flat.view(dtype).reshape(shape)  # type: ignore[no-any-return, unused-ignore]


class Version(Mapping[str, Tensor]):
    """The tensors of one version, by name, in the order of its layout."""

    def __init__(
        self,
        model: str,
        version: int,
        tensors: dict[str, Tensor],
        metadata: dict[str, str],
        path: Path | None = None,
    ) -> None:
        self.model = model
        self.version = version
        self.metadata = metadata
        """As it was pushed, for instance {"format": "pt"}."""
        self.path = path
        """The file that is mapped; None where the version was pulled."""
        self._tensors = tensors

    def __getitem__(self, name: str) -> Tensor:
        return self._tensors[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)

    def __repr__(self) -> str:
        return f"Version({self.model!r}, {self.version}, {len(self)} tensors)"

    @property
    def total_bytes(self) -> int:
        """Of all the tensors' data."""
        return sum(len(tensor.data) for tensor in self._tensors.values())

    def numpy(self) -> dict[str, np.ndarray[Any, Any]]:
        """Every tensor as an array, without a copy."""
        return {name: tensor.numpy() for name, tensor in self._tensors.items()}

    def torch(self) -> dict[str, torch.Tensor]:
        """Every tensor as PyTorch's, without a copy: what load_state_dict takes."""
        return {name: tensor.torch() for name, tensor in self._tensors.items()}
