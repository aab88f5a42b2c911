"""Updates that cannot begin: names, shapes, sizes and versions that are refused, and to what they are restricted."""

from __future__ import annotations

from typing import Any

import grpc
from weightstream.v1 import weightstream_pb2 as ws

from tests.end_to_end.bad_input import BadInputTest
from tests.end_to_end.checkpoints import random_tensor, write_safetensors
from tests.end_to_end.wire import Wire, refused
from tools import python_cases

INVALID = grpc.StatusCode.INVALID_ARGUMENT
EXHAUSTED = grpc.StatusCode.RESOURCE_EXHAUSTED
PRECONDITION = grpc.StatusCode.FAILED_PRECONDITION


def spec(name: str = "tensor", dtype: str = "F32", shape: tuple[int, ...] = (10,)) -> Any:
    return ws.TensorSpec(name=name, dtype=dtype, shape=shape)


class BadManifests(BadInputTest):
    server_flags = ("--max-manifest-tensors=1000", "--max-manifest-mib=1")

    def begin(self, *specs: Any, model: str = "model", version: int = 1, **fields: Any) -> Any:
        return self.wire.begin(model, version, tensors=specs, **fields)

    def tearDown(self) -> None:
        # Nothing of what was refused is left, not even a folder.
        entries = sorted(entry.name for entry in self.server.data_dir.iterdir())
        self.assertIn(entries, [[".lock", "kept"], [".lock", "kept", "model"]])
        self.assert_no_partial_files(self.server)

    def test_a_name_twice(self) -> None:
        with refused(self, INVALID, "twin"):
            self.begin(spec("twin"), spec("other"), spec("twin", "U8"))

    def test_tensor_names_that_are_refused(self) -> None:
        for name in ("", "a\0b", "x" * 65536, "__metadata__"):
            with self.subTest(name=name[:10]), refused(self, INVALID, "name"):
                self.begin(spec(name))

    def test_a_tensor_name_that_is_no_utf8(self) -> None:
        # The stubs refuse to send it, so it goes by hand: tensors { name: "\xff" dtype: "F32" } of model "model".
        begin = self.wire.channel.unary_unary("/weightstream.v1.WeightStream/BeginUpdate")
        with refused(self, INVALID, "BeginUpdate", "not UTF-8"):
            begin(b"\x0a\x05model\x10\x01\x1a\x08\x0a\x01\xff\x12\x03F32", timeout=30)

    def test_tensor_names_that_look_like_paths_are_only_names(self) -> None:
        update = self.begin(spec("../../etc/passwd"), spec("/etc/passwd"), spec(".."))
        self.assertEqual(len(update.missing), 3)
        self.wire.abort("model", update.update_id)

    def test_model_names_that_are_no_folder_names(self) -> None:
        names = (
            "",
            "..",
            ".",
            ".hidden",
            "a/b",
            "/etc",
            "../kept",
            "a\0b",
            "x" * 129,
            "x" * 65536,
            "käfig",
            "a b",
            "-x",
        )
        for name in names:
            with self.subTest(name=name[:10]), refused(self, INVALID, "1 to 128 characters", "A-Z a-z 0-9 . _ -"):
                self.begin(spec(), model=name)

    def test_model_names_in_other_calls_do_not_become_paths(self) -> None:
        unknown = (grpc.StatusCode.NOT_FOUND, "no model '../kept'")
        calls: list[Any] = [
            (self.wire.stub.GetModel, ws.GetModelRequest(model="../kept")),
            (self.wire.stub.RollbackModel, ws.RollbackModelRequest(model="../kept", version=1)),
            (self.wire.stub.CommitUpdate, ws.CommitUpdateRequest(model="../kept", update_id="x")),
            (self.wire.stub.AbortUpdate, ws.AbortUpdateRequest(model="../kept", update_id="x")),
            (self.wire.stub.GetManifest, ws.GetManifestRequest(model="../kept")),
        ]
        for call, request in calls:
            with self.subTest(request=type(request).__name__), refused(self, *unknown):
                call(request, timeout=30)
        for stream, request in (
            (self.wire.stub.Pull, ws.PullRequest(model="../kept")),
            (self.wire.stub.DigestModel, ws.DigestModelRequest(model="../kept")),
        ):
            with self.subTest(request=type(request).__name__), refused(self, *unknown):
                list(stream(request, timeout=30))
        with refused(self, INVALID):
            list(self.wire.stub.WatchModel(ws.WatchModelRequest(model="../kept"), timeout=30))

    def test_unknown_dtypes(self) -> None:
        for dtype in ("", "f32", "FLOAT32", "F32 ", "\n"):
            with self.subTest(dtype=dtype), refused(self, INVALID, "tensor"):
                self.begin(spec(dtype=dtype))

    def test_packed_elements_that_do_not_fill_bytes(self) -> None:
        for dtype, shape in (("F4", (3,)), ("F4", ()), ("F6_E2M3", (2, 3)), ("F6_E3M2", (5,))):
            with self.subTest(dtype=dtype, shape=shape), refused(self, INVALID, "tensor"):
                self.begin(spec(dtype=dtype, shape=shape))

    def test_sizes_that_overflow(self) -> None:
        for shape in ((2**32, 2**32), (2**63,), (2**64 - 1, 2**64 - 1), (2**62,), (3, 2**63), (2**21,) * 3):
            with self.subTest(shape=shape), refused(self, INVALID, "tensor"):
                self.begin(spec(shape=shape))

    def test_a_sum_that_overflows(self) -> None:
        with refused(self, INVALID):
            self.begin(*(spec(f"t{i}", "U8", (2**62,)) for i in range(4)))

    def test_too_many_dimensions(self) -> None:
        with refused(self, INVALID, "tensor", "dimensions"):
            self.begin(spec(shape=(1,) * 65))

    def test_more_than_the_memory_holds(self) -> None:
        for shape in ((2**45,), (2**50,), (2**60,)):
            with self.subTest(shape=shape), refused(self, EXHAUSTED, "model", "are free"):
                self.begin(spec("huge", "U8", shape))

    def test_more_tensors_than_allowed(self) -> None:
        with refused(self, EXHAUSTED, "1001 tensors", "--max-manifest-tensors"):
            self.begin(*(spec(f"t{i}") for i in range(1001)))

    def test_a_manifest_message_over_the_limit(self) -> None:
        with refused(self, EXHAUSTED), Wire(self.server.address) as wire:
            wire.begin("model", 1, tensors=[spec(f"{i:04}" * 1000) for i in range(900)])

    def test_versions_that_are_not_newer(self) -> None:
        with refused(self, INVALID, "version", "start at 1"):
            self.begin(spec(), version=0)
        with refused(self, grpc.StatusCode.ALREADY_EXISTS, "version 1", "committed already"):
            self.begin(spec(), model="kept", version=1)

    def test_a_source_id_beyond_its_limit(self) -> None:
        with refused(self, INVALID, "source_id", "256"):
            self.begin(spec(), source_id="x" * 257)

    def test_metadata_that_cannot_be_written(self) -> None:
        update = self.begin(spec(), metadata={"": "", "key": '"\\\n\0' * 100})
        self.wire.abort("model", update.update_id)

    def test_unknown_parts_are_not_read(self) -> None:
        requests = {
            "no such tensor": (grpc.StatusCode.NOT_FOUND, ws.TensorRanges(name="stranger")),
            "past the end": (INVALID, ws.TensorRanges(name="kept", ranges=[ws.ByteRange(begin=0, end=4001)])),
            "backwards": (INVALID, ws.TensorRanges(name="kept", ranges=[ws.ByteRange(begin=9, end=3)])),
            "beyond all": (INVALID, ws.TensorRanges(name="kept", ranges=[ws.ByteRange(begin=2**63, end=2**64 - 1)])),
        }
        for what, (code, part) in requests.items():
            with self.subTest(what), refused(self, code, part.name):
                list(self.wire.stub.Pull(ws.PullRequest(model="kept", parts=[part]), timeout=30))

    def test_a_rollback_to_what_is_not_held(self) -> None:
        for version, code in ((0, INVALID), (7, grpc.StatusCode.NOT_FOUND), (2**64 - 1, grpc.StatusCode.NOT_FOUND)):
            with self.subTest(version=version), refused(self, code):
                self.wire.stub.RollbackModel(ws.RollbackModelRequest(model="kept", version=version), timeout=30)


class LimitedModels(BadInputTest):
    server_flags = ("--max-model-gib=0.001", "--max-models=2")

    def test_a_model_over_the_limit_of_size(self) -> None:
        with refused(self, EXHAUSTED, "--max-model-gib"):
            self.wire.begin("model", 1, tensors=[spec(shape=(2**20,))])
        source = write_safetensors(
            self.folder / "large.safetensors", [random_tensor(self.rng, "large", "U8", (2 << 20,))]
        )
        self.assertIn("--max-model-gib", self.push(source, self.server.address, "model", code=1).error)

    def test_more_models_than_allowed(self) -> None:
        self.wire.push_all("second", 1, [])
        with refused(self, EXHAUSTED, "--max-models"):
            self.wire.begin("third", 1)


if __name__ == "__main__":
    python_cases.main()
