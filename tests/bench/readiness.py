"""Whether a server has made the next version's memory ready: what tells a warm push from one that is not."""

from __future__ import annotations

import json
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

from tests.bench.processes import BenchError

POLL_SECONDS = 0.2
# A server that has begun to prepare gets this long.
READY_SECONDS = 60.0
# One that shows no sign of it: a moment, and as long as it takes to touch the memory at this rate.
SIGN_SECONDS = 10.0
SIGN_BYTES_PER_SECOND = 500e6


def await_prepared(command: Path, address: str, model: str, wanted_bytes: int, tls_ca: Path | None = None) -> bool:
    """Waits until the server holds `wanted_bytes` ready; False if it does not come to that.

    A server without the field prepared_bytes, or one that has no room for another arena, is not waited for long.
    """
    start = time.monotonic()
    pause = threading.Event()
    while True:
        prepared = _model(command, address, model, tls_ca).get("prepared_bytes")
        if prepared is None:
            return False
        if int(prepared) >= wanted_bytes:
            return True
        patience = READY_SECONDS if prepared else SIGN_SECONDS + wanted_bytes / SIGN_BYTES_PER_SECOND
        if time.monotonic() - start > patience:
            return False
        pause.wait(POLL_SECONDS)


def _model(command: Path, address: str, model: str, tls_ca: Path | None) -> dict[str, Any]:
    words = [str(command), "status", f"--to={address}", f"--model={model}", "--json"]
    words += [f"--tls-ca={tls_ca}"] if tls_ca else []
    done = subprocess.run(words, capture_output=True, text=True, timeout=READY_SECONDS, check=False)
    if done.returncode != 0:
        raise BenchError(f"weightstream status failed: {done.stdout.strip()} {done.stderr.strip()}")
    state: dict[str, Any] = json.loads(done.stdout)["servers"][0]["models"][0]
    return state
