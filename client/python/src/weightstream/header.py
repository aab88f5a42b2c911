"""The safetensors header that a server gives a version: by its checksum either side knows what the other means."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping, Sequence

import crc32c

from weightstream.spec import TensorSpec

_PREFIX_BYTES = 8
# The data section starts on a page.
_DATA_ALIGNMENT = 4096

# The shortest text: without blanks, and escaping only what JSON wants escaped. Made once: json.dumps() would make one
# for each of 100,000 names.
_json = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def encode_header(specs: Sequence[TensorSpec], metadata: Mapping[str, str]) -> bytes:
    """As EncodeSafetensorsHeader of tensor/safetensors_layout.h, byte for byte: length, JSON, padding."""
    entries = []
    if metadata:
        by_bytes = sorted(metadata.items(), key=lambda pair: pair[0].encode())
        entries.append(f'"__metadata__":{_json(dict(by_bytes))}')
    at = 0
    for spec in sorted(specs, key=lambda spec: spec.layout_key):
        end = at + spec.nbytes
        shape = ",".join(map(str, spec.shape))
        entries.append(f'{_json(spec.name)}:{{"dtype":"{spec.dtype}","shape":[{shape}],"data_offsets":[{at},{end}]}}')
        at = end
    text = f"{{{','.join(entries)}}}".encode()
    size = -(-(_PREFIX_BYTES + len(text)) // _DATA_ALIGNMENT) * _DATA_ALIGNMENT
    return struct.pack("<Q", size - _PREFIX_BYTES) + text.ljust(size - _PREFIX_BYTES)


def manifest_crc32c(specs: Sequence[TensorSpec], metadata: Mapping[str, str]) -> int:
    """What the wire calls by this name: of VersionInfo, Manifest and CommitUpdateRequest."""
    return int(crc32c.crc32c(encode_header(specs, metadata)))
