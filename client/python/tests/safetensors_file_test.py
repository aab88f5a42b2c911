"""Files that break the format's rules are refused by name, and never read past their end."""

from __future__ import annotations

import errno
import json
import os
import struct
import unittest
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest import mock

import weightstream
from weightstream.safetensors_file import SafetensorsFile, open_checkpoint

from tests.end_to_end.checkpoints import filled_tensor, write_safetensors, write_sharded
from tools import python_cases

ENTRY = {"dtype": "U8", "shape": [4], "data_offsets": [0, 4]}


class FileTest(unittest.TestCase):
    def setUp(self) -> None:
        folder = TemporaryDirectory(dir=os.environ.get("TEST_TMPDIR"))
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)

    def write(self, header: Any, data: bytes = bytes(4), length: int | None = None) -> Path:
        text = header if isinstance(header, bytes) else json.dumps(header).encode()
        path = self.folder / "file.safetensors"
        path.write_bytes(struct.pack("<Q", len(text) if length is None else length) + text + data)
        return path


class Refused(FileTest):
    def test_headers_that_break_a_rule(self) -> None:
        for path_of, words in (
            (lambda: self.write({"a": ENTRY}, length=1 << 60), "truncated"),
            (lambda: self.write(b"{"), "not safetensors'"),
            (lambda: self.write([]), "not safetensors'"),
            (lambda: self.write({"a": 5}), "not safetensors'"),
            (lambda: self.write({"a": ENTRY | {"dtype": "F31"}}), 'tensor "a" has unknown dtype'),
            (lambda: self.write({"a": ENTRY | {"dtype": "F4", "shape": [3]}}), "whole bytes"),
            (lambda: self.write({"a": ENTRY | {"shape": [5]}}), 'tensor "a"'),
            (lambda: self.write({"a": ENTRY | {"data_offsets": [1, 5]}}, bytes(5)), 'tensor "a"'),
            (lambda: self.write({"a": ENTRY}, bytes(3)), "truncated"),
            (lambda: self.write({"a": ENTRY}, bytes(5)), "truncated"),
            (lambda: self.write({"a": ENTRY, "b": ENTRY}), 'tensor "b"'),
            (lambda: self.write(json.dumps({"a": ENTRY})[:-1].encode() + b', "a": 1}'), "twice"),
        ):
            with self.subTest(words), self.assertRaisesRegex(weightstream.InvalidArgumentError, words) as caught:
                SafetensorsFile(path_of())
            self.assertIn("file.safetensors", str(caught.exception))

    def test_folders_whose_index_and_shards_do_not_agree(self) -> None:
        folder = write_sharded(self.folder / "c", [filled_tensor(f"t{i}", 4, i) for i in range(4)], 2)
        index = folder / "model.safetensors.index.json"
        good = json.loads(index.read_text())["weight_map"]
        for weight_map, words in (
            ({**good, "more": "model-00001-of-00002.safetensors"}, '"more"'),
            ({name: shard for name, shard in good.items() if name != "t0"}, '"t0"'),
            ({name: f"../{shard}" for name, shard in good.items()}, "not a file of this folder"),
            (["t0"], "no index"),
            ({"t0": 5}, "not a file of this folder"),
        ):
            index.write_text(json.dumps({"weight_map": weight_map}))
            with self.subTest(words), self.assertRaisesRegex(weightstream.InvalidArgumentError, words):
                open_checkpoint(folder)

    def test_one_shard_of_several_is_no_checkpoint(self) -> None:
        write_safetensors(self.folder / "model-00001-of-00002.safetensors", [filled_tensor("t", 4, 1)])
        with self.assertRaisesRegex(weightstream.InvalidArgumentError, "whole"):
            open_checkpoint(self.folder)


class Unreadable(FileTest):
    """What the file system refuses is an error of the package's, with the path and what to do."""

    def assert_denied(self, path: Path) -> None:
        with self.assertRaisesRegex(weightstream.PermissionDeniedError, "cannot read .*; let this user") as caught:
            open_checkpoint(path)
        self.assertIn(str(path), str(caught.exception))

    def test_a_step_that_is_denied(self) -> None:
        # Root is denied nothing, so the calls are, one after the other.
        write_safetensors(self.folder / "one.safetensors", [filled_tensor("t", 4, 1)])
        for call in ("os.stat", "os.open", "pathlib.Path.iterdir"):
            with self.subTest(call), mock.patch(call, side_effect=PermissionError(errno.EACCES, "Permission denied")):
                self.assert_denied(self.folder)

    def test_an_index_that_is_denied(self) -> None:
        folder = write_sharded(self.folder / "c", [filled_tensor(f"t{i}", 4, i) for i in range(4)], 2)
        with mock.patch.object(Path, "read_text", side_effect=PermissionError(errno.EACCES, "Permission denied")):
            self.assert_denied(folder)

    @unittest.skipIf(os.geteuid() == 0, "root reads everything")
    def test_a_folder_that_this_user_may_not_search(self) -> None:
        folder = self.folder / "closed"
        write_sharded(folder / "c", [filled_tensor("t", 4, 1)], 1)
        folder.chmod(0)
        self.addCleanup(folder.chmod, 0o700)
        self.assert_denied(folder / "c")

    def test_a_path_that_no_file_can_have(self) -> None:
        for path in (Path("x" * 5000), self.folder / ("x" * 300)):
            refused = self.assertRaisesRegex(weightstream.InvalidArgumentError, "File name too long; give")
            with self.subTest(length=len(str(path))), refused:
                open_checkpoint(path)

    def test_what_cannot_be_mapped(self) -> None:
        folder = self.folder / "folder.safetensors"
        folder.mkdir()
        with self.assertRaisesRegex(weightstream.InvalidArgumentError, "folder.safetensors"):
            SafetensorsFile(folder)

    def test_an_index_that_is_not_there_is_named(self) -> None:
        with self.assertRaisesRegex(weightstream.NotFoundError, "gone"):
            open_checkpoint(self.folder / "gone")


class Mapped(FileTest):
    def test_what_is_written_to_the_mapping_does_not_reach_the_file(self) -> None:
        path = self.write({"a": ENTRY}, b"abcd")
        view = SafetensorsFile(path).data("a")
        view[0] = 0
        self.assertTrue(path.read_bytes().endswith(b"abcd"))
        self.assertEqual(bytes(view), b"\0bcd")


if __name__ == "__main__":
    python_cases.main()
