"""What every end-to-end test starts from: folders, servers, commands, and the proof that nothing is left behind."""

from __future__ import annotations

import contextlib
import fcntl
import functools
import os
import shutil
import signal
import socket
import sys
import tempfile
import unittest
from collections.abc import Iterable, Sequence
from pathlib import Path

from tests.end_to_end.checkpoints import Tensor
from tests.end_to_end.processes import (
    COMMAND_SECONDS,
    Command,
    Outcome,
    Server,
    children,
    socket_inodes,
    sockets_at,
)
from tests.end_to_end.proxy import Proxy
from tests.end_to_end.safetensors_file import SafetensorsFile
from tests.end_to_end.waiting import wait_until

SHM = Path("/dev/shm")
_SHM_PREFIX = "weightstream-e2e-"
# As /proc/net/tcp writes the state.
_LISTEN = "0A"
_LOG_LINES_SHOWN = 40


def _sweep_shared_memory() -> None:
    """Removes what earlier tests left that were killed: a folder whose lock nobody holds has no owner."""
    for folder in SHM.glob(_SHM_PREFIX + "*"):
        with contextlib.suppress(OSError), (folder / "owner").open("a") as owner:
            fcntl.flock(owner, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)


def paths_below(folder: Path) -> list[Path]:
    """All that lies below it. Unlike Path.rglob, which fails of it, this passes over a folder that goes meanwhile."""
    return [Path(above) / name for above, folders, files in os.walk(folder) for name in (*folders, *files)]


