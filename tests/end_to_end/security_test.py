"""TLS, mutual TLS, tokens and unix sockets, with the processes as they are shipped."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import ssl
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import numpy as np
from weightstream.v1 import weightstream_pb2 as ws
from weightstream.v1.weightstream_pb2_grpc import WeightStreamStub

from tests.end_to_end.certificates import Ca, Pair
from tests.end_to_end.checkpoints import Tensor, random_tensor, write_safetensors
from tests.end_to_end.harness import EndToEndTest
from tests.end_to_end.processes import START_SECONDS, Server, binary
from tests.end_to_end.waiting import wait_until
from tests.end_to_end.wire import CALL_SECONDS, refused
from tools import python_cases

KIB = 1 << 10
READER = "reader-token-0123456789abcdef"
PUSHER = "pusher-token-0123456789abcdef"
ADMIN = "admin-token-0123456789abcdef"
TOKENS = f"read * token:{READER}\npush model token:{PUSHER}\nadmin * token:{ADMIN}\nadmin * subject:ops\n"


@dataclass(frozen=True)
class Transport:
    """One way to reach a server: the flags of both sides."""

    name: str
    listen: str
    server_flags: list[str]
    client_flags: list[str]


class SecurityTest(EndToEndTest):
    def setUp(self) -> None:
        super().setUp()
        self.ca = Ca(self.folder, "ours")

    def tensors(self, seed: int = 1) -> list[Tensor]:
        rng = np.random.default_rng(seed)
        return [random_tensor(rng, f"tensor.{i}", "BF16", (1000 + i, 64)) for i in range(4)]

    def source(self, seed: int = 1) -> Path:
        path = self.folder / f"source-{seed}.safetensors"
        return path if path.exists() else write_safetensors(path, self.tensors(seed))

    def token_file(self, token: str) -> Path:
        path = self.folder / f"{token.partition('-')[0]}.token"
        path.write_text(token + "\n")
        return path

    def tokens(self, text: str = TOKENS) -> Path:
        """The server's file, replaced as a careful writer does."""
        path = self.folder / "tokens"
        new = self.folder / "tokens.new"
        new.write_text(text)
        new.replace(path)
        return path

    def tls_flags(self, pair: Pair) -> list[str]:
        return [f"--tls-cert={pair.certificate}", f"--tls-key={pair.key}"]

    def start_tls_server(self, *flags: str) -> Server:
        return self.start_server(*self.tls_flags(self.ca.sign("server")), *flags)

    def error(self, server: Server | str, *flags: str) -> str:
        """How `status` fails."""
        address = server if isinstance(server, str) else server.address
        return self.weightstream("status", f"--to={address}", *flags, code=1).error

    def transports(self) -> list[Transport]:
        server = self.tls_flags(self.ca.sign("server"))
        ours = f"--tls-ca={self.ca.certificate}"
        tokens = f"--auth-token-file={self.tokens()}"
        admin = f"--auth-token-file={self.token_file(ADMIN)}"
        mutual = [*server, f"--tls-client-ca={self.ca.certificate}"]
        socket_address = f"unix:{self.shared_memory}/s"
        client = self.tls_flags(self.ca.sign("ops"))
        tcp = "127.0.0.1:0"
        return [
            Transport("plaintext", tcp, [], []),
            Transport("unix socket", socket_address, [], []),
            Transport("unix socket with tokens", socket_address, [tokens], [admin]),
            Transport("TLS", tcp, server, [ours]),
            Transport("TLS with tokens", tcp, [*server, tokens], [ours, admin]),
            Transport("TLS over a unix socket", socket_address, server, [ours]),
            Transport("mutual TLS", tcp, mutual, [ours, *client]),
            Transport("mutual TLS with roles", tcp, [*mutual, tokens], [ours, *client]),
        ]


