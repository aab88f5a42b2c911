"""safetensors' element types, and what NumPy and PyTorch call them."""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import Any

import numpy as np

from weightstream.errors import InvalidArgumentError

BITS = {
    "BOOL": 8, "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6, "U8": 8, "I8": 8, "F8_E5M2": 8, "F8_E4M3": 8, "F8_E8M0": 8,
    "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8, "I16": 16, "U16": 16, "F16": 16, "BF16": 16, "I32": 32, "U32": 32, "F32": 32,
    "C64": 64, "F64": 64, "I64": 64, "U64": 64,
}  # fmt: skip

# NumPy (with ml_dtypes) and PyTorch use the same names. float4_e2m1fn_x2 is not here: it holds two elements.
FOREIGN_NAMES = {
    "bool": "BOOL",
    "uint8": "U8",
    "int8": "I8",
    "float8_e5m2": "F8_E5M2",
    "float8_e4m3fn": "F8_E4M3",
    "float8_e8m0fnu": "F8_E8M0",
    "float8_e4m3fnuz": "F8_E4M3FNUZ",
    "float8_e5m2fnuz": "F8_E5M2FNUZ",
    "int16": "I16",
    "uint16": "U16",
    "float16": "F16",
    "bfloat16": "BF16",
    "int32": "I32",
    "uint32": "U32",
    "float32": "F32",
    "complex64": "C64",
    "float64": "F64",
    "int64": "I64",
    "uint64": "U64",
}
_OWN_NAMES = {own: foreign for foreign, own in FOREIGN_NAMES.items()}

# PyTorch's packed pairs of 4-bit numbers.
TORCH_F4 = "float4_e2m1fn_x2"


def alignment(dtype: str) -> int:
    """Where a tensor of this type may start in a version's file, in bytes."""
    return max(1, BITS[dtype] // 8)


def from_foreign(name: str, tensor: str) -> str:
    """Our name for a NumPy or PyTorch dtype; InvalidArgumentError names the tensor that has another."""
    try:
        return FOREIGN_NAMES[name]
    except KeyError:
        raise InvalidArgumentError(
            f'tensor "{tensor}" has dtype {name}, which weights cannot have; the known ones are '
            + " ".join(FOREIGN_NAMES)
        ) from None


def numpy_dtype(dtype: str) -> np.dtype[Any]:
    """NumPy's type for elements; those that NumPy itself lacks come from ml_dtypes where it is installed."""
    name = _OWN_NAMES.get(dtype)
    if name is None:
        raise InvalidArgumentError(f"NumPy has no type for packed {dtype}; use the tensor's `data`")
    if hasattr(np, name) or name == "bool":
        return np.dtype(name)
    try:
        ml_dtypes = importlib.import_module("ml_dtypes")
    except ImportError:
        raise InvalidArgumentError(
            f"NumPy has no type for {dtype}; install ml_dtypes, or use torch() or the tensor's `data`"
        ) from None
    found: np.dtype[Any] = np.dtype(getattr(ml_dtypes, name))
    return found


def torch_dtype(torch: ModuleType, dtype: str) -> Any:
    """PyTorch's type for elements; InvalidArgumentError where this PyTorch has none."""
    name = TORCH_F4 if dtype == "F4" else _OWN_NAMES.get(dtype, "")
    found = getattr(torch, name, None) if name else None
    if found is None:
        raise InvalidArgumentError(f"this PyTorch has no type for {dtype}; use the tensor's `data`")
    return found
