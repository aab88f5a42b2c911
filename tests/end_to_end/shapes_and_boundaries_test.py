"""Every shape, dtype and byte pattern arrives bit for bit, wherever the cuts between chunks fall."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tests.end_to_end.checkpoints import Tensor, random_tensor, write_safetensors, write_sharded
from tests.end_to_end.harness import EndToEndTest
from tests.end_to_end.safetensors_file import DTYPE_BITS, SafetensorsFile
from tools import python_cases

MIB = 1 << 20
SEED = 20261124


class Promises:
    """The cases; each class below runs them over another device and medium."""

    class Cases(EndToEndTest):
        device = "host"
        on_disk = False

        def setUp(self) -> None:
            super().setUp()
            self.rng = np.random.default_rng(SEED)
            data_dir = self.data_dir(on_disk=self.on_disk)
            self.server = self.start_server(f"--device={self.device}", "--bucket-mib=1", data_dir=data_dir)

        def round_trip(self, tensors: Sequence[Tensor], *flags: str) -> None:
            """Push, verify, pull; the server's file and the pulled one hold the same bits as the source."""
            source = write_safetensors(self.folder / "source.safetensors", tensors, {"format": "pt"})
            outcome = self.push(source, self.server.address, "model", *flags)
            total = sum(len(tensor.data) for tensor in tensors)
            self.assertEqual((outcome.json["total_bytes"], outcome.json["tensors"]), (total, len(tensors)))
            self.assertEqual(outcome.json["servers"][0]["sent_bytes"], total)
            with self.open_version(self.server.data_dir, "model") as file:
                self.assert_holds(file, tensors)
                self.assertEqual(file.metadata, {"format": "pt"})
            verified = self.weightstream("verify", source, f"--to={self.server.address}", "--model=model")
            self.assertTrue(verified.json["equal"])
            self.weightstream("pull", f"--from={self.server.address}", "--model=model", f"--out={self.folder / 'out'}")
            with SafetensorsFile(self.folder / "out" / "model.safetensors") as file:
                self.assert_holds(file, tensors)

        def random(self, name: str, dtype: str, *shape: int) -> Tensor:
            return random_tensor(self.rng, name, dtype, shape)

        def test_wide_and_tall_matrices_in_two_dtypes(self) -> None:
            shapes = [(128, 512), (640, 512), (1280, 512), (64, 256)]
            self.round_trip(
                [self.random(f"{d}.{i}", d, *shape) for i, shape in enumerate(shapes) for d in ("F32", "BF16")]
            )

        def test_a_tensor_that_the_source_misaligns_is_aligned_at_the_target(self) -> None:
            self.round_trip([self.random("a", "BF16", 3), self.random("b", "F32", 1000), self.random("c", "F64", 7)])

        def test_a_model_without_tensors(self) -> None:
            self.round_trip([])

        def test_an_empty_tensor_between_two_others(self) -> None:
            self.round_trip([self.random("a", "F32", 5), self.random("b", "F32", 0, 4), self.random("c", "F32", 5)])

        def test_nothing_but_empty_tensors(self) -> None:
            self.round_trip([self.random("a", "F32", 0), self.random("b", "BF16", 3, 0, 2), self.random("c", "F4", 0)])

        def test_scalars(self) -> None:
            self.round_trip([self.random(f"scalar.{dtype}", dtype) for dtype in ("F32", "BF16", "I64", "U8", "BOOL")])

        def test_tensors_around_the_bucket_limit(self) -> None:
            sizes = [MIB - 1, MIB, MIB + 1, 2 * MIB - 1, 2 * MIB, 2 * MIB + 1]
            self.round_trip([self.random(f"bytes.{size}", "U8", size) for size in sizes])

        def test_a_bucket_that_equals_a_tensor_or_misses_it_by_one_byte(self) -> None:
            tensor = self.random("tensor", "F32", 250, 100)
            for bucket in (99_999, 100_000, 100_001):
                with self.subTest(bucket=bucket):
                    self.round_trip([tensor, self.random(f"beside.{bucket}", "U8", bucket)], f"--bucket-bytes={bucket}")

        def test_a_bucket_smaller_than_a_row(self) -> None:
            self.round_trip([self.random("rows", "F32", 64, 4096)], "--bucket-bytes=1000")

        def test_a_bucket_that_is_no_multiple_of_the_element_size(self) -> None:
            self.round_trip(
                [self.random("f64", "F64", 1001), self.random("f32", "F32", 1001), self.random("bf16", "BF16", 1001)],
                "--bucket-bytes=1003",
            )

        def test_a_bucket_smaller_than_an_element(self) -> None:
            self.round_trip([self.random("f64", "F64", 100), self.random("c64", "C64", 3)], "--bucket-bytes=3")

        def test_one_byte_at_a_time(self) -> None:
            self.round_trip([self.random("f64", "F64", 33), self.random("u8", "U8", 5)], "--bucket-bytes=1")

        def test_a_bucket_asked_for_beyond_the_servers_limit(self) -> None:
            self.round_trip([self.random("large", "BF16", 3, MIB)], "--bucket-mib=64", "--connections=3")

        def test_nans_with_payloads_and_negative_zeros(self) -> None:
            bits32 = np.array([0x80000000, 0x7FC00001, 0xFFC12345, 0x7F800001, 0x7F800000, 1, 0], dtype="<u4")
            bits16 = np.array([0x8000, 0x7FC1, 0xFFFF, 0x7F81, 0x7F80, 1, 0], dtype="<u2")
            bits64 = np.array([1 << 63, 0x7FF8000000000001, 0xFFF0000000000001, 1], dtype="<u8")
            self.round_trip(
                [
                    Tensor("f32", "F32", bits32.shape, bits32.tobytes()),
                    Tensor("bf16", "BF16", bits16.shape, bits16.tobytes()),
                    Tensor("f16", "F16", bits16.shape, bits16.tobytes()),
                    Tensor("f64", "F64", bits64.shape, bits64.tobytes()),
                ]
            )

        def test_every_dtype(self) -> None:
            # 24 elements fill whole bytes for every packed type; 3 dimensions so that the order would show.
            self.round_trip([self.random(f"tensor.{dtype}", dtype, 2, 3, 4) for dtype in DTYPE_BITS])

        def test_many_dimensions_and_names_of_any_utf8(self) -> None:
            names = ["../escape", "a/b", "ключ", "重み", "emoji 🙂", 'quote " and \\', "tab\t", "x" * 4096, " "]
            tensors = [self.random(name, "I32", *[1] * i, 3) for i, name in enumerate(names)]
            self.round_trip([*tensors, self.random("deep", "U8", *[1] * 60, 2, 3)])

        def test_a_sharded_folder(self) -> None:
            tensors = [self.random(f"layer.{i}", "BF16", 100 + i, 37) for i in range(20)]
            source = write_sharded(self.folder / "checkpoint", tensors, 3)
            self.push(source, self.server.address, "model")
            self.assert_current(self.server, "model", tensors)
            self.weightstream("verify", source, f"--to={self.server.address}", "--model=model")


class HostInSharedMemory(Promises.Cases):
    pass


class HostOnDisk(Promises.Cases):
    on_disk = True


class StagedInSharedMemory(Promises.Cases):
    device = "host-staged"


if __name__ == "__main__":
    python_cases.main()