class EveryTransport(SecurityTest):
    def check_flow(self, server: Server, flags: list[str]) -> None:
        to = (f"--to={server.address}", "--model=model", *flags)
        for version in (1, 2):
            self.weightstream("push", self.source(version), *to, f"--version={version}", "--bucket-mib=0.0625")
        self.assert_current(server, "model", self.tensors(2))
        self.weightstream("verify", self.source(2), *to)
        out = self.folder / "out"
        self.weightstream("pull", f"--from={server.address}", "--model=model", f"--out={out}", "--version=1", *flags)
        self.assertEqual((out / "model.safetensors").read_bytes(), self.version_file(server, 1).read_bytes())
        self.weightstream("rollback", *to, "--version=1")
        self.weightstream("watch", *to, "--until-version=1", "--timeout-seconds=60")
        (state,) = self.weightstream("status", *to).json["servers"][0]["models"]
        self.assertEqual(state["current_version"], 1)

    def version_file(self, server: Server, version: int) -> Path:
        return server.data_dir / "model" / str(version) / "model.safetensors"

    def test_the_whole_flow_is_the_same(self) -> None:
        for number, transport in enumerate(self.transports()):
            with self.subTest(transport=transport.name):
                server = self.start_server(
                    *transport.server_flags, data_dir=self.data_dir(f"data-{number}"), listen=transport.listen
                )
                self.check_flow(server, transport.client_flags)
                server.stop()
                for token in (READER, PUSHER, ADMIN):
                    self.assertNotIn(token, server.log())


