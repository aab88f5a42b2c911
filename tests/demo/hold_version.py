"""Holds a version as an inference server would, memory-mapped, and proves that nothing changes it.

    hold_version.py FILE

Maps the file and prints its digest; then reads every byte again, over and over, until its input ends. Says how often it
read, and exits with 1 if a byte was ever another.
"""

from __future__ import annotations

import mmap
import os
import select
import sys
import zlib

BLOCK_BYTES = 16 << 20


def digest(mapped: mmap.mmap) -> int:
    value = 0
    view = memoryview(mapped)
    for at in range(0, len(view), BLOCK_BYTES):
        value = zlib.crc32(view[at : at + BLOCK_BYTES], value)
    return value


def main() -> int:
    if len(sys.argv) != 2:
        print("usage: hold_version.py FILE", file=sys.stderr)
        return 2
    descriptor = os.open(sys.argv[1], os.O_RDONLY)
    mapped = mmap.mmap(descriptor, 0, prot=mmap.PROT_READ)
    os.close(descriptor)
    first = digest(mapped)
    print(f"reader: holds {os.path.realpath(sys.argv[1])}, {len(mapped)} bytes, crc32 {first:08x}", flush=True)
    reads = 0
    while True:
        ended = bool(select.select([sys.stdin], [], [], 0)[0])
        if digest(mapped) != first:
            print("reader: the version changed under its reader", file=sys.stderr)
            return 1
        reads += 1
        if ended:
            print(f"reader: read it {reads} more times, every byte was the same")
            return 0


if __name__ == "__main__":
    sys.exit(main())
