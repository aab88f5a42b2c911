"""Chunks on the wire, with as few copies as grpcio leaves to us.

grpcio takes and gives whole messages as `bytes`, so that a chunk's payload is copied once from the tensor into its
message, and once from a message into its tensor; grpcio itself copies each message once more in either direction. The
generated class would add two of its own: it makes and reads all of a message but the payload.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

import crc32c
from google.protobuf.message import DecodeError

from weightstream.errors import DataLossError, InternalError
from weightstream.spec import TensorSpec
from weightstream.v1 import weightstream_pb2 as ws

_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5
_HEADER_CRC32C_TAG = 99 << 3 | _FIXED32
_DATA_TAG = 100 << 3 | _LENGTH


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


_ENCODED_HEADER_CRC32C_TAG = _varint(_HEADER_CRC32C_TAG)
_ENCODED_DATA_TAG = _varint(_DATA_TAG)


def encode_chunk(
    spec: TensorSpec, offset: int, pieces: Sequence[memoryview], update_id: str, followed_by: Sequence[str] = ()
) -> bytes:
    """A serialized WeightChunk of the pieces' bytes, one behind the other, with both of its checksums."""
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
    header_checksum = struct.pack("<I", crc32c.crc32c(header))
    return b"".join((header, _ENCODED_HEADER_CRC32C_TAG, header_checksum, _ENCODED_DATA_TAG, _varint(size), *pieces))


def _read_varint(message: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7


class _Fields:
    """Where in a message its last `header_crc32c` starts (tag and value), and its `data`, if they come last."""

    def __init__(self, message: bytes) -> None:
        self.header_crc32c: tuple[int, int] | None = None
        self.data: tuple[int, int] | None = None
        at = 0
        while at < len(message):
            start = at
            tag, at = _read_varint(message, at)
            self.data = None
            if tag == _HEADER_CRC32C_TAG:
                self.header_crc32c = (start, at)
            kind = tag & 7
            if kind == _LENGTH:
                size, at = _read_varint(message, at)
                if tag == _DATA_TAG:
                    self.data = (start, at)
                at += size
            elif kind == _VARINT:
                _, at = _read_varint(message, at)
            elif kind in (_FIXED32, _FIXED64):
                at += 4 if kind == _FIXED32 else 8
            else:
                raise InternalError(f"the server sent a malformed chunk: field {tag >> 3} of wire type {kind}")
        if at > len(message):
            raise IndexError(at)


def _check_header(message: bytes, fields: _Fields) -> None:
    if fields.header_crc32c is None:
        return
    start, value = fields.header_crc32c
    (expected,) = struct.unpack_from("<I", message, value)
    if crc32c.crc32c(memoryview(message)[:start]) != expected:
        raise DataLossError("a chunk does not match its header_crc32c: it was damaged on the way")


def decode_chunk(message: bytes) -> tuple[ws.WeightChunk, memoryview]:
    """A serialized WeightChunk: all but its payload, and the payload in place.

    InternalError if it is none; DataLossError if it has a `header_crc32c` that does not match.
    """
    try:
        fields = _Fields(message)
        # Before anything of it is believed: what a flipped bit makes of a header is often no message any more.
        _check_header(message, fields)
        if fields.data is None:
            chunk = ws.WeightChunk.FromString(message)
            data = memoryview(chunk.data)
        else:
            start, payload = fields.data
            chunk, data = ws.WeightChunk.FromString(message[:start]), memoryview(message)[payload:]
    except (DecodeError, IndexError) as error:
        raise InternalError(f"the server sent a malformed chunk: {error}") from None
    return chunk, data