class Handshakes(SecurityTest):
    """What fails is named, and is not tried again: the time to connect is ten minutes in each of these."""

    PATIENT = "--connect-seconds=600"

    def push_error(self, server: Server, *flags: str) -> str:
        error = self.push(self.source(), server.address, "model", self.PATIENT, *flags, code=1).error
        self.assertIn("UNAUTHENTICATED", error)
        self.assertEqual(self.error(server, *flags).partition(";")[0].count("UNAUTHENTICATED"), 1)
        return error

    def test_a_server_of_another_ca(self) -> None:
        other = Ca(self.folder, "other")
        server = self.start_tls_server()
        error = self.push_error(server, f"--tls-ca={other.certificate}")
        self.assertIn("not signed by a CA that is trusted here", error)
        self.assertIn("not signed by a CA", self.push_error(server, "--tls"))

    def test_a_server_of_another_name(self) -> None:
        pair = self.ca.sign("elsewhere", "DNS:elsewhere.example")
        server = self.start_server(*self.tls_flags(pair))
        error = self.push_error(server, f"--tls-ca={self.ca.certificate}")
        for words in ('not for "127.0.0.1"', "DNS:elsewhere.example", "--tls-server-name"):
            self.assertIn(words, error)
        named = "--tls-server-name=elsewhere.example"
        self.push(self.source(), server.address, "model", f"--tls-ca={self.ca.certificate}", named)

    def test_a_client_without_the_certificate_that_is_required(self) -> None:
        server = self.start_tls_server(f"--tls-client-ca={self.ca.certificate}")
        error = self.push_error(server, f"--tls-ca={self.ca.certificate}")
        self.assertIn("requires a client certificate", error)
        other = Ca(self.folder, "other").sign("client")
        error = self.push_error(server, f"--tls-ca={self.ca.certificate}", *self.tls_flags(other))
        self.assertIn("refuses this client's certificate", error)

    def test_plaintext_to_tls_and_the_reverse(self) -> None:
        self.assertIn("the server speaks TLS and this client plaintext", self.push_error(self.start_tls_server()))
        plain = self.start_server(data_dir=self.data_dir("plain"))
        self.assertIn("does not speak TLS", self.push_error(plain, f"--tls-ca={self.ca.certificate}"))

    def test_a_watch_gives_up_as_well(self) -> None:
        server = self.start_tls_server()
        ended = self.weightstream("watch", f"--to={server.address}", self.PATIENT, code=1)
        self.assertIn("the server speaks TLS", ended.error)

    def test_files_of_the_client_that_are_not_sound(self) -> None:
        server = self.start_tls_server()
        for flags, words in (
            ([f"--tls-ca={self.folder}/none"], ["--tls-ca=", "No such file"]),
            ([f"--tls-ca={self.source()}"], ["--tls-ca=", "holds no certificate"]),
            (["--tls", f"--auth-token-file={self.folder}/none"], ["--auth-token-file=", "No such file"]),
        ):
            for word in words:
                self.assertIn(word, self.error(server, *flags))
        self.weightstream("status", f"--to={server.address}", f"--tls-cert={self.folder}/x", code=2)

    def test_the_exit_code_is_the_command_s_own_whatever_tls_was_doing(self) -> None:
        # gRPC's threads may be in OpenSSL when the command ends: one of sixty crashed as that was taken down.
        with socket.socket() as nobody:
            nobody.bind(("127.0.0.1", 0))
            address = f"127.0.0.1:{nobody.getsockname()[1]}"
            flags = [f"--tls-ca={self.ca.certificate}", *self.tls_flags(self.ca.sign("client"))]
            command = [binary("WEIGHTSTREAM"), "watch", f"--to={address}", "--model=model", *flags]
            command += ["--until-version=1", "--timeout-seconds=1", "--connect-seconds=1"]
            for _ in range(8):
                batch = [subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) for _ in range(8)]
                for process in batch:
                    error = process.communicate(timeout=START_SECONDS)[1]
                    self.assertEqual(process.returncode, 1, error)

    def test_a_log_in_json_stays_one(self) -> None:
        server = self.start_tls_server("--log-format=json", f"--tls-client-ca={self.ca.certificate}")
        for flags in ([], [f"--tls-ca={self.ca.certificate}"]):
            self.push_error(server, *flags)
        with socket.create_connection(("127.0.0.1", server.port), timeout=30) as plain:
            plain.sendall(b"GET / HTTP/1.1\r\n\r\n")
            with contextlib.suppress(ConnectionResetError):
                plain.recv(1)

        def told() -> list[dict[str, Any]]:
            lines = [json.loads(line) for line in server.log().splitlines(keepends=True) if line.endswith("\n")]
            return [line for line in lines if line["event"] == "grpc"]

        wait_until(lambda: len(told()) >= 3, "each of the handshakes is told of")
        self.assertLessEqual({"time", "level", "message", "at"}, set(told()[0]))

    def test_a_server_that_does_not_start_says_so_in_json(self) -> None:
        flags = ["--log-format=json", f"--data-dir={self.data_dir()}"]
        for listen, more, code in (("127.0.0.1:0", ["--tls-cert=/nowhere", "--tls-key=/nowhere"], 1), ("9", [], 2)):
            command = [binary("WEIGHTSTREAM_SERVER"), *flags, f"--listen={listen}", *more]
            ended = subprocess.run(command, capture_output=True, text=True, timeout=START_SECONDS)
            self.assertEqual(ended.returncode, code, ended.stderr)
            self.assertIn("cannot_start", [json.loads(line)["event"] for line in ended.stderr.splitlines()])

    def handshake(self, server: Server, version: ssl.TLSVersion) -> str:
        context = ssl.create_default_context(cafile=str(self.ca.certificate))
        context.set_alpn_protocols(["h2"])
        # Debian forbids its own programs old versions; this client must be able to speak them.
        context.set_ciphers("DEFAULT:@SECLEVEL=0")
        context.minimum_version = context.maximum_version = version
        with (
            socket.create_connection(("127.0.0.1", server.port), timeout=30) as plain,
            context.wrap_socket(plain, server_hostname="localhost") as secured,
        ):
            return secured.version() or ""

    def test_tls_below_1_2_is_refused(self) -> None:
        server = self.start_tls_server()
        for version in (ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1):
            with self.assertRaises((ssl.SSLError, ConnectionError)):
                self.handshake(server, version)
        # OpenSSL's words in the server's log: it was the server that did not want them.
        wait_until(lambda: server.log().count("unsupported protocol") >= 2, "the server says why it refused")
        self.assertEqual(self.handshake(server, ssl.TLSVersion.TLSv1_2), "TLSv1.2")
        self.assertEqual(self.handshake(server, ssl.TLSVersion.TLSv1_3), "TLSv1.3")


