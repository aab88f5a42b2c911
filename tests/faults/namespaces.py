"""Network namespaces without names, and lines between them whose conditions change while packets are under way.

A namespace here is an open descriptor: it goes with this process, however that ends, and needs no /run/netns. Threads
and processes that are started by what runs inside stay inside.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import shutil
import subprocess
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

_CLONE_NEWNS = 0x00020000
_CLONE_NEWNET = 0x40000000
_MS_REC = 0x4000
_MS_PRIVATE = 1 << 18
_COMMAND_SECONDS = 30
_CONTROL_SECONDS = 30.0
# What a line's packets may hold: fewer of them than of Ethernet's, as each takes two system calls on its way.
_PACKET_BYTES = 9000
_DEVICE_QUEUE_PACKETS = 20_000
# A kernel's usual buffers hold a whole model of a test: then there would be no middle of a push to break.
_BUFFERS = {"tcp_wmem": "4096 32768 131072", "tcp_rmem": "4096 65536 262144"}
_QUEUE_PACKETS = 200
_LIBC = ctypes.CDLL(None, use_errno=True)


class NetworkError(Exception):
    """A namespace or a line cannot be made; says which command failed, and why."""


def unavailable() -> str:
    """Why there can be no namespaces here; empty if there can."""
    if os.geteuid() != 0:
        return "needs root, for network namespaces"
    if not shutil.which("ip"):
        return "needs the command ip of iproute2"
    if not Path("/dev/net/tun").exists():
        return "needs /dev/net/tun"
    try:
        Namespace().close()
    except OSError as error:
        return f"needs network namespaces: {error}"
    return ""


def keep_mounts_private() -> str:
    """What this process mounts from now on goes with it. Why that cannot be, or empty."""
    if os.geteuid() != 0:
        return "needs root, to mount a small file system"
    if _LIBC.unshare(_CLONE_NEWNS) != 0 or _LIBC.mount(None, b"/", None, _MS_REC | _MS_PRIVATE, None) != 0:
        return f"needs to mount a small file system: {os.strerror(ctypes.get_errno())}"
    return ""


def mount_tmpfs(folder: Path, size_bytes: int) -> None:
    """Mounts a file system of that size, in memory. Raises OSError where this process may not."""
    options = f"size={size_bytes}".encode()
    if _LIBC.mount(b"tmpfs", str(folder).encode(), b"tmpfs", 0, options) != 0:
        raise OSError(ctypes.get_errno(), f"mount tmpfs on {folder}: {os.strerror(ctypes.get_errno())}")


def unmount(folder: Path) -> None:
    _LIBC.umount2(str(folder).encode(), 2)  # MNT_DETACH: whatever is still open there.


class Namespace:
    """A network of its own, with nothing in it but loopback."""

    def __init__(self) -> None:
        self.descriptor = -1
        self._run_in_thread(self._make)
        self.run(self._set_up)

    @staticmethod
    def _set_up() -> None:
        _command("ip", "link", "set", "lo", "up")
        for name, value in _BUFFERS.items():
            Path("/proc/sys/net/ipv4", name).write_text(value)

    def _make(self) -> None:
        if _LIBC.unshare(_CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        self.descriptor = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)

    def run(self, function: Callable[[], T]) -> T:
        """Calls the function inside; the processes and threads that it starts stay there."""

        def inside() -> T:
            if _LIBC.setns(self.descriptor, _CLONE_NEWNET) != 0:
                raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
            return function()

        return self._run_in_thread(inside)

    @staticmethod
    def _run_in_thread(function: Callable[[], T]) -> T:
        """In a thread of its own, since a namespace is a thread's and there is no way back."""
        results: list[T] = []
        errors: list[BaseException] = []

        def run() -> None:
            try:
                results.append(function())
            except BaseException as error:
                errors.append(error)

        thread = threading.Thread(target=run)
        thread.start()
        thread.join()
        if errors:
            raise errors[0]
        return results[0]

    def close(self) -> None:
        os.close(self.descriptor)

    @property
    def path(self) -> str:
        """For other processes, as long as this one lives."""
        return f"/proc/{os.getpid()}/fd/{self.descriptor}"


def _command(*words: str) -> None:
    done = subprocess.run(words, capture_output=True, text=True, timeout=_COMMAND_SECONDS, check=False)
    if done.returncode != 0:
        raise NetworkError(f"{' '.join(words)}: {done.stderr.strip() or done.stdout.strip()}")


class Line:
    """A line between two namespaces, number 0 to 255 of this process; slow_link carries its packets."""

    def __init__(self, slow_link: str, here: Namespace, there: Namespace, number: int) -> None:
        self.here_address = f"10.209.{number}.1"
        self.there_address = f"10.209.{number}.2"
        device = f"line{number}"
        for namespace, address in ((here, self.here_address), (there, self.there_address)):
            namespace.run(lambda address=address: self._make_device(device, address))  # type: ignore[misc]
        words = [slow_link, here.path, device, there.path, device, "--control", "--delay_ms=0", "--loss=0"]
        self._process = subprocess.Popen(
            [*words, "--mbit=4000", f"--queue_packets={_QUEUE_PACKETS}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        self._lock = threading.Lock()
        self._expect("carrying")

    @staticmethod
    def _make_device(device: str, address: str) -> None:
        _command("ip", "tuntap", "add", "dev", device, "mode", "tun")
        _command("ip", "link", "set", device, "mtu", str(_PACKET_BYTES), "txqueuelen", str(_DEVICE_QUEUE_PACKETS))
        _command("ip", "addr", "add", f"{address}/30", "dev", device)
        _command("ip", "link", "set", device, "up")

    def set(self, conditions: str) -> None:
        """From now on the line is so: "delay_ms=20 loss=0.01"; what is not named stays as it is."""
        assert self._process.stdin is not None
        with self._lock:
            self._process.stdin.write(f"{conditions}\n".encode())
            self._process.stdin.flush()
            self._expect("set")

    def _expect(self, word: str) -> None:
        assert self._process.stdout is not None
        ready, _, _ = select.select([self._process.stdout], [], [], _CONTROL_SECONDS)
        line = self._process.stdout.readline().decode().strip() if ready else "nothing"
        if line != word:
            raise NetworkError(f"slow_link said {line!r}, not {word!r}")

    def close(self) -> None:
        assert self._process.stdin is not None and self._process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        self._process.wait(_COMMAND_SECONDS)
        self._process.stdout.close()


class Network:
    """A client's namespace, and one for each of some servers, with a line to each; or plain loopback, without lines."""

    def __init__(self, slow_link: str, servers: int, isolated: bool) -> None:
        self.client: Namespace | None = Namespace() if isolated else None
        self.servers: Sequence[Namespace | None] = [Namespace() if isolated else None for _ in range(servers)]
        self.lines: list[Line] = []
        for number, server in enumerate(self.servers):
            if self.client is not None and server is not None:
                self.lines.append(Line(slow_link, self.client, server, number))

    def at_client(self, function: Callable[[], T]) -> T:
        return self.client.run(function) if self.client else function()

    def at_server(self, number: int, function: Callable[[], T]) -> T:
        server = self.servers[number]
        return server.run(function) if server else function()

    def address_of(self, number: int) -> str:
        """Where a server is to listen."""
        return self.lines[number].there_address if self.lines else "127.0.0.1"

    def close(self) -> None:
        for line in self.lines:
            line.close()
        for namespace in (self.client, *self.servers):
            if namespace:
                namespace.close()
