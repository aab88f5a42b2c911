"""Over TLS the client knows its server and is known by it, a token goes with each call, and a wrong setting is told at
once. The TLS is grpcio's own server's, which passes every call on to the real one."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import weightstream
from weightstream import Client, TlsOptions

from client.python.tests.interposer import Interposer
from tests.end_to_end.harness import EndToEndTest
from tools import python_cases

SERVER_NAME = "weights.internal"


class Authority:
    """Signs certificates in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.folder = folder
        self.ca = folder / "ca.pem"
        self._openssl("req", "-x509", *self._new_key("ca"), "-subj", "/CN=authority", "-days", "2", "-out", self.ca)

    def _openssl(self, *arguments: str | Path) -> None:
        subprocess.run(["/usr/bin/openssl", *arguments], check=True, capture_output=True)

    def _new_key(self, name: str) -> tuple[str | Path, ...]:
        return ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", self.key(name))

    def key(self, name: str) -> Path:
        return self.folder / f"{name}.key"

    def issue(self, name: str) -> Path:
        """A certificate for a host name; its key is key(name)."""
        request, extensions, out = (self.folder / f"{name}.{kind}" for kind in ("csr", "ext", "pem"))
        self._openssl("req", "-new", *self._new_key(name), "-subj", f"/CN={name}", "-out", request)
        extensions.write_text(f"subjectAltName=DNS:{name}\n")
        self._openssl(
            "x509", "-req", "-in", request, "-CA", self.ca, "-CAkey", self.key("ca"), "-CAcreateserial",
            "-days", "2", "-extfile", extensions, "-out", out,
        )  # fmt: skip
        return out


class Secured(EndToEndTest):
    def setUp(self) -> None:
        super().setUp()
        self.authority = Authority(self.folder / "authority")
        self.cert = self.authority.issue(SERVER_NAME)
        self.weights = {"weight": np.random.default_rng(3).standard_normal((500, 700))}

    def serve(self, client_ca: Path | None = None, **hooks: Any) -> str:
        pair = (self.authority.key(SERVER_NAME).read_bytes(), self.cert.read_bytes())
        credentials = grpc.ssl_server_credentials(
            [pair], client_ca.read_bytes() if client_ca else None, require_client_auth=client_ca is not None
        )
        between = Interposer(self.start_server().address, hooks, credentials)
        self.addCleanup(between.close)
        return between.address

    def assert_there_and_back(self, address: str, **options: Any) -> None:
        with Client(address, **options) as client:
            client.push("model", None, self.weights)
            self.assertEqual(client.pull("model").numpy()["weight"].tobytes(), self.weights["weight"].tobytes())

    def test_weights_go_over_tls(self) -> None:
        address = self.serve()
        for ca in (self.authority.ca, str(self.authority.ca), self.authority.ca.read_bytes()):
            self.assert_there_and_back(address, tls=TlsOptions(ca=ca, server_name=SERVER_NAME))

    def test_a_certificate_of_ones_own_is_shown(self) -> None:
        address = self.serve(client_ca=self.authority.ca)
        tls = TlsOptions(
            ca=self.authority.ca,
            cert=self.authority.issue("trainer"),
            key=self.authority.key("trainer"),
            server_name=SERVER_NAME,
        )
        self.assert_there_and_back(address, tls=tls)

    def test_a_server_that_cannot_be_known_is_told_at_once(self) -> None:
        address = self.serve()
        other = Authority(self.folder / "other")
        for tls in (
            TlsOptions(ca=other.ca, server_name=SERVER_NAME),
            TlsOptions(ca=self.authority.ca, server_name="another.name"),
        ):
            with Client(address, tls=tls) as client, self.assertRaises(weightstream.UnavailableError) as caught:
                client.push("model", 1, self.weights)
            # Not after the 30 seconds of an outage.
            self.assertNotIn("no answer for", str(caught.exception))

    def test_the_token_goes_with_each_call(self) -> None:
        tokens: list[tuple[str, str]] = []

        def hook(name: str) -> Any:
            def note(before: int, request: Any, pass_on: Any, context: Any) -> Any:
                tokens.append((name, dict(context.invocation_metadata()).get("authorization", "")))
                return pass_on(request)

            return note

        calls = ("GetModel", "BeginUpdate", "Push", "CommitUpdate", "GetManifest", "Pull", "DigestModel", "WatchModel")
        address = self.serve(**{name: hook(name) for name in calls})
        turns = iter(range(1000))
        tls = TlsOptions(ca=self.authority.ca, server_name=SERVER_NAME)
        self.assert_there_and_back(address, tls=tls, token=lambda: f"turn-{next(turns)}\n")
        with Client(address, tls=tls, token="fixed") as client:
            self.assertEqual(client.verify("model", self.weights), [])
            next(client.watch("model"))
        self.assertEqual({name for name, _ in tokens}, set(calls))
        self.assertTrue(all(token.startswith("Bearer ") for _, token in tokens), tokens)
        self.assertEqual([t for n, t in tokens if n in ("DigestModel", "WatchModel")], ["Bearer fixed"] * 2)
        self.assertEqual(len({token for _, token in tokens}), len(tokens) - 1)


if __name__ == "__main__":
    python_cases.main()
