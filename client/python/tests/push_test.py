"""What is pushed arrives bit for bit, from whatever it came, under the names that safetensors gives to types."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from typing import Any

import numpy as np
import weightstream
from weightstream import Client, Progress

from client.python.tests.interposer import Hook, Interposer
from tests.end_to_end.checkpoints import Tensor, random_tensor, write_safetensors, write_sharded
from tests.end_to_end.harness import EndToEndTest
from tests.end_to_end.processes import Process, Server, binary
from tests.end_to_end.waiting import wait_until
from tools import python_cases

DTYPES = {
    "bool": "BOOL", "uint8": "U8", "int8": "I8", "uint16": "U16", "int16": "I16", "float16": "F16", "uint32": "U32",
    "int32": "I32", "float32": "F32", "uint64": "U64", "int64": "I64", "float64": "F64", "complex64": "C64",
}  # fmt: skip


class OnlyDlpack:
    """A tensor of a library that nobody knows: all it has is DLPack."""

    def __init__(self, array: np.ndarray[Any, Any]) -> None:
        self._array = array

    def __dlpack__(self) -> Any:
        return self._array.__dlpack__()

    def __dlpack_device__(self) -> Any:
        return self._array.__dlpack_device__()


def as_tensor(name: str, array: np.ndarray[Any, Any]) -> Tensor:
    return Tensor(name, DTYPES[array.dtype.name], array.shape, array.tobytes())


class Pushed(EndToEndTest):
    def connect(self, server: Server, **options: Any) -> Client:
        client = Client(server.address, **options)
        self.addCleanup(client.close)
        return client

    def test_arrays_of_every_type_arrive(self) -> None:
        rng = np.random.default_rng(1)
        arrays = {name: rng.integers(0, 2, (3, 37)).astype(name) for name in DTYPES}
        arrays["not a number"] = np.frombuffer(rng.bytes(4096), np.float32)
        arrays["scalar"] = np.array(-0.0)
        arrays["empty"] = np.empty((0, 5), np.int32)
        arrays["transposed"] = rng.standard_normal((300, 700)).T
        arrays["every third"] = rng.integers(0, 2**60, (40, 30))[::3, ::2]
        server = self.start_server()
        result = self.connect(server).push("model", 7, arrays, metadata={"format": "np"})
        self.assertEqual((result.version, result.tensors), (7, len(arrays)))
        self.assertEqual(result.path, str(server.data_dir / "model" / "7" / "model.safetensors"))
        self.assert_current(server, "model", [as_tensor(name, array) for name, array in arrays.items()])
        with self.open_version(server.data_dir, "model") as file:
            self.assertEqual(file.metadata, {"format": "np"})

    def test_big_endian_arrays_arrive_little_endian(self) -> None:
        array = np.arange(1000, dtype=">i4")
        server = self.start_server()
        self.connect(server).push("model", 1, {"weight": array})
        self.assert_current(server, "model", [Tensor("weight", "I32", (1000,), array.astype("<i4").tobytes())])

    def test_what_has_nothing_but_dlpack_arrives(self) -> None:
        arrays = {"a": np.arange(3000, dtype=np.float16).reshape(30, 100), "b": np.array(7, np.int64)}
        server = self.start_server()
        self.connect(server).push("model", 1, {name: OnlyDlpack(array) for name, array in arrays.items()})
        self.assert_current(server, "model", [as_tensor(name, array) for name, array in arrays.items()])

    def test_an_iterator_and_a_version_of_the_servers_choice(self) -> None:
        arrays = {f"layer.{i}.weight": np.full((50, 60), i, np.float32) for i in range(20)}

        def named_parameters() -> Iterator[tuple[str, np.ndarray[Any, Any]]]:
            yield from arrays.items()

        server = self.start_server()
        client = self.connect(server)
        self.assertEqual(client.push("model", None, named_parameters()).version, 1)
        self.assertEqual(client.push("model", None, named_parameters()).version, 2)
        self.assert_current(server, "model", [as_tensor(name, array) for name, array in arrays.items()])

    def test_thousands_of_small_tensors_and_a_large_one_in_small_chunks(self) -> None:
        rng = np.random.default_rng(2)
        arrays = {f"expert.{i}": rng.integers(0, 255, i % 97).astype(np.uint8) for i in range(6000)}
        arrays["large"] = rng.standard_normal((1021, 2053))
        server = self.start_server("--bucket-mib=0.25")
        result = self.connect(server).push("model", 1, arrays)
        self.assertEqual(result.sent_bytes, result.total_bytes)
        self.assert_current(server, "model", [as_tensor(name, array) for name, array in arrays.items()])

    def test_checkpoints_on_disk_arrive(self) -> None:
        rng = np.random.default_rng(3)
        tensors = [random_tensor(rng, f"t.{dtype}", dtype, (64, 96)) for dtype in ("BF16", "F8_E4M3", "F4", "F6_E2M3")]
        server = self.start_server()
        client = self.connect(server)
        folder = write_sharded(self.folder / "sharded", tensors, 3)
        client.push("folder", None, folder)
        self.assert_current(server, "folder", tensors)
        self.assertEqual(client.verify("folder", folder), [])
        file = write_safetensors(self.folder / "one.safetensors", tensors, {"format": "pt"})
        client.push("file", None, str(file))
        self.assert_current(server, "file", tensors)
        self.assertEqual(client.load("file").metadata, {"format": "pt"})

    def test_a_model_without_tensors_arrives(self) -> None:
        server = self.start_server()
        self.connect(server).push("model", 1, {})
        self.assert_current(server, "model", [])

    def test_over_a_unix_socket(self) -> None:
        # Not in the test's own folder: a socket's path has 107 bytes at most.
        path, data_dir = self.shared_memory / "socket", self.data_dir()
        command = [binary("WEIGHTSTREAM_SERVER"), f"--listen=unix:{path}", f"--data-dir={data_dir}"]
        server = Process("weightstream-server", command, self.folder / "unix.log", self.folder / "unix.out")
        self.addCleanup(server.kill)
        wait_until(path.exists, "the server listens")
        with Client(f"unix:{path}") as client:
            client.push("model", 1, {"a": np.arange(10)})
        with self.open_version(data_dir, "model") as file:
            self.assert_holds(file, [as_tensor("a", np.arange(10))])
        server.signal(signal.SIGTERM)
        self.assertEqual(server.wait(60), 0, server.log())

    def test_a_name_is_reached_at_the_address_that_answers(self) -> None:
        """Where localhost has an IPv6 address as well, nobody answers there."""
        server = self.start_server()
        for address in (f"localhost:{server.port}", f"dns:///localhost:{server.port}"):
            with Client(address) as client:
                client.push("model", None, {"a": np.arange(10)})
        self.assert_current(server, "model", [as_tensor("a", np.arange(10))])

    def test_progress_grows_from_nothing_to_all(self) -> None:
        server = self.start_server()
        seen: list[Progress] = []
        array = np.random.default_rng(4).standard_normal(3_000_000)
        self.connect(server).push("model", 1, {"weight": array}, progress=seen.append)
        self.assertEqual(seen[0].phase, "connecting")
        self.assertEqual((seen[-1].phase, seen[-1].moved_bytes), ("done", array.nbytes))
        moved = [each.moved_bytes for each in seen]
        self.assertEqual(moved, sorted(moved))


class Traced(EndToEndTest):
    def test_each_push_is_a_span_of_its_own_in_its_callers_trace(self) -> None:
        seen: list[tuple[str, str]] = []

        def hook(name: str) -> Hook:
            def note(before: int, request: Any, pass_on: Any, context: Any) -> Any:
                seen.append((name, dict(context.invocation_metadata()).get("traceparent", "")))
                return pass_on(request)

            return note

        calls = ("GetModel", "BeginUpdate", "Push", "CommitUpdate")
        between = Interposer(self.start_server().address, {name: hook(name) for name in calls})
        self.addCleanup(between.close)
        trace, parent = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
        spans = []
        with Client(between.address) as client:
            for _ in range(2):
                result = client.push("model", None, {"a": np.zeros(9)}, traceparent=f"00-{trace}-{parent}-01")
                # A busy server is asked more than once how far away it is.
                self.assertEqual({name for name, _ in seen}, set(calls))
                (told,) = {told for _, told in seen}
                self.assertRegex(told, rf"\A00-{trace}-[0-9a-f]{{16}}-01\Z")
                self.assertEqual(result.traceparent, told)
                spans.append(told)
                seen.clear()
            client.push("model", None, {"a": np.zeros(9)})
            self.assertEqual({told for _, told in seen}, {""})
            with self.assertRaisesRegex(weightstream.InvalidArgumentError, "traceparent"):
                client.push("model", None, {}, traceparent="no such thing")
        self.assertEqual(len({parent, *spans}), 3)

    def test_the_servers_log_has_the_span_on_each_line_of_the_update(self) -> None:
        server = self.start_server("--log-format=json", "--log-level=debug")
        trace = "4bf92f3577b34da6a3ce929d0e0e4736"
        with Client(server.address) as client:
            client.push("model", 1, {"a": np.zeros(9)}, traceparent=f"00-{trace}-00f067aa0ba902b7-01")
            client.push("model", 2, {"a": np.zeros(9)})
        server.stop()
        lines = [json.loads(line) for line in server.log().splitlines() if line.startswith("{")]
        update = next(line["update"] for line in lines if line["event"] == "update_committed" and line["version"] == 1)
        traced = [line for line in lines if line.get("update") == update]
        self.assertLessEqual({"update_begun", "push_stream_ended", "update_committed"}, {e["event"] for e in traced})
        self.assertEqual({line.get("trace_id") for line in traced}, {trace})
        self.assertEqual(len({line["span_id"] for line in traced}), 1)
        self.assertFalse([line for line in lines if "trace_id" in line and line.get("update") != update])


class Refused(EndToEndTest):
    def test_errors_say_what_the_server_said(self) -> None:
        server = self.start_server("--max-model-gib=0.001")
        with Client(server.address) as client:
            small = {"weight": np.zeros(4, np.float32)}
            with self.assertRaisesRegex(weightstream.InvalidArgumentError, "bad/name"):
                client.push("bad/name", 1, small)
            client.push("model", 5, small)
            with self.assertRaisesRegex(weightstream.AlreadyExistsError, "5"):
                client.push("model", 5, small)
            with self.assertRaisesRegex(weightstream.FailedPreconditionError, "5"):
                client.push("model", 4, small)
            with self.assertRaises(weightstream.ResourceExhaustedError):
                client.push("model", 6, {"weight": np.zeros(1_000_000)})
            with self.assertRaisesRegex(weightstream.NotFoundError, "nobody"):
                client.pull("nobody")
            with self.assertRaises(ValueError):
                client.push("model", 0, small)
        self.assert_current(server, "model", [Tensor("weight", "F32", (4,), bytes(16))])

    def test_what_cannot_be_weights_is_refused_before_anything_is_sent(self) -> None:
        server = self.start_server()
        with Client(server.address) as client:
            for value, words in (
                (np.array(["text"]), "dtype str"),
                (np.zeros(3, np.complex128), "complex128"),
                ("a string", "is a str"),
                ([1.0, 2.0], "is a list"),
            ):
                with self.subTest(words), self.assertRaisesRegex(weightstream.InvalidArgumentError, f'"odd".*{words}'):
                    client.push("model", 1, {"odd": value})
            with self.assertRaisesRegex(weightstream.InvalidArgumentError, "twice|two tensors"):
                client.push("model", 1, [("a", np.zeros(1)), ("a", np.zeros(1))])
            self.assertEqual(client.models(), [])

    def test_a_server_that_is_not_there_is_unavailable_within_the_limit(self) -> None:
        # A port that only root could serve at, and nobody does.
        limits = weightstream.Limits(connect=1)
        with (
            Client("127.0.0.1:1", limits=limits) as client,
            self.assertRaisesRegex(weightstream.UnavailableError, "no answer for 1 seconds"),
        ):
            client.push("model", 1, {"a": np.zeros(1)})


if __name__ == "__main__":
    python_cases.main()
