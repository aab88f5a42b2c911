"""Over TLS the client knows its server and is known by it, a token goes with each call, and a wrong setting is told at
once, with its cause: against the real server."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from typing import Any

import numpy as np
import weightstream
from weightstream import Client, Limits, TlsOptions

from client.python.tests.interposer import Interposer
from tests.end_to_end.certificates import Ca, Pair
from tests.end_to_end.checkpoints import Tensor
from tests.end_to_end.harness import EndToEndTest
from tests.end_to_end.processes import Server
from tools import python_cases

READER = "reader-token-0123456789abcdef"
PUSHER = "pusher-token-0123456789abcdef"
ADMIN = "admin-token-0123456789abcdef"
TOKENS = f"read * token:{READER}\npush model token:{PUSHER}\nadmin * token:{ADMIN}\npush * subject:trainer\n"
# What a wrong setting must not take: it is told at once.
PATIENT = Limits(connect=600)


class SecurityTest(EndToEndTest):
    def setUp(self) -> None:
        super().setUp()
        self.ca = Ca(self.folder, "ours")
        self.weights = {"weight": np.random.default_rng(3).standard_normal((500, 700))}
        self.tensors = [Tensor("weight", "F64", (500, 700), self.weights["weight"].tobytes())]

    def serve(self, *flags: str, pair: Pair | None = None) -> Server:
        pair = pair or self.ca.sign("server")
        return self.start_server(f"--tls-cert={pair.certificate}", f"--tls-key={pair.key}", *flags)

    def tokens(self) -> str:
        path = self.folder / "tokens"
        path.write_text(TOKENS)
        return f"--auth-token-file={path}"

    def trusting(self, pair: Pair | None = None, **more: Any) -> TlsOptions:
        if pair:
            more |= {"cert": pair.certificate, "key": pair.key}
        return TlsOptions(ca=self.ca.certificate, **more)

    def assert_there_and_back(self, server: Server, **options: Any) -> None:
        with Client(server.address, **options) as client:
            client.push("model", None, self.weights)
            self.assertEqual(client.pull("model")["weight"].data, self.weights["weight"].tobytes())
            self.assertEqual(client.verify("model", self.weights), [])
            self.assertEqual(client.load("model")["weight"].data, self.weights["weight"].tobytes())
            self.assertGreater(next(client.watch("model")).current_version, 0)
        self.assert_current(server, "model", self.tensors)

    def assert_told_at_once(self, server: Server, words: str, tls: TlsOptions | bool) -> None:
        """Whatever is called first: a push, a read or a watch."""
        calls: list[Callable[[Client], Any]] = [
            lambda client: client.push("model", 1, self.weights),
            lambda client: client.pull("model"),
            lambda client: client.models(),
            lambda client: next(client.watch("model")),
        ]
        for call in calls:
            with (
                Client(server.address, tls=tls, limits=PATIENT) as client,
                self.assertRaisesRegex(weightstream.UnauthenticatedError, f"TLS handshake failed: .*{words}"),
            ):
                call(client)


class Handshakes(SecurityTest):
    def test_weights_go_over_tls(self) -> None:
        server = self.serve()
        for ca in (self.ca.certificate, str(self.ca.certificate), self.ca.certificate.read_bytes()):
            self.assert_there_and_back(server, tls=TlsOptions(ca=ca))

    def test_a_name_that_is_not_that_of_the_address_is_given(self) -> None:
        server = self.serve(pair=self.ca.sign("elsewhere", "DNS:weights.internal"))
        self.assert_there_and_back(server, tls=self.trusting(server_name="weights.internal"))

    def test_a_certificate_of_ones_own_is_shown(self) -> None:
        server = self.serve(f"--tls-client-ca={self.ca.certificate}")
        trainer = self.ca.sign("trainer")
        self.assert_there_and_back(server, tls=self.trusting(trainer))
        cert, key = trainer.certificate.read_bytes(), trainer.key.read_bytes()
        self.assert_there_and_back(server, tls=TlsOptions(ca=self.ca.certificate, cert=cert, key=key))

    def test_a_server_of_another_authority(self) -> None:
        tls = TlsOptions(ca=Ca(self.folder, "other").certificate)
        server = self.serve()
        # Nor is it in gRPC's own list.
        for trusted in (tls, True):
            self.assert_told_at_once(server, "certificate is not accepted.*give the CA", trusted)

    def test_a_server_whose_certificate_has_expired(self) -> None:
        pair = self.ca.sign_expired("old")
        self.assert_told_at_once(self.serve(pair=pair), "certificate has expired.*renew", self.trusting())

    def test_a_server_of_another_name(self) -> None:
        tls = self.trusting(server_name="another.name")
        self.assert_told_at_once(self.serve(), "for another name.*TlsOptions.server_name", tls)

    def test_a_client_without_the_certificate_that_is_required(self) -> None:
        server = self.serve(f"--tls-client-ca={self.ca.certificate}")
        self.assert_told_at_once(server, "requires a client certificate", self.trusting())

    def test_a_client_whose_certificate_is_refused(self) -> None:
        server = self.serve(f"--tls-client-ca={self.ca.certificate}")
        for pair in (Ca(self.folder, "other").sign("trainer"), self.ca.sign_expired("trainer")):
            self.assert_told_at_once(server, "refuses this client's certificate", self.trusting(pair))

    def test_one_side_speaks_plaintext(self) -> None:
        self.assert_told_at_once(self.serve(), "the server speaks TLS and this client plaintext; give tls=", False)
        plaintext = self.start_server(data_dir=self.data_dir("plaintext"))
        self.assert_told_at_once(plaintext, "the server does not speak TLS", self.trusting())

    def test_a_key_that_is_not_the_certificates_or_wants_a_passphrase(self) -> None:
        server = self.serve(f"--tls-client-ca={self.ca.certificate}")
        trainer, other = self.ca.sign("trainer"), self.ca.sign("other")
        locked = self.folder / "locked.key"
        encrypt = ["openssl", "ec", "-in", str(trainer.key), "-aes256", "-passout", "pass:secret", "-out", str(locked)]
        subprocess.run(encrypt, check=True, capture_output=True)
        for key in (other.key, locked):
            self.assert_told_at_once(server, "key is the key of cert", self.trusting(Pair(trainer.certificate, key)))

    def test_certificates_that_were_renewed_are_taken_up(self) -> None:
        """By each new connection, and each push makes some."""
        server = self.serve(f"--tls-client-ca={self.ca.certificate}")
        live = self.ca.sign("trainer")
        with Client(server.address, tls=self.trusting(live), connections=1) as client:
            client.push("model", None, self.weights)
            old = self.ca.sign_expired("old-trainer")
            for source, target in ((old.certificate, live.certificate), (old.key, live.key)):
                target.write_bytes(source.read_bytes())
            with self.assertRaises(weightstream.WeightStreamError):
                client.push("model", 7, self.weights)
            renewed = self.ca.sign("trainer")
            self.assertEqual(renewed, live)
            client.push("model", 8, self.weights)


class Tokens(SecurityTest):
    def test_each_call_is_known_by_its_token_or_certificate(self) -> None:
        server = self.serve(self.tokens())
        self.assert_there_and_back(server, tls=self.trusting(), token=PUSHER)
        self.assert_there_and_back(server, tls=self.trusting(), token=lambda: f"{ADMIN}\n")
        with Client(server.address, tls=self.trusting(), token=ADMIN) as client:
            self.assertEqual(client.rollback("model", 1).current_version, 1)
        for token in (PUSHER, ADMIN):
            self.assertNotIn(token, server.log())

    def test_a_certificates_subject_is_a_role(self) -> None:
        server = self.serve(f"--tls-client-ca={self.ca.certificate}", self.tokens())
        self.assert_there_and_back(server, tls=self.trusting(self.ca.sign("trainer")))

    def test_none_and_an_unknown_one_are_unauthenticated(self) -> None:
        server = self.serve(self.tokens())
        for token in (None, "0" + PUSHER):
            with (
                Client(server.address, tls=self.trusting(), token=token, limits=PATIENT) as client,
                self.assertRaisesRegex(weightstream.UnauthenticatedError, "token") as caught,
            ):
                client.push("model", 1, self.weights)
            self.assertNotIn(PUSHER, str(caught.exception))

    def test_a_role_that_does_not_suffice_is_denied(self) -> None:
        server = self.serve(self.tokens())
        for token, model, words in (
            (READER, "model", "BeginUpdate of model 'model' needs the role push; this caller has the role read"),
            (PUSHER, "other", "'other'.*the role"),
        ):
            with (
                Client(server.address, tls=self.trusting(), token=token) as client,
                self.assertRaisesRegex(weightstream.PermissionDeniedError, words),
            ):
                client.push(model, 1, self.weights)

    def test_over_plaintext_on_the_same_host_where_the_server_allows_it(self) -> None:
        server = self.start_server(self.tokens(), "--allow-plaintext-tokens")
        self.assert_there_and_back(server, token=PUSHER)

    def test_it_is_asked_for_before_each_call(self) -> None:
        tokens: list[tuple[str, str]] = []

        def hook(name: str) -> Any:
            def note(before: int, request: Any, pass_on: Any, context: Any) -> Any:
                tokens.append((name, dict(context.invocation_metadata()).get("authorization", "")))
                return pass_on(request)

            return note

        calls = ("GetModel", "BeginUpdate", "Push", "CommitUpdate", "GetManifest", "Pull", "DigestModel", "WatchModel")
        between = Interposer(self.start_server().address, {name: hook(name) for name in calls})
        self.addCleanup(between.close)
        turns = iter(range(1000))
        with Client(between.address, token=lambda: f"turn-{next(turns)}\n") as client:
            client.push("model", None, self.weights)
            client.pull("model")
            self.assertEqual(client.verify("model", self.weights), [])
            next(client.watch("model"))
        self.assertEqual({name for name, _ in tokens}, set(calls))
        self.assertTrue(all(token.startswith("Bearer turn-") for _, token in tokens), tokens)
        self.assertEqual(len({token for _, token in tokens}), len(tokens))

    def test_one_that_no_header_can_carry_is_refused_and_not_shown(self) -> None:
        server = self.serve(self.tokens())
        for odd in ("two words", "line\nbreak", "ü" * 20, ""):
            with (
                self.subTest(odd),
                Client(server.address, tls=self.trusting(), token=odd) as client,
                self.assertRaisesRegex(weightstream.InvalidArgumentError, f"the token, of {len(odd)} char") as caught,
            ):
                client.models()
            if odd:
                self.assertNotIn(odd, str(caught.exception))


if __name__ == "__main__":
    python_cases.main()
