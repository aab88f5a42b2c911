"""What a tensor is, without its bytes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from weightstream import dtypes
from weightstream.errors import InvalidArgumentError


@dataclass(frozen=True)
class TensorSpec:
    """Name, safetensors' element type, and elements along each dimension."""

    name: str
    dtype: str
    shape: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        """Bytes of the data. InvalidArgumentError for an unknown dtype, or packed elements that end inside a byte."""
        if self.dtype not in dtypes.BITS:
            raise InvalidArgumentError(
                f'tensor "{self.name}" has unknown dtype {self.dtype!r}; the known ones are {" ".join(dtypes.BITS)}'
            )
        bits = dtypes.BITS[self.dtype]
        for extent in self.shape:
            bits *= extent
        if bits % 8:
            raise InvalidArgumentError(f'tensor "{self.name}", {self}, does not fill whole bytes')
        return bits // 8

    def __str__(self) -> str:
        return f"{self.dtype}{list(self.shape)}"

    @property
    def layout_key(self) -> tuple[int, bytes]:
        """Sorts specs as a version's file has them: by falling alignment, then by name."""
        return (-dtypes.alignment(self.dtype), self.name.encode())

    @classmethod
    def from_proto(cls, spec: Any) -> TensorSpec:
        """Of a weightstream.v1.TensorSpec, or of a WeightChunk, which has the same fields."""
        return cls(spec.name, spec.dtype, tuple(spec.shape))
