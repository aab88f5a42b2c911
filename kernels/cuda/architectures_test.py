"""Which GPUs the CUDA sources were compiled for, read from the objects: the toolkit may come without cuobjdump.

nvcc puts the device code of a file into fat binaries. Their layout is not documented; it is known from tools that read
them: a header of magic number, version, its own size and the size of what follows, then for each architecture an entry
with its kind (1 is PTX, 2 machine code), its header's size, its size and, at byte 28, the architecture.
"""

from __future__ import annotations

import os
import struct
import unittest
from collections.abc import Iterator
from pathlib import Path

from tools import python_cases

_MAGIC = struct.pack("<I", 0xBA55ED50)
_PTX, _MACHINE_CODE = 1, 2
_ARCHITECTURE_AT = 28

# As cuda_library.bzl asks for them: A100, H100 and H200, and what newer ones compile at first use.
WANTED = {(_MACHINE_CODE, 80), (_MACHINE_CODE, 90), (_PTX, 90)}


def entries(data: bytes) -> Iterator[tuple[int, int]]:
    """Kind and architecture of each entry of each fat binary in the bytes of an object."""
    at = data.find(_MAGIC)
    while at >= 0:
        header_bytes, fat_bytes = struct.unpack_from("<HQ", data, at + 6)
        at += header_bytes
        end = at + fat_bytes
        while at < end:
            kind, entry_header_bytes, entry_bytes = struct.unpack_from("<H2xIQ", data, at)
            yield kind, struct.unpack_from("<I", data, at + _ARCHITECTURE_AT)[0]
            at += entry_header_bytes + entry_bytes
        at = data.find(_MAGIC, end)


class Architectures(unittest.TestCase):
    @unittest.skipIf(not os.environ["OBJECTS"], "the CUDA sources were not compiled: there is no CUDA toolkit here")
    def test_the_sources_are_compiled_for_sm_80_sm_90_and_as_ptx(self) -> None:
        objects = os.environ["OBJECTS"].split()
        self.assertEqual(sorted(Path(path).name for path in objects), ["kernels.cu.o", "system_runtime.cu.o"])
        for path in objects:
            found = set(entries(Path(path).read_bytes()))
            # A file without kernels may have no device code at all.
            if found or "kernels" in path.rpartition("/")[2]:
                self.assertEqual(found, WANTED, path)

    def test_an_entry_that_is_missing_is_seen(self) -> None:
        code = b"".join(
            struct.pack("<H2xIQ12xI32x", kind, 64, 8, architecture) + bytes(8)
            for kind, architecture in ((_MACHINE_CODE, 80), (_PTX, 90))
        )
        fat = _MAGIC + struct.pack("<HHQ", 1, 16, len(code)) + code
        self.assertEqual(list(entries(b"\x7fELF" + fat + b"rest" + fat)), 2 * [(_MACHINE_CODE, 80), (_PTX, 90)])


if __name__ == "__main__":
    python_cases.main()
