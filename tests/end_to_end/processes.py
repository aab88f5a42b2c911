"""The processes under test: servers and commands, what they hold, and how they end."""

from __future__ import annotations

import contextlib
import json
import os
import re
import select
import signal
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.end_to_end.waiting import DeadlineError, wait_until

START_SECONDS = 30.0
STOP_SECONDS = 60.0
COMMAND_SECONDS = 120.0

_TIME_WAIT = "06"
_LISTEN = "0A"


def binary(variable: str) -> str:
    """The path of a binary under test, which Bazel names in the environment."""
    return str(Path(os.environ[variable]).resolve(strict=True))


def children() -> list[str]:
    """This process's children, zombies included, as "PID NAME"."""
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            text = status.read_text()
        except OSError:
            continue  # It ended meanwhile.
        name, _, rest = text.partition("(")[2].rpartition(")")
        if int(rest.split()[1]) == os.getpid():
            found.append(f"{status.parent.name} {name}")
    return found


def sockets_at(port: int, states_left_out: Sequence[str] = (_TIME_WAIT,)) -> list[str]:
    """The local TCP sockets at a port, as lines of /proc/net/tcp, but for those in the states named."""
    found = []
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in Path(table).read_text().splitlines()[1:]:
            fields = line.split()
            if int(fields[1].rpartition(":")[2], 16) == port and fields[3] not in states_left_out:
                found.append(line)
    return found


def socket_inodes() -> set[str]:
    """The sockets that the processes which this one can see have open."""
    found = set()
    for process in Path("/proc").glob("[0-9]*"):
        # It ended meanwhile, or is not ours to look into.
        with contextlib.suppress(OSError):
            found |= {socket for socket in map(_socket_inode, (process / "fd").iterdir()) if socket}
    return found


def _socket_inode(descriptor: Path) -> str:
    """Empty for one that is no socket, or was closed meanwhile."""
    with contextlib.suppress(OSError):
        target = str(descriptor.readlink())
        if target.startswith("socket:["):
            return target.removeprefix("socket:[").removesuffix("]")
    return ""


@dataclass(frozen=True)
class Memory:
    """Resident bytes of a process by kind: its own, of mapped files, of shared memory (the arena)."""

    anonymous: int
    file: int
    shared: int


class Process:
    """A process of the test; its messages go to a file, which a failed test shows."""

    def __init__(self, name: str, command: Sequence[str], log: Path, stdout: int | Path) -> None:
        self.name = name
        self.log_path = log
        with log.open("ab") as messages:
            if isinstance(stdout, Path):
                with stdout.open("wb") as out:
                    self.popen = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=messages)
            else:
                self.popen = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=stdout, stderr=messages)

    @property
    def pid(self) -> int:
        return self.popen.pid

    def log(self) -> str:
        return self.log_path.read_text(errors="replace")

    def running(self) -> bool:
        return self.popen.poll() is None

    def signal(self, number: int) -> None:
        self.popen.send_signal(number)

    def kill(self) -> None:
        """SIGKILL, and gone on return. Does nothing to a process that has ended."""
        if self.running():
            self.popen.kill()
        self.popen.wait(STOP_SECONDS)
        if self.popen.stdout:
            self.popen.stdout.close()

    def wait(self, seconds: float) -> int:
        """The exit code (negative for a signal); DeadlineError if it does not end in time."""
        try:
            return self.popen.wait(seconds)
        except subprocess.TimeoutExpired:
            raise DeadlineError(f"{self.name} still runs after {seconds} seconds; its log:\n{self.log()}") from None


