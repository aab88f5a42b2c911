"""A call that is wrong is told so before anything is sent: with one class, the argument's name, and what to give."""

from __future__ import annotations

import functools
import threading
import unittest
from collections.abc import Callable
from typing import Any

import numpy as np
import weightstream
from weightstream import Client, InvalidArgumentError, Limits, TlsOptions
from weightstream.source import open_source

from tools import python_cases

# Nobody is there: what is not refused at once fails otherwise.
NOWHERE = "127.0.0.1:1"
SHORT = Limits(connect=0.1)
ARRAYS = {"a": np.zeros(3)}


class OnlyDlpack:
    """A tensor of a library that nobody knows: all it has is DLPack."""

    def __init__(self, offer: Callable[[], Any]) -> None:
        self.__dlpack = offer

    def __dlpack__(self) -> Any:
        return self.__dlpack()

    def __dlpack_device__(self) -> tuple[int, int]:
        return (1, 0)


class Refused(unittest.TestCase):
    def assert_refused(self, cases: list[tuple[Callable[[], Any], str]]) -> None:
        for call, words in cases:
            with self.subTest(words), self.assertRaisesRegex(InvalidArgumentError, words) as caught:
                call()
            self.assertIsInstance(caught.exception, weightstream.WeightStreamError)
            self.assertIsInstance(caught.exception, ValueError)

    def assert_each_refused(self, call: Callable[[Any], Any], cases: list[tuple[Any, str]]) -> None:
        self.assert_refused([(functools.partial(call, value), words) for value, words in cases])

    def client(self) -> Any:
        client: Any = Client(NOWHERE, limits=SHORT)
        self.addCleanup(client.close)
        return client

    def test_how_to_reach_a_server(self) -> None:
        make: Any = Client
        limits: Any = Limits
        tls: Any = TlsOptions
        self.assert_refused(
            [
                (lambda: make(None), "address is None, not a str"),
                (lambda: make(b"host:1"), "address is b'host:1'"),
                (lambda: make("host:1", connections=1.5), "connections is 1.5, not a whole number; give 1 to 64"),
                (lambda: make("host:1", connections=True), "connections is True, not a whole number"),
                (lambda: make("host:1", connections=65), "connections is 65; give 1 to 64"),
                (lambda: make("host:1", tls="ca.pem"), "tls is a str; give True, False or TlsOptions"),
                (lambda: make("host:1", tls=None), "tls is a NoneType"),
                (lambda: make(NOWHERE, token=7), "token is a int; give a str"),
                (lambda: make("host:1", token="t", allow_plaintext_token="no"), "allow_plaintext_token is a str"),
                (lambda: make("host:1", limits=3), "limits is a int; give a weightstream.Limits"),
                (lambda: limits(connect="5"), "Limits.connect is '5'; give a number of seconds above 0"),
                (lambda: limits(stall=float("nan")), "Limits.stall is nan"),
                (lambda: limits(call=float("inf")), "Limits.call is inf; .* at most 3.1536e"),
                (lambda: limits(per_gib=-1), "Limits.per_gib is -1; give a number of seconds 0 or more"),
                (lambda: tls(ca=3), "TlsOptions.ca is a int; give PEM text as bytes, or a file's path"),
                (lambda: tls(server_name=b"x"), "TlsOptions.server_name is b'x', not a str"),
                (lambda: make("host:1", tls=tls(ca="a\0b")), "TlsOptions.ca, .* is no path"),
                (lambda: make(NOWHERE, token=lambda: b"t").models(), r"what token\(\) returned is a bytes; give a str"),
            ]
        )

    def test_which_model_and_version(self) -> None:
        client = self.client()
        versioned: list[Callable[[Any], Any]] = [
            lambda version: client.push("m", version, ARRAYS),
            lambda version: client.pull("m", version),
            lambda version: client.load("m", version),
            lambda version: client.verify("m", ARRAYS, version),
            lambda version: client.rollback("m", version),
        ]
        for call in versioned:
            self.assert_each_refused(
                call,
                [
                    (-1, f"version is -1; give 1 to {2**64 - 1}"),
                    (0, "version is 0; give 1 to"),
                    (1 << 64, f"version is {1 << 64}; give 1 to"),
                    ("3", "version is '3', not a whole number; give 1 to"),
                    (1.5, "version is 1.5, not a whole number"),
                    (True, "version is True, not a whole number"),
                ],
            )
        self.assert_refused([(lambda: client.rollback("m", None), "version is None, not a whole number")])
        named: list[Callable[[Any], Any]] = [
            lambda model: client.push(model, 1, ARRAYS),
            client.pull,
            client.load,
            lambda model: client.verify(model, ARRAYS),
            client.watch,
            client.model,
            lambda model: client.rollback(model, 1),
        ]
        for call in named:
            self.assert_each_refused(
                call, [(None, "model is None, not a str"), ("\ud800", "model is .* lone surrogate")]
            )

    def test_how_to_push(self) -> None:
        client = self.client()
        self.assert_refused(
            [
                (lambda: client.push("m", 1, ARRAYS, chunk_bytes=0), "chunk_bytes is 0; give 1 to"),
                (lambda: client.push("m", 1, ARRAYS, chunk_bytes="1M"), "chunk_bytes is '1M', not a whole number"),
                (lambda: client.push("m", 1, ARRAYS, metadata=["a"]), "metadata is a list; give a mapping"),
                (lambda: client.push("m", 1, ARRAYS, metadata={"step": 3}), r"metadata\['step'\] is 3, not a str"),
                (lambda: client.push("m", 1, ARRAYS, source_id=7), "source_id is 7, not a str"),
                (lambda: client.push("m", 1, ARRAYS, progress="yes"), "progress is a str; give True, False or a func"),
                (lambda: client.push("m", 1, ARRAYS, cancel=True), "cancel is a bool; give a threading.Event"),
                (lambda: client.push("m", 1, ARRAYS, traceparent=7), "traceparent is 7, not a str"),
            ]
        )

    def test_what_to_push(self) -> None:
        client = self.client()
        frozen = np.zeros(3)
        frozen.flags.writeable = False
        masked = np.ma.masked_array([1.0, 2.0], mask=[False, True])
        read_only = OnlyDlpack(frozen.__dlpack__)
        no_capsule = OnlyDlpack(lambda: "no capsule")
        self.assert_refused(
            [
                (lambda: client.push("m", None, None), "tensors is a NoneType; give a mapping"),
                (lambda: client.push("m", None, b"model.safetensors"), "tensors is a bytes"),
                (lambda: client.push("m", None, [("a", np.zeros(1), 3)]), "holds a tuple of 3; give pairs"),
                (lambda: client.push("m", None, ["ab"]), "holds a str; give pairs"),
                (lambda: client.push("m", None, np.zeros((2, 2))), "holds a ndarray; give pairs"),
                (lambda: client.push("m", None, "a\0b"), "is no path: embedded null"),
                (lambda: client.push("m", 1, {"a": masked}), '"a" is a masked array, and weights have no mask'),
                (lambda: client.push("m", 1, {"a": read_only}), '"a" cannot be read by DLPack: .*give a NumPy array'),
                (lambda: client.push("m", 1, {"a": no_capsule}), '"a" cannot be read by DLPack'),
                (lambda: client.verify("m", 3), "tensors is a int"),
                (lambda: client.verify("m", {"a": masked}), "masked array"),
            ]
        )
        # The same memory as an array is read where it lies.
        self.assertEqual(open_source({"a": frozen}).view(0).tobytes(), frozen.tobytes())

    def test_how_to_read(self) -> None:
        client = self.client()
        self.assert_refused(
            [
                (lambda: client.pull("m", names="wide"), "names is 'wide'; give a list"),
                (lambda: client.pull("m", names=3), "names is 3; give a list"),
                (lambda: client.pull("m", names=[3]), "a name in names is 3, not a str"),
                (lambda: client.pull("m", into=[np.zeros(1)]), "into is a list; give a mapping"),
                (lambda: client.pull("m", progress=3), "progress is a int"),
                (lambda: client.watch("m", interval=1e9), "interval is 1000000000.0; .* above 0, at most 86400"),
                (lambda: client.watch("m", interval=0), "interval is 0; give a number of seconds above 0"),
                (lambda: client.watch("m", interval="1"), "interval is '1'"),
                (lambda: client.watch("m", timeout=-1), "timeout is -1; give a number of seconds 0 or more"),
                (lambda: client.watch("m", timeout=1e12), "timeout is 1000000000000.0; .*at most"),
            ]
        )