class EndToEndTest(unittest.TestCase):
    """A test with real processes.

    At its end every server is stopped with SIGTERM and must end well; then no process, no socket, no shared memory and
    no file but those of committed versions may be left.
    """

    def setUp(self) -> None:
        # Bazel ends a test that takes too long with SIGTERM: clean up as after a failure.
        signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended by SIGTERM"))
        _sweep_shared_memory()
        self.folder = Path(tempfile.mkdtemp(dir=os.environ.get("TEST_TMPDIR")))
        self.addCleanup(shutil.rmtree, self.folder)
        self.shared_memory = Path(tempfile.mkdtemp(prefix=_SHM_PREFIX, dir=SHM))
        owner = (self.shared_memory / "owner").open("w")
        fcntl.flock(owner, fcntl.LOCK_SH)
        # The lock last: without it another test beside this one would sweep what is being removed.
        self.addCleanup(owner.close)
        self.addCleanup(shutil.rmtree, self.shared_memory)
        self._servers: list[Server] = []
        self._commands: list[Command] = []
        self._data_dirs: set[Path] = set()
        self.addCleanup(self._check_nothing_is_left)

    # ---- Servers and commands --------------------------------------------------------------------------------------

    def data_dir(self, name: str = "data", on_disk: bool = False) -> Path:
        """Where a server keeps its versions: in shared memory, or in a folder of a disk. It need not exist yet."""
        path = (self.folder if on_disk else self.shared_memory) / name
        self._data_dirs.add(path)
        return path

    def reserve_address(self) -> str:
        """An address of this machine that nobody else is given while the test lasts: for a server that is to be started
        there more than once, or to be missed there.
        """
        held = socket.socket()
        # Not listening, and so in no server's way. Without it the port of a server that is down is any client's, and
        # any other test's.
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.bind(("127.0.0.1", 0))
        self.addCleanup(held.close)
        return f"127.0.0.1:{held.getsockname()[1]}"

    def start_server(
        self,
        *flags: str,
        data_dir: Path | None = None,
        listen: str = "127.0.0.1:0",
        wrapper: Sequence[str] = (),
    ) -> Server:
        log = self.folder / f"server-{len(self._servers)}.log"
        server = Server(data_dir or self.data_dir(), log, [f"--listen={listen}", *flags], wrapper)
        self._servers.append(server)
        return server

    def start_proxy(self, server: Server, allowed_bytes: int | None = None, source: str | None = None) -> Proxy:
        proxy = Proxy(server.address, allowed_bytes, source)
        self.addCleanup(proxy.close)
        return proxy

    def start_command(self, *arguments: str | Path) -> Command:
        command = Command(arguments, self.folder, len(self._commands))
        self._commands.append(command)
        return command

    def weightstream(self, *arguments: str | Path, code: int = 0, seconds: float = COMMAND_SECONDS) -> Outcome:
        """Runs a command, which must end with this code."""
        outcome = self.start_command(*arguments).outcome(seconds)
        self.assertEqual(outcome.code, code, f"weightstream {arguments}\n{outcome.stdout}\n{outcome.stderr}")
        return outcome

    def push(self, path: Path, address: str, model: str, *flags: str, code: int = 0) -> Outcome:
        return self.weightstream("push", path, f"--to={address}", f"--model={model}", *flags, code=code)

    def await_landed(self, server: Server, model: str, least_bytes: int = 1, seconds: float = 30) -> None:
        """Waits until an update of the model is in flight and at least that many bytes have landed."""

        def landed() -> bool:
            outcome = self.start_command("status", f"--to={server.address}").outcome()
            updates = [u for m in outcome.json["servers"][0]["models"] if m["name"] == model for u in m["updates"]]
            return any(u["state"] == "receiving" and u["landed_bytes"] >= least_bytes for u in updates)

        wait_until(landed, f"{least_bytes} bytes of {model} land", seconds, poll=0.05)

    # ---- What a server holds, seen with our own eyes ---------------------------------------------------------------

    def open_version(self, data_dir: Path, model: str, version: int | None = None) -> SafetensorsFile:
        """The current version's file, or another's, with all that is promised of a file checked."""
        name = "current" if version is None else str(version)
        file = SafetensorsFile(data_dir / model / name / "model.safetensors")
        file.check_placement()
        return file

    def assert_holds(self, file: SafetensorsFile, tensors: Iterable[Tensor]) -> None:
        """The file has exactly these tensors, bit for bit."""
        wanted = {tensor.name: tensor for tensor in tensors}
        self.assertEqual(sorted(file.tensors), sorted(wanted))
        for name, tensor in wanted.items():
            entry = file.tensors[name]
            self.assertEqual((entry.dtype, entry.shape), (tensor.dtype, tensor.shape), name)
            self.assertTrue(file.data(name) == tensor.data, f"{name}: the bytes differ")

    def assert_current(self, server: Server, model: str, tensors: Iterable[Tensor]) -> None:
        with self.open_version(server.data_dir, model) as file:
            self.assert_holds(file, tensors)

    # ---- Nothing is left behind ------------------------------------------------------------------------------------

    def assert_only_committed(self, data_dir: Path) -> None:
        """The folder holds whole versions, what points at them, the lock, and nothing else."""
        if not data_dir.is_dir():
            return
        for model in data_dir.iterdir():
            if model.name == ".lock":
                continue
            versions = [entry for entry in model.iterdir() if entry.name != "current"]
            for version in versions:
                self.assertRegex(version.name, r"\A[1-9][0-9]*\Z", f"{version} is left")
                self.assertEqual([file.name for file in version.iterdir()], ["model.safetensors"], version)
                SafetensorsFile(version / "model.safetensors").close()
            current = model / "current"
            if versions or current.is_symlink():
                self.assertIn(str(current.readlink()), [version.name for version in versions])

    def assert_no_partial_files(self, server: Server) -> None:
        """No file of an update lies in the folder, or is open or mapped in the server without a name."""

        def left() -> list[Path]:
            return [path for path in paths_below(server.data_dir) if ".incoming" in str(path) or ".next" in str(path)]

        # An update is ended before its files are removed, and a stream that has just been cut may be on its way out.
        wait_until(lambda: not left(), "the files of an ended update are removed")
        wait_until(
            lambda: not [name for name in server.open_files() if ".incoming" in name],
            "the file of an ended update is closed",
        )

    def _check_shared_memory(self, server: Server) -> None:
        """The server has nothing of shared memory but files of its data folder."""
        mine = (str(server.data_dir), str(self.shared_memory))
        others = [f for f in server.open_files() if f.startswith(str(SHM)) and not f.startswith(mine)]
        self.assertEqual(others, [])

    @staticmethod
    def _free(port: int) -> bool:
        # Connections are left out: those of a server that ended are the kernel's, and a test beside this one may have
        # been given the same number for a connection of its own; or for a server, whose process, in a sandbox of its
        # own, we do not see.
        listening = {line.split()[9] for line in sockets_at(port) if line.split()[3] == _LISTEN}
        return not listening & socket_inodes()

    def _check_nothing_is_left(self) -> None:
        for command in self._commands:
            command.kill()
        try:
            for server in self._servers:
                if server.running():
                    self._check_shared_memory(server)
                    server.stop()
            for port in {server.port for server in self._servers if server.port}:
                wait_until(functools.partial(self._free, port), f"sockets at {port} end")
            for data_dir in self._data_dirs:
                self.assert_only_committed(data_dir)
            self.assertEqual(children(), [])
        finally:
            for server in self._servers:
                server.kill()
                tail = server.log().splitlines()[-_LOG_LINES_SHOWN:]
                print(f"---- {self.id()}: the end of {server.log_path.name}:", *tail, sep="\n", file=sys.stderr)
