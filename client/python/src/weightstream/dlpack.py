"""Reads tensors of any library that speaks DLPack, without NumPy's or PyTorch's help: NumPy knows no bfloat16.

The layout is that of `DLManagedTensor` in dlpack.h (version 0.x, which every producer still offers). Host memory only:
what lies on a GPU is left to the library that it came from.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from typing import Any

from weightstream.errors import InvalidArgumentError

# kDLCPU, kDLCUDAHost, kDLROCMHost, kDLCUDAManaged.
_HOST_DEVICES = {1, 3, 11, 13}

# By DLDataTypeCode and bits.
_DTYPES = {
    (0, 8): "I8", (0, 16): "I16", (0, 32): "I32", (0, 64): "I64",
    (1, 8): "U8", (1, 16): "U16", (1, 32): "U32", (1, 64): "U64",
    (2, 16): "F16", (2, 32): "F32", (2, 64): "F64",
    (4, 16): "BF16", (5, 64): "C64", (6, 8): "BOOL",
    (10, 8): "F8_E4M3", (11, 8): "F8_E4M3FNUZ", (12, 8): "F8_E5M2", (13, 8): "F8_E5M2FNUZ", (14, 8): "F8_E8M0",
}  # fmt: skip


class _DLTensor(ctypes.Structure):
    _fields_ = (
        ("data", ctypes.c_void_p),
        ("device_type", ctypes.c_int32),
        ("device_id", ctypes.c_int32),
        ("ndim", ctypes.c_int32),
        ("code", ctypes.c_uint8),
        ("bits", ctypes.c_uint8),
        ("lanes", ctypes.c_uint16),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
    )


_get_pointer = ctypes.pythonapi.PyCapsule_GetPointer
_get_pointer.restype = ctypes.c_void_p
_get_pointer.argtypes = [ctypes.py_object, ctypes.c_char_p]


@dataclass(frozen=True)
class HostTensor:
    """A tensor in host memory. `owner` keeps the memory: the capsule frees it when it is dropped."""

    dtype: str
    shape: tuple[int, ...]
    data: memoryview
    owner: Any


def on_host(value: Any) -> bool:
    """Whether an object with __dlpack_device__ says that it lies in host memory."""
    return int(value.__dlpack_device__()[0]) in _HOST_DEVICES


def _row_major(tensor: _DLTensor, shape: tuple[int, ...]) -> bool:
    if not tensor.strides or 0 in shape:
        return True
    expected = 1
    for dimension in reversed(range(tensor.ndim)):
        if shape[dimension] != 1 and tensor.strides[dimension] != expected:
            return False
        expected *= shape[dimension]
    return True


def read(name: str, value: Any) -> HostTensor:
    """The memory that `value` offers, borrowed. InvalidArgumentError names the tensor."""
    try:
        capsule = value.__dlpack__()
        tensor = _DLTensor.from_address(_get_pointer(capsule, b"dltensor"))
    except (BufferError, ValueError) as error:
        # The one is a producer's word for what it cannot offer, such as read-only memory; the other Python's for what
        # is no capsule of this name.
        raise InvalidArgumentError(
            f'tensor "{name}" cannot be read by DLPack: {error}; give a NumPy array, or a copy that can be written to'
        ) from None
    if tensor.device_type not in _HOST_DEVICES:
        raise InvalidArgumentError(f'tensor "{name}" is not in host memory; copy it there first')
    dtype = _DTYPES.get((tensor.code, tensor.bits))
    if dtype is None or tensor.lanes != 1:
        raise InvalidArgumentError(
            f'tensor "{name}" has DLPack type {tensor.code} of {tensor.bits} bits in {tensor.lanes} lanes, '
            "which weights cannot have"
        )
    shape = tuple(int(tensor.shape[i]) for i in range(tensor.ndim))
    if not _row_major(tensor, shape):
        raise InvalidArgumentError(f'tensor "{name}" is not contiguous; make it so before it is pushed')
    size = tensor.bits // 8
    for extent in shape:
        size *= extent
    if size == 0:
        return HostTensor(dtype, shape, memoryview(b""), None)
    buffer = (ctypes.c_uint8 * size).from_address(tensor.data + tensor.byte_offset)
    return HostTensor(dtype, shape, memoryview(buffer).cast("B"), capsule)