class Server(Process):
    """A weightstream-server that serves, until it is stopped, killed, or ends by itself."""

    def __init__(self, data_dir: Path, log: Path, flags: Sequence[str], wrapper: Sequence[str] = ()) -> None:
        command = [*wrapper, binary("WEIGHTSTREAM_SERVER"), f"--data-dir={data_dir}", *flags]
        super().__init__("weightstream-server", command, log, subprocess.PIPE)
        self.data_dir = data_dir
        self.address = self._await_address()
        # 0 for a unix socket.
        self.port = 0 if self.address.startswith("unix:") else int(self.address.rpartition(":")[2])

    def _await_address(self) -> str:
        assert self.popen.stdout is not None
        text = b""
        deadline = time.monotonic() + START_SECONDS
        while not text.endswith(b"\n"):
            ready, _, _ = select.select([self.popen.stdout], [], [], max(0.0, deadline - time.monotonic()))
            data = os.read(self.popen.stdout.fileno(), 4096) if ready else b""
            if not data:
                self.kill()
                raise AssertionError(f"the server did not start: {text!r}\n{self.log()}")
            text += data
        match = re.fullmatch(r"listening on (\S+)\n", text.decode())
        assert match, text
        return match[1]

    def stop(self, code: int = 0, seconds: float = STOP_SECONDS) -> None:
        """SIGTERM; it must end with this code within the time."""
        self.signal(signal.SIGTERM)
        ended = self.wait(seconds)
        self.kill()
        assert ended == code, f"the server ended with {ended}, not {code}:\n{self.log()}"

    def memory(self) -> Memory:
        fields = dict(re.findall(r"^(\w+):\s+(\d+) kB$", Path(f"/proc/{self.pid}/status").read_text(), re.MULTILINE))
        return Memory(*(int(fields[key]) << 10 for key in ("RssAnon", "RssFile", "RssShmem")))

    def open_files(self) -> set[str]:
        """Paths that the process has open or mapped: regular files only."""
        links = set()
        for folder in ("fd", "map_files"):
            for entry in Path(f"/proc/{self.pid}/{folder}").iterdir():
                try:
                    links.add(str(entry.readlink()))
                except OSError:
                    continue  # Closed meanwhile.
        return {link for link in links if link.startswith("/") and not link.startswith(("/dev/null", "/proc"))}

    def connections(self) -> list[str]:
        """Its open connections, as lines of /proc/net/tcp.

        One that it has closed may outlive it in the kernel, without an inode, while a stopped peer does not answer.
        """
        return [line for line in sockets_at(self.port, (_TIME_WAIT, _LISTEN)) if line.split()[9] != "0"]

    def sanitizer(self) -> str:
        """The sanitizer's library that it was built with, "libasan" or "libtsan"; empty without one."""
        maps = Path(f"/proc/{self.pid}/maps").read_text()
        return next((library for library in ("libasan", "libtsan") if library in maps), "")

    def sanitized(self) -> bool:
        """Whether it was built with a sanitizer, which takes memory of its own."""
        return self.sanitizer() != ""

    def await_quiet(self, seconds: float = 30) -> None:
        """Waits until nobody is connected."""
        wait_until(lambda: not self.connections(), f"connections at {self.address} end", seconds)


@dataclass(frozen=True)
class Outcome:
    """How a command ended."""

    code: int
    stdout: str
    stderr: str
    json: dict[str, Any]

    @property
    def error(self) -> str:
        """The error as "CODE: message", and of each server that failed."""
        errors = [self.json.get("error")] + [server.get("error") for server in self.json.get("servers", [])]
        return "; ".join(f"{error['code']}: {error['message']}" for error in errors if error)


class Command(Process):
    """A running `weightstream ... --json`."""

    def __init__(self, arguments: Sequence[str | Path], folder: Path, number: int, wrapper: Sequence[str] = ()) -> None:
        self._stdout_path = folder / f"command-{number}.out"
        command = [*wrapper, binary("WEIGHTSTREAM"), *map(str, arguments), "--json"]
        log = folder / f"command-{number}.log"
        super().__init__(f"weightstream {arguments[0]}", command, log, self._stdout_path)

    def stdout(self) -> str:
        return self._stdout_path.read_text()

    def outcome(self, seconds: float = COMMAND_SECONDS) -> Outcome:
        """Waits for its end. Whatever the end, it must have printed JSON whose "ok" agrees with the exit code."""
        code = self.wait(seconds)
        stdout, stderr = self.stdout(), self.log()
        assert code in (0, 1, 2), f"{self.name} ended with {code}\n{stdout}\n{stderr}"
        lines = stdout.splitlines()
        assert lines, f"{self.name} printed nothing and ended with {code}\n{stderr}"
        last = json.loads(lines[-1])
        assert last["ok"] == (code == 0), stdout
        return Outcome(code, stdout, stderr, last)