class Taken(unittest.TestCase):
    """What is right reaches the server, which is not there."""

    def assert_sent(self, call: Callable[[], Any]) -> None:
        with self.assertRaises(weightstream.UnavailableError):
            call()

    def test_whole_numbers_of_other_types_and_the_largest_ones(self) -> None:
        given: list[Any] = [np.uint64(2**64 - 1), np.int8(3), 2**64 - 1]
        pairs: Any = [["a", np.zeros(1)]]
        with Client(NOWHERE, limits=SHORT) as client:
            for version in given:
                self.assert_sent(functools.partial(client.push, "m", version, ARRAYS, cancel=threading.Event()))
                self.assert_sent(functools.partial(client.rollback, "m", version))
            self.assert_sent(lambda: client.push("m", None, pairs, chunk_bytes=1))
            self.assert_sent(lambda: list(client.watch("m", interval=86400)))
            self.assert_sent(lambda: list(client.watch("m", interval=1e-9, timeout=365 * 86400)))
            self.assertEqual(list(client.watch("m", timeout=0)), [])
        Client(NOWHERE, limits=Limits(*[365 * 86400] * 6)).close()

    def test_what_the_callers_own_code_raises_comes_out_as_it_is(self) -> None:
        def tensors() -> Any:
            yield "a", np.zeros(1)
            raise KeyError("mine")

        def token() -> str:
            raise LookupError("mine")

        with Client(NOWHERE, limits=SHORT) as client, self.assertRaisesRegex(KeyError, "mine"):
            client.push("m", 1, tensors())
        with Client(NOWHERE, limits=SHORT, token=token) as client, self.assertRaisesRegex(LookupError, "mine"):
            client.models()


if __name__ == "__main__":
    python_cases.main()
