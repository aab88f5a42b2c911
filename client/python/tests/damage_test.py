"""What was damaged on its way is noticed, wherever the damage is, and never becomes a version."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import grpc
import numpy as np
import weightstream
from weightstream import Client, UpdateState
from weightstream.header import encode_header
from weightstream.spec import TensorSpec
from weightstream.v1 import weightstream_pb2 as ws
from weightstream.v1.weightstream_pb2_grpc import WeightStreamStub
from weightstream.wire import encode_chunk

from client.python.tests.interposer import Hook, Interposer
from tests.end_to_end.checkpoints import Tensor
from tests.end_to_end.harness import EndToEndTest
from tests.end_to_end.processes import Server
from tools import python_cases

CALL_SECONDS = 30
# All that JSON escapes, or could; and what other languages would write in another way.
ODD_NAMES = ["".join(map(chr, range(1, 128))), "é€😀", "\x7f\x80\u2028", "</script>", "__metadata", "0", " "]


class DamageTest(EndToEndTest):
    def setUp(self) -> None:
        super().setUp()
        self.weights = {"weight": np.random.default_rng(9).standard_normal((256, 1024))}
        self.tensors = [Tensor("weight", "F64", (256, 1024), self.weights["weight"].tobytes())]
        self.server = self.start_server()

    def interpose(self, **hooks: Hook) -> tuple[Client, Interposer]:
        between = Interposer(self.server.address, hooks)
        self.addCleanup(between.close)
        client = Client(between.address, connections=1)
        self.addCleanup(client.close)
        return client, between

    def metadata(self, server: Server) -> dict[str, str]:
        with self.open_version(server.data_dir, "model") as file:
            return file.metadata


class Chunks(DamageTest):
    def test_one_whose_place_was_damaged_is_sent_again(self) -> None:
        def damage(before: int, chunks: Iterator[Any], pass_on: Callable[[Any], Any], context: Any) -> Any:
            def damaged() -> Iterator[Any]:
                for number, chunk in enumerate(chunks):
                    if (before, number) == (0, 0):
                        # Its data are right, and would land where others belong.
                        chunk.offset ^= 1 << 16
                    yield chunk

            return pass_on(damaged())

        client, between = self.interpose(Push=damage)
        result = client.push("model", 1, self.weights, chunk_bytes=1 << 16)
        self.assertEqual(result.retries, 1)
        # A server that is slow to answer is taken for far away, and gets several streams.
        self.assertGreaterEqual(between.calls["Push"], 2)
        self.assert_current(self.server, "model", self.tensors)

    def test_the_server_refuses_each_flipped_bit_of_a_header(self) -> None:
        spec = TensorSpec("weight", "F32", (300,))
        with grpc.insecure_channel(self.server.address) as channel:
            stub = WeightStreamStub(channel)
            begun = stub.BeginUpdate(
                ws.BeginUpdateRequest(
                    model="model",
                    version=1,
                    tensors=[
                        ws.TensorSpec(name="weight", dtype="F32", shape=[300]),
                        ws.TensorSpec(name="veight", dtype="F32", shape=[300]),
                    ],
                ),
                timeout=CALL_SECONDS,
            )
            message = encode_chunk(spec, 0, [memoryview(b"four" * 8)], begun.update_id)
            header = len(message) - len(b"\x9d\x06CRC!" + b"\xa2\x06\x20") - 32
            push: Any = channel.stream_unary(
                "/weightstream.v1.WeightStream/Push", None, response_deserializer=ws.PushResponse.FromString
            )
            seen: dict[str, int] = {}
            for bit in range(8 * header):
                damaged = bytearray(message)
                damaged[bit // 8] ^= 1 << bit % 8
                with self.assertRaises(grpc.RpcError, msg=f"bit {bit}") as caught:
                    push(iter([bytes(damaged)]), timeout=CALL_SECONDS)
                told: Any = caught.exception
                seen[told.code().name] = seen.get(told.code().name, 0) + 1
            # The others are no messages any more.
            self.assertEqual(seen.keys() - {"DATA_LOSS", "INVALID_ARGUMENT"}, set())
            self.assertGreater(seen["DATA_LOSS"], 4 * header)
            (update,) = stub.GetModel(ws.GetModelRequest(model="model"), timeout=CALL_SECONDS).updates
            self.assertEqual(update.landed_bytes, 0)
            self.assertEqual(push(iter([message]), timeout=CALL_SECONDS).bytes, 32)
            stub.AbortUpdate(ws.AbortUpdateRequest(model="model", update_id=begun.update_id), timeout=CALL_SECONDS)

    def test_an_answer_whose_place_was_damaged_is_asked_for_again(self) -> None:
        def damage(before: int, request: Any, pass_on: Callable[[Any], Any], context: Any) -> Iterator[Any]:
            for number, chunk in enumerate(pass_on(request)):
                if (before, number) == (0, 0):
                    self.assertTrue(chunk.HasField("header_crc32c"))
                    chunk.name = "weight"
                yield chunk

        client, between = self.interpose(Pull=damage)
        client.push("model", 1, {**self.weights, "veight": np.zeros((256, 1024))})
        pulled = client.pull("model")
        self.assertEqual(between.calls["Pull"], 2)
        self.assertEqual(pulled["weight"].data, self.weights["weight"].tobytes())


class Manifests(DamageTest):
    def test_the_header_is_the_servers_own(self) -> None:
        arrays: dict[str, Any] = {name: np.zeros(3, np.int16) for name in ODD_NAMES}
        arrays |= {"scalar": np.float64(1), "empty": np.zeros((2, 0, 5), np.uint8), "bytes": np.zeros(7, np.uint8)}
        metadata = {name: name for name in ODD_NAMES}
        with Client(self.server.address) as client:
            path = client.push("model", 1, arrays, metadata=metadata).path
            version = client.load("model")
        header = encode_header([tensor.spec for tensor in version.values()], metadata)
        with open(path, "rb") as file:  # noqa: PTH123
            self.assertEqual(file.read(len(header)), header)

    def assert_begins_again(self, damage: Callable[[Any], None]) -> None:
        def damage_the_first(before: int, request: Any, pass_on: Callable[[Any], Any], context: Any) -> Any:
            if before == 0:
                damage(request)
            return pass_on(request)

        client, between = self.interpose(BeginUpdate=damage_the_first)
        result = client.push("model", 4, self.weights, metadata={"step": "3"})
        self.assertEqual(result.version, 4)
        calls = ("BeginUpdate", "CommitUpdate", "AbortUpdate")
        self.assertEqual([between.calls[call] for call in calls], [2, 2, 1])
        self.assert_current(self.server, "model", self.tensors)
        self.assertEqual(self.metadata(self.server), {"step": "3"})
        updates = client.model("model").updates
        self.assertEqual([update.state for update in updates], [UpdateState.COMMITTED, UpdateState.ABORTED])
        self.assertIn("was damaged on the way", updates[1].reason)

    def test_a_manifest_that_was_damaged_is_not_committed(self) -> None:
        self.assert_begins_again(lambda request: request.metadata.update({"step": "2"}))

    def test_a_version_that_was_damaged_is_not_committed(self) -> None:
        def damage(request: Any) -> None:
            request.version ^= 2

        # To 6: what is higher than the version meant must not stand in its way afterwards.
        self.assert_begins_again(damage)

    def test_a_damaged_manifest_is_not_pulled(self) -> None:
        def damage(before: int, request: Any, pass_on: Callable[[Any], Any], context: Any) -> Any:
            manifest = pass_on(request)
            manifest.tensors[0].shape[0], manifest.tensors[0].shape[1] = manifest.tensors[0].shape[::-1]
            return manifest

        client, _ = self.interpose(GetManifest=damage)
        client.push("model", 1, self.weights)
        with self.assertRaisesRegex(weightstream.DataLossError, "manifest of version 1.*checksum"):
            client.pull("model")


if __name__ == "__main__":
    python_cases.main()
