"""Every gRPC code is an exception of its own, with the server's words; what is unsafe is refused at once."""

from __future__ import annotations

import threading
from typing import Any

import grpc
import numpy as np
import weightstream
from weightstream import Client, Limits, TlsOptions, WeightStreamError
from weightstream.retries import CallKind, Remedy, remedy_for

from client.python.tests.interposer import Interposer
from tests.end_to_end.harness import EndToEndTest
from tools import python_cases

CODES = {
    grpc.StatusCode.INVALID_ARGUMENT: weightstream.InvalidArgumentError,
    grpc.StatusCode.RESOURCE_EXHAUSTED: weightstream.ResourceExhaustedError,
    grpc.StatusCode.FAILED_PRECONDITION: weightstream.FailedPreconditionError,
    grpc.StatusCode.ALREADY_EXISTS: weightstream.AlreadyExistsError,
    grpc.StatusCode.DATA_LOSS: weightstream.DataLossError,
    grpc.StatusCode.NOT_FOUND: weightstream.NotFoundError,
    grpc.StatusCode.ABORTED: weightstream.AbortedError,
    grpc.StatusCode.UNAVAILABLE: weightstream.UnavailableError,
    grpc.StatusCode.DEADLINE_EXCEEDED: weightstream.DeadlineExceededError,
    grpc.StatusCode.UNAUTHENTICATED: weightstream.UnauthenticatedError,
    grpc.StatusCode.PERMISSION_DENIED: weightstream.PermissionDeniedError,
    grpc.StatusCode.CANCELLED: weightstream.CancelledError,
    grpc.StatusCode.UNIMPLEMENTED: weightstream.UnimplementedError,
    grpc.StatusCode.INTERNAL: weightstream.InternalError,
    grpc.StatusCode.UNKNOWN: WeightStreamError,
}


class Codes(EndToEndTest):
    def test_each_code_is_an_exception_with_the_servers_words(self) -> None:
        code = grpc.StatusCode.UNKNOWN

        def fail(before: int, request: Any, pass_on: Any, context: Any) -> Any:
            context.abort(code, f"the words of {code.name}")

        server = self.start_server()
        between = Interposer(server.address, {"RollbackModel": fail})
        self.addCleanup(between.close)
        with Client(between.address, limits=Limits(connect=0.2)) as client:
            for code, kind in CODES.items():
                with self.subTest(code.name), self.assertRaisesRegex(kind, f"the words of {code.name}") as caught:
                    client.rollback("model", 1)
                self.assertIs(type(caught.exception), kind)
                self.assertIs(caught.exception.code, code)
                self.assertEqual(caught.exception.address, between.address)

    def test_a_superseded_push_is_aborted_and_not_tried_again(self) -> None:
        server = self.start_server()
        proxy = self.start_proxy(server, 1 << 20)
        older = Client(proxy.address)
        self.addCleanup(older.close)
        outcome: list[WeightStreamError] = []

        def push() -> None:
            try:
                older.push("model", 1, {"weight": np.zeros(1 << 20)}, chunk_bytes=65536)
            except WeightStreamError as error:
                outcome.append(error)

        thread = threading.Thread(target=push)
        thread.start()
        self.await_landed(server, "model")
        with Client(server.address) as client:
            client.push("model", 2, {})
        proxy.allow(None)
        thread.join(60)
        self.assertIsInstance(outcome[0], weightstream.AbortedError)
        self.assertRegex(str(outcome[0]), "superseded|newer|version 2")

    def test_a_closed_client_says_so(self) -> None:
        server = self.start_server()
        client = Client(server.address)
        client.models()
        client.close()
        with self.assertRaisesRegex(weightstream.CancelledError, "closed"):
            client.models()


class Rules(EndToEndTest):
    def test_what_is_lost_on_the_way_is_tried_again_and_the_servers_word_is_not(self) -> None:
        for kind in CallKind:
            self.assertIs(remedy_for(kind, weightstream.UnavailableError("gone")), Remedy.RETRY)
            self.assertIs(remedy_for(kind, weightstream.InternalError("RST_STREAM with error 11")), Remedy.RETRY)
            self.assertIs(remedy_for(kind, weightstream.InvalidArgumentError("no")), Remedy.GIVE_UP)
            self.assertIs(remedy_for(kind, weightstream.AbortedError("superseded")), Remedy.GIVE_UP)
        self.assertIs(remedy_for(CallKind.COMMIT, weightstream.NotFoundError("?")), Remedy.ASK_WHETHER_COMMITTED)
        self.assertIs(remedy_for(CallKind.PUSH, weightstream.NotFoundError("?")), Remedy.BEGIN_AGAIN)

    def test_a_token_does_not_leave_the_host_in_plain_text(self) -> None:
        for address in ("10.0.0.5:7070", "host.example:7070", "dns:///host.example:1", "[2001:db8::1]:7"):
            with self.assertRaisesRegex(weightstream.InvalidArgumentError, "plain text"):
                Client(address, token="secret")
            Client(address, token="secret", allow_plaintext_token=True).close()
            Client(address, token="secret", tls=True).close()
        for address in ("127.0.0.1:7070", "[::1]:7070", "localhost:7070", "unix:/run/weightstream"):
            Client(address, token="secret").close()

    def test_senseless_options_are_refused(self) -> None:
        for address in ("", "host", "host:port", ":7070", "http://host:7070"):
            with self.subTest(address), self.assertRaises(weightstream.InvalidArgumentError):
                Client(address)
        with self.assertRaisesRegex(weightstream.InvalidArgumentError, "stall is 0"):
            Limits(stall=0)
        with self.assertRaisesRegex(weightstream.InvalidArgumentError, "connections is 0"):
            Client("host:1", connections=0)
        with self.assertRaisesRegex(weightstream.InvalidArgumentError, "both cert and key"):
            TlsOptions(cert=b"")
        with self.assertRaisesRegex(weightstream.NotFoundError, r"TlsOptions\.ca.*absent\.pem"):
            Client("host:1", tls=TlsOptions(ca=self.folder / "absent.pem"))


if __name__ == "__main__":
    python_cases.main()