class SafeByDefault(SecurityTest):
    def start_refused(self, *flags: str, code: int) -> str:
        command = [binary("WEIGHTSTREAM_SERVER"), f"--data-dir={self.data_dir()}", *flags]
        ended = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=START_SECONDS)
        self.assertEqual((ended.returncode, ended.stdout), (code, ""), ended.stderr)
        return ended.stderr

    def test_plaintext_is_not_served_to_other_hosts_unless_it_is_allowed(self) -> None:
        message = self.start_refused("--listen=0.0.0.0:0", code=2)
        for word in ("--tls-cert and --tls-key", "--allow-plaintext", "127.0.0.1"):
            self.assertIn(word, message)
        server = self.start_server("--allow-plaintext", listen="0.0.0.0:0")
        self.weightstream("status", f"--to=127.0.0.1:{server.port}")
        self.start_server(*self.tls_flags(self.ca.sign("server")), data_dir=self.data_dir("tls"), listen="0.0.0.0:0")

    def test_tokens_do_not_travel_in_plaintext_unless_it_is_allowed_on_both_sides(self) -> None:
        tokens = f"--auth-token-file={self.tokens()}"
        self.assertIn("--allow-plaintext-tokens", self.start_refused(tokens, "--listen=127.0.0.1:0", code=2))
        server = self.start_server(tokens, "--allow-plaintext-tokens")
        reader = f"--auth-token-file={self.token_file(READER)}"
        self.assertIn("--allow-plaintext-token", self.error(server, reader))
        self.weightstream("status", f"--to={server.address}", reader, "--allow-plaintext-token")

    def test_files_of_the_server_that_are_not_sound(self) -> None:
        pair = self.ca.sign("server")
        other = self.ca.sign("other")
        broken = self.tokens("read *\n")
        listen = "--listen=127.0.0.1:0"
        for flags, words in (
            ([f"--tls-cert={pair.certificate}", f"--tls-key={other.key}"], ["--tls-key=", "is not the key"]),
            ([f"--tls-cert={self.folder}/none", f"--tls-key={pair.key}"], ["--tls-cert=", "No such file"]),
            ([*self.tls_flags(pair), f"--tls-client-ca={pair.key}"], ["--tls-client-ca=", "holds no certificate"]),
            ([*self.tls_flags(pair), f"--auth-token-file={broken}"], ["--auth-token-file=", "line 1"]),
        ):
            message = self.start_refused(listen, *flags, code=1)
            for word in words:
                self.assertIn(word, message)
        cut = self.tokens(TOKENS.rstrip())
        message = self.start_refused(listen, *self.tls_flags(pair), f"--auth-token-file={cut}", code=1)
        self.assertIn("line 4, the last one, may be cut off", message)
        self.start_refused(listen, f"--tls-cert={pair.certificate}", code=2)

    def test_the_age_is_for_mutual_tls(self) -> None:
        message = self.start_refused("--max-connection-age-seconds=60", code=2)
        self.assertIn("--tls-client-ca", message)

    def test_a_unix_socket_is_for_owner_and_group_whatever_the_umask(self) -> None:
        before = os.umask(0)
        try:
            self.start_server(listen=f"unix:{self.shared_memory}/s")
        finally:
            os.umask(before)
        self.assertEqual((self.shared_memory / "s").stat().st_mode & 0o7777, 0o660)


class Replaced(SecurityTest):
    """Certificates and tokens are replaced under a push that is held in the middle, and it ends well."""

    def test_under_a_running_push(self) -> None:
        live = Pair(self.folder / "live.pem", self.folder / "live.key")
        first = self.ca.sign("server")
        shutil.copy(first.certificate, live.certificate)
        shutil.copy(first.key, live.key)
        server = self.start_server(*self.tls_flags(live), f"--auth-token-file={self.tokens()}")
        proxy = self.start_proxy(server, allowed_bytes=300 * KIB)
        mine = self.token_file(PUSHER)
        flags = (f"--tls-ca={self.ca.certificate}", f"--auth-token-file={mine}", "--bucket-mib=0.0625")
        push = self.start_command("push", self.source(), f"--to={proxy.address}", "--model=model", *flags)
        wait_until(lambda: proxy.passed_bytes == 300 * KIB, "the push is in the middle")

        next_ca = Ca(self.folder, "next")
        pair = next_ca.sign("server")
        for new, old in ((pair.certificate, live.certificate), (pair.key, live.key)):
            copy = old.with_suffix(".new")
            shutil.copy(new, copy)
            copy.replace(old)
        added = "another-token-0123456789abcdef"
        self.tokens(TOKENS + f"read * token:{added}\n")

        def answers(ca: Ca, token: str) -> bool:
            status = self.start_command(
                *("status", f"--to={server.address}", f"--tls-ca={ca.certificate}"),
                f"--auth-token-file={self.token_file(token)}",
            )
            return status.outcome().code == 0

        wait_until(lambda: answers(next_ca, added), "the new certificate and token are in use")
        self.assertFalse(answers(self.ca, added))
        self.assertTrue(push.running())
        proxy.allow(None)
        outcome = push.outcome()
        self.assertEqual(outcome.code, 0, outcome.stderr)
        self.assert_current(server, "model", self.tensors())

    def test_what_is_broken_is_logged_and_changes_nothing(self) -> None:
        live = Pair(self.folder / "live.pem", self.folder / "live.key")
        shutil.copy(self.ca.sign("server").certificate, live.certificate)
        shutil.copy(self.folder / "ours-server.key", live.key)
        server = self.start_server(*self.tls_flags(live), f"--auth-token-file={self.tokens()}")
        live.certificate.write_text("-----BEGIN CERTIFICATE-----\nnonsense\n")
        self.tokens(f"read * {READER}\n")
        for event in ("tls_not_reloaded", "access_rules_not_reloaded"):
            wait_until(lambda event=event: event in server.log(), event)  # type: ignore[misc]
        self.assertIn("line 1", server.log())
        self.assertNotIn(READER, server.log())
        reader = f"--auth-token-file={self.token_file(READER)}"
        self.weightstream("status", f"--to={server.address}", f"--tls-ca={self.ca.certificate}", reader)


