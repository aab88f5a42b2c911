"""Checkpoints that are broken on disk: the command says which file, what is wrong, and sends nothing."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import numpy as np

from tests.end_to_end.checkpoints import random_tensor, write_safetensors, write_sharded
from tests.end_to_end.harness import EndToEndTest
from tools import python_cases


class BrokenCheckpoints(EndToEndTest):
    def setUp(self) -> None:
        super().setUp()
        rng = np.random.default_rng(7)
        self.tensors = [random_tensor(rng, f"layer.{i}", "BF16", (100, 10)) for i in range(6)]
        self.server = self.start_server()

    def assert_refused(self, path: Path, *words: str) -> None:
        """Neither push nor verify takes it, and the server has not heard of the model."""
        for arguments in (("push", path), ("verify", path)):
            flags = (f"--to={self.server.address}", "--model=model")
            outcome = self.weightstream(*arguments, *flags, code=1)
            for word in words:
                self.assertIn(word, outcome.error)
        status = self.weightstream("status", f"--to={self.server.address}")
        self.assertEqual(status.json["servers"][0]["models"], [])

    def sharded(self) -> Path:
        return write_sharded(self.folder / "checkpoint", self.tensors, 3)

    def shard(self, number: int) -> Path:
        return self.folder / "checkpoint" / f"model-{number:05}-of-00003.safetensors"

    def change_index(self, folder: Path, **weights: str | None) -> None:
        path = folder / "model.safetensors.index.json"
        index = json.loads(path.read_text())
        for name, shard in weights.items():
            if shard is None:
                del index["weight_map"][name.replace("_", ".")]
            else:
                index["weight_map"][name.replace("_", ".")] = shard
        path.write_text(json.dumps(index))

    def test_nothing_there(self) -> None:
        self.assert_refused(self.folder / "nowhere", "NOT_FOUND", "nowhere")

    def test_a_folder_without_a_checkpoint(self) -> None:
        (self.folder / "empty").mkdir()
        self.assert_refused(self.folder / "empty", "NOT_FOUND", "empty")

    def test_a_missing_shard(self) -> None:
        folder = self.sharded()
        self.shard(2).unlink()
        self.assert_refused(folder, "NOT_FOUND", self.shard(2).name)

    def test_a_truncated_file(self) -> None:
        path = write_safetensors(self.folder / "file.safetensors", self.tensors)
        whole = path.read_bytes()
        for length in (len(whole) - 1, len(whole) // 2, 100, 8, 7, 0):
            with self.subTest(length=length):
                path.write_bytes(whole[:length])
                self.assert_refused(path, "INVALID_ARGUMENT", path.name)

    def test_a_truncated_shard(self) -> None:
        folder = self.sharded()
        self.shard(3).write_bytes(self.shard(3).read_bytes()[:-1])
        self.assert_refused(folder, "INVALID_ARGUMENT", self.shard(3).name)

    def test_a_corrupt_header(self) -> None:
        path = self.folder / "file.safetensors"
        entry = '{"dtype":"U8","shape":[4],"data_offsets":[0,4]}'
        headers = {
            "no JSON": "{nonsense}",
            "a list": "[]",
            "cut": '{"a":',
            "a name twice": f'{{"a":{entry},"a":{entry}}}',
            "an unknown dtype": '{"a":{"dtype":"U9","shape":[4],"data_offsets":[0,4]}}',
            "a size that contradicts": '{"a":{"dtype":"U8","shape":[5],"data_offsets":[0,4]}}',
            "a hole": '{"a":{"dtype":"U8","shape":[3],"data_offsets":[1,4]}}',
            "past the end": '{"a":{"dtype":"U8","shape":[9],"data_offsets":[0,9]}}',
            "backwards": '{"a":{"dtype":"U8","shape":[4],"data_offsets":[4,0]}}',
            "negative": '{"a":{"dtype":"U8","shape":[4],"data_offsets":[-4,0]}}',
            "overflowing": '{"a":{"dtype":"F32","shape":[4611686018427387905],"data_offsets":[0,4]}}',
            "an overlap": f'{{"a":{entry},"b":{entry}}}',
        }
        for what, text in headers.items():
            with self.subTest(what):
                path.write_bytes(struct.pack("<Q", len(text)) + text.encode() + b"data")
                self.assert_refused(path, "INVALID_ARGUMENT", path.name)

    def test_a_header_length_beyond_reason(self) -> None:
        path = self.folder / "file.safetensors"
        for length in (100, 100_000_001, 2**63, 2**64 - 1, 2**64 - 8):
            with self.subTest(length=length):
                path.write_bytes(struct.pack("<Q", length) + b'{"a":1}')
                self.assert_refused(path, "INVALID_ARGUMENT", path.name)

    def test_an_index_that_names_a_tensor_its_shard_lacks(self) -> None:
        folder = self.sharded()
        self.change_index(folder, stranger=self.shard(1).name)
        self.assert_refused(folder, "INVALID_ARGUMENT", "stranger", self.shard(1).name)

    def test_an_index_that_leaves_out_a_tensor_of_its_shards(self) -> None:
        folder = self.sharded()
        self.change_index(folder, layer_4=None)
        self.assert_refused(folder, "INVALID_ARGUMENT", "layer.4")

    def test_an_index_that_names_the_wrong_shard(self) -> None:
        folder = self.sharded()
        self.change_index(folder, layer_0=self.shard(2).name)
        self.assert_refused(folder, "INVALID_ARGUMENT", "layer.0")

    def test_an_index_that_leads_out_of_the_folder(self) -> None:
        folder = self.sharded()
        outside = write_safetensors(self.folder / "outside.safetensors", self.tensors[:1])
        self.change_index(folder, layer_0=f"../{outside.name}")
        self.assert_refused(folder, "INVALID_ARGUMENT", outside.name)

    def test_an_index_that_is_none(self) -> None:
        folder = self.sharded()
        for text in ("", "{}", "[]", '{"weight_map": []}', '{"weight_map": {"a": 1}}', '{"weight_map": {'):
            with self.subTest(text=text):
                (folder / "model.safetensors.index.json").write_text(text)
                self.assert_refused(folder, "INVALID_ARGUMENT", "model.safetensors.index.json")

    def test_a_file_that_is_no_regular_file(self) -> None:
        self.assert_refused(Path("/dev/zero"), "INVALID_ARGUMENT", "/dev/zero")


if __name__ == "__main__":
    python_cases.main()
