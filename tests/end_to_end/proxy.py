"""A TCP proxy whose flow a test controls: how many bytes may pass, when they stop, when the line is cut."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable
from typing import Any

BLOCK_BYTES = 64 << 10


class Proxy:
    """Forwards connections to `target`; towards it, no more bytes than were allowed so far.

    Bytes that may not pass wait, as on a line that went dead. `allowed_bytes` None is no limit. With `source`, an
    address of this machine, the target sees connections from there.
    """

    def __init__(self, target: str, allowed_bytes: int | None = None, source: str | None = None) -> None:
        host, port = target.rsplit(":", 1)
        self._target = (host, int(port))
        self._source = None if source is None else (source, 0)
        self._allowed = allowed_bytes
        self._passed = 0
        self._closed = False
        self._change = threading.Condition()
        self._sockets: set[socket.socket] = set()
        self._half_done: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self._spawn(self._accept)

    @property
    def passed_bytes(self) -> int:
        """Bytes that went to the target."""
        with self._change:
            return self._passed

    def allow(self, more_bytes: int | None) -> None:
        """Lets that many more bytes pass; None ends the limit."""
        with self._change:
            self._allowed = None if more_bytes is None or self._allowed is None else self._allowed + more_bytes
            self._change.notify_all()

    def cut(self) -> int:
        """Ends every connection at once and returns how many there were; new ones are still taken."""
        with self._change:
            sockets = list(self._sockets)
        for each in sockets:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        return len(sockets) // 2

    def close(self) -> None:
        """Ends everything and waits for the proxy's threads."""
        with self._change:
            self._closed = True
            self._change.notify_all()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()
        while self._threads:
            self._threads.pop().join(timeout=30)

    def _spawn(self, run: Callable[..., None], *arguments: Any) -> None:
        thread = threading.Thread(target=run, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(self._target, timeout=30, source_address=self._source)
                server.settimeout(None)
            except OSError:
                client.close()
                continue
            with self._change:
                self._sockets |= {client, server}
            self._spawn(self._pump, client, server, True)
            self._spawn(self._pump, server, client, False)

    def _take(self, wanted: int) -> int:
        """How many bytes may pass now, at least one; waits for them. 0 once the proxy is closed."""
        with self._change:
            while not self._closed and self._allowed is not None and self._allowed <= self._passed:
                self._change.wait()
            if self._closed:
                return 0
            taken = wanted if self._allowed is None else min(wanted, self._allowed - self._passed)
            self._passed += taken
            return taken

    def _pump(self, source: socket.socket, sink: socket.socket, limited: bool) -> None:
        with contextlib.suppress(OSError):
            self._forward(source, sink, limited)
        for each in (source, sink):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        with self._change:
            # The pump of the other direction may still be in a call on both: whoever ends last closes them.
            last = source in self._half_done
            self._half_done ^= {source, sink}
            if last:
                self._sockets -= {source, sink}
        if last:
            source.close()
            sink.close()

    def _forward(self, source: socket.socket, sink: socket.socket, limited: bool) -> None:
        while block := source.recv(BLOCK_BYTES):
            if not self._pass_on(block, sink, limited):
                return

    def _pass_on(self, block: bytes | bytearray, sink: socket.socket, limited: bool) -> bool:
        """Sends a block, as its bytes may pass. False once the proxy is closed."""
        data = memoryview(block)
        while data:
            taken = self._take(len(data)) if limited else len(data)
            if taken == 0:
                return False
            sink.sendall(data[:taken])
            data = data[taken:]
        return True