class Ages(SecurityTest):
    def test_a_push_outlasts_its_connections_age(self) -> None:
        """Half a MiB takes seconds at this rate, and connections get no new calls after half a second."""
        mutual = [*self.tls_flags(self.ca.sign("server")), f"--tls-client-ca={self.ca.certificate}"]
        server = self.start_server(*mutual, "--max-connection-age-seconds=0.5", "--max-peer-mib-per-second=0.125")
        client = [f"--tls-ca={self.ca.certificate}", *self.tls_flags(self.ca.sign("ops"))]
        for version in (1, 2):
            flags = (f"--version={version}", "--bucket-mib=0.0625", "--connections=2", *client)
            pushed = self.push(self.source(version), server.address, "model", *flags).json
            self.assertGreater(pushed["seconds"], 2)
            # A call that begins in the very moment of an end is refused and tried again; cut streams would be many.
            self.assertLess(pushed["servers"][0]["retries"], 2, "no stream was cut")
            self.assert_current(server, "model", self.tensors(version))


class Tokens(SecurityTest):
    def test_the_command_tells_what_a_token_may_not_do(self) -> None:
        server = self.start_tls_server(f"--auth-token-file={self.tokens()}")
        tls = f"--tls-ca={self.ca.certificate}"
        self.assertIn("UNAUTHENTICATED", self.error(server, tls))
        pusher = f"--auth-token-file={self.token_file(PUSHER)}"
        reader = f"--auth-token-file={self.token_file(READER)}"
        self.push(self.source(), server.address, "model", tls, pusher)
        denied = self.push(self.source(), server.address, "other", tls, pusher, "--version=1", code=1).error
        for word in ("PERMISSION_DENIED", "'other'", "the role push"):
            self.assertIn(word, denied)
        denied = self.push(self.source(), server.address, "model", tls, reader, "--version=2", code=1).error
        self.assertIn("BeginUpdate of model 'model' needs the role push; this caller has the role read", denied)

    def test_a_python_client_of_generated_stubs_has_tls_and_a_token(self) -> None:
        """As docs/security.md shows it."""
        server = self.start_tls_server(f"--auth-token-file={self.tokens()}")
        roots = self.ca.certificate.read_bytes()
        credentials = grpc.composite_channel_credentials(
            grpc.ssl_channel_credentials(root_certificates=roots),
            grpc.access_token_call_credentials(PUSHER),
        )
        with grpc.secure_channel(server.address, credentials) as channel:
            stub = WeightStreamStub(channel)
            update = stub.BeginUpdate(ws.BeginUpdateRequest(model="model", version=1), timeout=CALL_SECONDS)
            commit: Any = ws.CommitUpdateRequest(model="model", update_id=update.update_id)
            self.assertEqual(stub.CommitUpdate(commit, timeout=CALL_SECONDS).version, 1)
            with refused(self, grpc.StatusCode.PERMISSION_DENIED, "RollbackModel", "admin"):
                stub.RollbackModel(ws.RollbackModelRequest(model="model", version=1), timeout=CALL_SECONDS)
        with (
            grpc.secure_channel(server.address, grpc.ssl_channel_credentials(root_certificates=roots)) as channel,
            refused(self, grpc.StatusCode.UNAUTHENTICATED, "authorization: Bearer TOKEN"),
        ):
            WeightStreamStub(channel).ListModels(ws.ListModelsRequest(), timeout=CALL_SECONDS)


if __name__ == "__main__":
    python_cases.main()
