"""What a push of a file reads from storage: each byte once, however many servers it goes to."""

from __future__ import annotations

import json
import os
import random
import resource
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tests.bench.contenders import MODEL, Settings
from tests.bench.processes import ROUND_SECONDS, BenchError, Receiver
from tests.bench.rounds import MIB

SEED = 20221
# The unit of ru_inblock, whatever the blocks of the file system are.
BLOCK_BYTES = 512


def bytes_read_by_push(settings: Settings, servers: Sequence[Receiver], connections: int, file_mib: int) -> int:
    """What the client reads from storage while it pushes a file that is not in the page cache. 0 where the file system
    keeps its files in memory, or has others read for it; OSError where there is no room."""
    with tempfile.TemporaryDirectory(prefix=f"weightstream-bench-{os.getpid()}-", dir=settings.disk) as folder:
        path = Path(folder) / "model.safetensors"
        write_safetensors(path, file_mib)
        to = ",".join(one.address for one in servers)
        flags = [f"--to={to}", f"--model={MODEL}", f"--connections={connections}"]
        command = [str(settings.command), "push", str(path), *flags]
        # No other child ends meanwhile: the servers live on.
        before = _blocks_read_by_children()
        done = subprocess.run(command, capture_output=True, text=True, timeout=ROUND_SECONDS, check=False)
        if done.returncode != 0:
            raise BenchError(f"weightstream push failed: {done.stderr.strip()}")
        return (_blocks_read_by_children() - before) * BLOCK_BYTES


def write_safetensors(path: Path, size_mib: int) -> None:
    """One tensor of random bytes, on storage and no longer in the page cache."""
    size = size_mib * MIB
    header = json.dumps({"weight": {"dtype": "U8", "shape": [size], "data_offsets": [0, size]}}).encode()
    source = random.Random(SEED)
    with path.open("wb") as file:
        file.write(len(header).to_bytes(8, "little") + header)
        for _ in range(size_mib):
            file.write(source.randbytes(MIB))
        file.flush()
        # Only what is on storage can be dropped.
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _blocks_read_by_children() -> int:
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_inblock
