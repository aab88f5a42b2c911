"""Handshakes that nobody may finish: with a TLS that is too old, and one that stops half way."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from tests.end_to_end.certificates import Ca
from tests.end_to_end.checkpoints import Tensor, random_tensor, write_safetensors
from tests.end_to_end.harness import EndToEndTest
from tests.end_to_end.processes import Server
from tests.end_to_end.waiting import is_closed, wait_until
from tools import python_cases

TLS_1_1 = ssl.TLSVersion.TLSv1_1
# A server's part of a handshake comes in one go; more than one connection's worth, so that no chance is at work.
CROWD = 32
# For a busy machine.
OVERDUE_SECONDS = 30


def old_context(purpose: ssl.Purpose, ca: Ca) -> ssl.SSLContext:
    """TLS 1.1 and nothing else, which Debian forbids its own programs."""
    context = ssl.create_default_context(purpose, cafile=str(ca.certificate))
    context.set_alpn_protocols(["h2"])
    context.set_ciphers("DEFAULT:@SECLEVEL=0")
    context.minimum_version = context.maximum_version = TLS_1_1
    return context


class OldServer:
    """Takes connections, hands each to `greet`, and notes what came of it: the version agreed on, or why none was."""

    def __init__(self, greet: Callable[[socket.socket], str]) -> None:
        self._greet = greet
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.address = f"127.0.0.1:{self.port}"
        self.agreed: list[str] = []
        self.failed: list[str] = []
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                plain, _ = self._listener.accept()
            except OSError:
                return
            plain.settimeout(30)
            try:
                with plain:
                    self.agreed.append(self._greet(plain))
            except OSError as error:
                self.failed.append(str(error))

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()


def answer_in_tls_1_1(plain: socket.socket) -> str:
    """A ServerHello of TLS 1.1, whatever the client offered; an error if the client goes on with an alert, or not."""
    plain.recv(16 << 10)
    body = b"\3\2" + bytes(32) + b"\0" + b"\xc0\x13" + b"\0"  # ECDHE-RSA with AES-128, no compression.
    hello = b"\2" + len(body).to_bytes(3, "big") + body
    plain.sendall(b"\x16\3\2" + len(hello).to_bytes(2, "big") + hello)
    answer = plain.recv(16 << 10)
    if answer[:1] in (b"", b"\x15"):
        raise OSError(f"the client ended it: {answer.hex()}")
    return "TLSv1.1"


class HandshakesTest(EndToEndTest):
    def setUp(self) -> None:
        super().setUp()
        self.ca = Ca(self.folder, "ours")
        self.pair = self.ca.sign("server")

    def tensors(self, version: int) -> list[Tensor]:
        return [random_tensor(np.random.default_rng(version), "w", "BF16", (1 << 20,))]

    def source(self, version: int = 1) -> Path:
        return write_safetensors(self.folder / f"source-{version}.safetensors", self.tensors(version))

    def start_old_server(self, greet: Callable[[socket.socket], str]) -> OldServer:
        server = OldServer(greet)
        self.addCleanup(server.close)
        return server

    def check_refused(self, server: OldServer) -> None:
        """By every command, which is not tried again (the time to connect is ten minutes), and with the remedy."""
        tls = f"--tls-ca={self.ca.certificate}"
        push = self.push(self.source(), server.address, "m", tls, "--connect-seconds=600", code=1)
        status = self.weightstream("status", f"--to={server.address}", tls, code=1)
        for error in (push.error, status.error):
            for words in ("UNAUTHENTICATED", server.address, "versions of TLS before 1.2", "have that speak TLS 1.2"):
                self.assertIn(words, error)
        self.assertGreaterEqual(len(server.failed), 2)

    def test_a_server_that_speaks_tls_1_1_alone_is_refused(self) -> None:
        context = old_context(ssl.Purpose.CLIENT_AUTH, self.ca)
        context.load_cert_chain(self.pair.certificate, self.pair.key)

        def greet(plain: socket.socket) -> str:
            with context.wrap_socket(plain, server_side=True) as secured:
                return secured.version() or ""

        server = self.start_old_server(greet)
        # It does speak: a client that takes TLS 1.1 gets through.
        client = old_context(ssl.Purpose.SERVER_AUTH, self.ca)
        with (
            socket.create_connection(("127.0.0.1", server.port), timeout=30) as plain,
            client.wrap_socket(plain, server_hostname="localhost"),
        ):
            wait_until(lambda: server.agreed == ["TLSv1.1"], "the server notes its handshake")
        self.check_refused(server)
        self.assertEqual(server.agreed, ["TLSv1.1"])

    def test_a_server_that_answers_in_tls_1_1_is_refused(self) -> None:
        server = self.start_old_server(answer_in_tls_1_1)
        self.check_refused(server)
        self.assertEqual(server.agreed, [])

    # ---- Half of one -----------------------------------------------------------------------------------------------

    def start_tls_server(self, *flags: str) -> Server:
        return self.start_server(f"--tls-cert={self.pair.certificate}", f"--tls-key={self.pair.key}", *flags)

    def half_handshake(self, server: Server) -> socket.socket:
        """A ClientHello, the server's answer to it, and then nothing."""
        sends, received = ssl.MemoryBIO(), ssl.MemoryBIO()
        context = ssl.create_default_context(cafile=str(self.ca.certificate))
        context.set_alpn_protocols(["h2"])
        session = context.wrap_bio(received, sends, server_hostname="localhost")
        with self.assertRaises(ssl.SSLWantReadError):
            session.do_handshake()
        plain = socket.create_connection(("127.0.0.1", server.port), timeout=30)
        self.addCleanup(plain.close)
        plain.sendall(sends.read())
        # A record of a handshake: the server is in the middle of it.
        self.assertEqual(plain.recv(1), b"\x16")
        return plain

    def check_push(self, server: Server, version: int) -> None:
        self.push(self.source(version), server.address, "m", f"--tls-ca={self.ca.certificate}", f"--version={version}")
        self.assert_current(server, "m", self.tensors(version))

    def test_who_stops_in_mid_handshake_is_in_nobodys_way(self) -> None:
        server = self.start_tls_server("--handshake-seconds=600")
        halves = [self.half_handshake(server) for _ in range(CROWD)]
        self.check_push(server, 1)
        self.assertFalse(any(is_closed(half) for half in halves), "all of them were there meanwhile")

    def test_who_stops_in_mid_handshake_is_closed_in_time(self) -> None:
        server = self.start_tls_server("--handshake-seconds=3")
        began = time.monotonic()
        halves = [self.half_handshake(server) for _ in range(CROWD)]
        opened = time.monotonic()
        wait_until(lambda: all(is_closed(half) for half in halves), "they are closed", 3 + OVERDUE_SECONDS)
        # Not before their time: the others that are slow get through.
        self.assertGreaterEqual(time.monotonic() - began, 3 - 0.1)
        print(f"closed {time.monotonic() - opened:.1f} s after the last began")
        self.check_push(server, 1)


if __name__ == "__main__":
    python_cases.main()
