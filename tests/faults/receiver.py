"""A server that is killed, stopped, filled up and started again at the same address, behind a proxy at the client."""

from __future__ import annotations

import json
import os
import re
import signal
import struct
import subprocess
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.end_to_end.processes import Server, binary
from tests.end_to_end.waiting import let_pass, wait_until
from tests.faults.faulty_proxy import FaultyProxy
from tests.faults.memory_watch import MemoryWatch
from tests.faults.namespaces import Network
from tests.faults.resends import Begin, Landed
from tests.faults.witness import MODEL, BrokenInvariant

_STATUS_SECONDS = 30
# Between what a server reads for the answer to a Begin and its line in the log, at most; what is logged later than this
# after a status was answered after it.
_BEGIN_SECONDS = 0.1
_BEGIN = re.compile(rb" (update_begun|update_resumed) .*? update=(\S+) .*?missing_bytes=(\d+)")


def clock_wrapper(offset_file: Path) -> list[str]:
    """What to put before a command whose clock is to jump when the file is written."""
    offset_file.write_bytes(struct.pack("<q", 0))
    return [
        "env",
        f"LD_PRELOAD={binary('JUMPING_CLOCK_LIBRARY')}",
        f"JUMPING_CLOCK={offset_file}",
        f"ASAN_OPTIONS={os.environ.get('ASAN_OPTIONS', '')}:verify_asan_link_order=0",
    ]


def jump_clock(offset_file: Path, seconds: float) -> None:
    """In place: the process has the file mapped."""
    with offset_file.open("r+b") as file:
        file.write(struct.pack("<q", int(seconds * 1e9)))


class Receiver:
    """One server and its proxy. Its lock is held while it is killed or started, since faults come on top of others."""

    def __init__(
        self, network: Network, number: int, data_dir: Path, folder: Path, flags: Sequence[str], clock: bool
    ) -> None:
        self.number = number
        self.data_dir = data_dir
        self.lock = threading.RLock()
        self._killed = False
        self._network = network
        self._log = folder / f"server-{number}.log"
        self._offset_file = folder / f"server-{number}.clock"
        self._wrapper = clock_wrapper(self._offset_file) if clock else []
        self._flags = list(flags)
        self.filler = data_dir.parent / f"filler-{number}"
        self._listen = f"{network.address_of(number)}:0"
        self.server = self._start()
        self._listen = self.server.address
        self.memory = MemoryWatch(self.server.pid)
        self.proxy = network.at_client(lambda: FaultyProxy(self.server.address))

    @property
    def address(self) -> str:
        """Where the client finds it."""
        return self.proxy.address

    def _start(self) -> Server:
        return self._network.at_server(
            self.number,
            lambda: Server(self.data_dir, self._log, [f"--listen={self._listen}", *self._flags], self._wrapper),
        )

    def kill(self) -> None:
        with self.lock:
            self._expect_running()
            self.memory.stop()
            self.server.kill()
            self._killed = True

    def restart(self) -> None:
        """Starts it again if it was killed. BrokenInvariant if it ended by itself."""
        with self.lock:
            if self._killed:
                self.server = self._start()
                self.memory = MemoryWatch(self.server.pid)
                self._killed = False
            self._expect_running()

    def signal(self, number: int) -> None:
        with self.lock:
            if self.server.running():
                self.server.signal(number)

    def jump(self, seconds: float) -> None:
        jump_clock(self._offset_file, seconds)

    def _expect_running(self) -> None:
        if not self.server.running():
            raise BrokenInvariant(f"invariant 5: server {self.number} ended by itself: {self.server.log()[-2000:]}")

    def check_alive(self) -> None:
        """It runs."""
        with self.lock:
            self._expect_running()

    def check_memory(self, most_bytes: int) -> int:
        """It has taken no more memory than that on top of its start: how much."""
        with self.lock:
            return 0 if self.server.sanitized() else self.memory.check(f"server {self.number}", most_bytes)

    def settle(self) -> None:
        """It runs, its line is calm, its disk has room."""
        self.filler.unlink(missing_ok=True)
        self.signal(signal.SIGCONT)
        self.restart()
        self.proxy.behave()
        # Nobody pushes or pulls now: what a killed client has left on its way must not arrive in what follows.
        self.proxy.cut()

    # ---- What it says ----------------------------------------------------------------------------------------------

    def log_position(self) -> int:
        return self._log.stat().st_size

    def begins_since(self, position: int) -> list[Begin]:
        found = _BEGIN.finditer(self._log.read_bytes(), position)
        return [Begin(m[2].decode(), m[1] == b"update_resumed", int(m[3]), m.start()) for m in found]

    def status(self) -> Any:
        """The model as it is now, past the proxy; None where nothing answers or the model is not known."""
        words = [binary("WEIGHTSTREAM"), "status", f"--to={self.server.address}", f"--model={MODEL}"]
        done = self._network.at_server(
            self.number,
            lambda: subprocess.run(
                [*words, "--json"], capture_output=True, text=True, timeout=_STATUS_SECONDS, check=False
            ),
        )
        assert done.returncode in (0, 1), done.stderr
        if done.returncode != 0:
            return None
        models = json.loads(done.stdout.splitlines()[-1])["servers"][0]["models"]
        return models[0] if models else None

    def landed(self, version: int) -> list[Landed]:
        """What has landed of that version, of the update in flight; nothing if there is none."""
        model = self.status()
        # Every Begin that is logged from here on was answered after that: handling one takes a moment.
        let_pass(_BEGIN_SECONDS)
        position = self.log_position()
        found = [u for u in model["updates"] if u["state"] == "receiving" and u["version"] == version] if model else []
        return [Landed(u["update_id"], u["landed_bytes"], u["total_bytes"], position) for u in found]

    def has_all_of(self, version: int) -> bool:
        """Whether the version is current, or all of its bytes have landed."""
        if self.current() >= version:
            return True
        model = self.status()
        updates = model["updates"] if model else []
        return any(u["version"] == version and u["landed_bytes"] == u["total_bytes"] for u in updates)

    def current(self) -> int:
        """Where the link points; 0 before the first version."""
        try:
            return int(str((self.data_dir / MODEL / "current").readlink()))
        except FileNotFoundError:
            return 0

    def await_streams_end(self) -> int:
        """Waits until no stream feeds the update in flight; returns how much of it has landed, 0 if there is none."""

        def landed() -> tuple[int] | None:
            model = self.status()
            receiving = [u for u in model["updates"] if u["state"] == "receiving"] if model else []
            if any(u["open_streams"] for u in receiving):
                return None
            return (sum(u["landed_bytes"] for u in receiving),)

        ended = wait_until(landed, f"the streams of a killed client end at server {self.number}", 30, poll=0.05)
        return ended[0] if ended else 0

    def end(self) -> None:
        """SIGTERM; it must end well."""
        with self.lock:
            self._expect_running()
            self.memory.stop()
            self.server.stop()

    def close(self) -> None:
        self.proxy.close()
        with self.lock:
            self.memory.stop()
            self.server.kill()

    def log_tail(self, lines: int = 30) -> str:
        return "\n".join(self._log.read_text(errors="replace").splitlines()[-lines:])
