"""Chunks on the wire, with as few copies as grpcio leaves to us.

grpcio takes and gives whole messages as `bytes`, so that a chunk's payload is copied once from the tensor into its
message, and once from a message into its tensor; grpcio itself copies each message once more in either direction. The
generated class would add two of its own: it makes and reads all of a message but the payload.
"""

from __future__ import annotations

from collections.abc import Sequence

import crc32c
from google.protobuf.message import DecodeError

from weightstream.errors import InternalError
from weightstream.spec import TensorSpec
from weightstream.v1 import weightstream_pb2 as ws

# Of `data`: field 100, length-delimited.
_DATA_TAG = 100 << 3 | 2
_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


_ENCODED_TAG = _varint(_DATA_TAG)


def encode_chunk(
    spec: TensorSpec, offset: int, pieces: Sequence[memoryview], update_id: str, followed_by: Sequence[str] = ()
) -> bytes:
    """A serialized WeightChunk of the pieces' bytes, one behind the other."""
    checksum = 0
    for piece in pieces:
        checksum = crc32c.crc32c(piece, checksum)
    header = ws.WeightChunk(
        name=spec.name,
        shape=spec.shape,
        dtype=spec.dtype,
        offset=offset,
        crc32c=checksum,
        update_id=update_id,
        followed_by=followed_by,
    ).SerializeToString()
    size = sum(len(piece) for piece in pieces)
    return b"".join((header, _ENCODED_TAG, _varint(size), *pieces))


def _read_varint(message: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7


def _find_data(message: bytes) -> tuple[int, int] | None:
    """Where `data` starts, tag and payload, if it is the last field; None sends the message the long way."""
    at = 0
    while at < len(message):
        start = at
        tag, at = _read_varint(message, at)
        kind = tag & 7
        if kind == _LENGTH:
            size, at = _read_varint(message, at)
            if tag == _DATA_TAG:
                return (start, at) if at + size == len(message) else None
            at += size
        elif kind == _VARINT:
            _, at = _read_varint(message, at)
        elif kind in (_FIXED32, _FIXED64):
            at += 4 if kind == _FIXED32 else 8
        else:
            return None
    return None


def decode_chunk(message: bytes) -> tuple[ws.WeightChunk, memoryview]:
    """A serialized WeightChunk: all but its payload, and the payload in place. InternalError if it is none."""
    try:
        found = _find_data(message)
    except IndexError:
        found = None
    try:
        if found is None:
            chunk = ws.WeightChunk.FromString(message)
            return chunk, memoryview(chunk.data)
        start, payload = found
        return ws.WeightChunk.FromString(message[:start]), memoryview(message)[payload:]
    except DecodeError as error:
        raise InternalError(f"the server sent a malformed chunk: {error}") from None
