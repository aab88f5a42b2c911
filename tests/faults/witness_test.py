"""What the witness must not let pass: each of these is a server's error that a schedule has to fail of."""

from __future__ import annotations

import os
import tempfile
import unittest
from pathlib import Path

from tests.end_to_end.checkpoints import Tensor, header_bytes, write_safetensors
from tests.end_to_end.safetensors_file import PAGE_BYTES
from tests.end_to_end.waiting import wait_until
from tests.faults.witness import MODEL, BrokenInvariant, Follower, Library
from tools import python_cases


class FollowerTest(unittest.TestCase):
    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.data_dir = Path(folder.name)
        self.model = self.data_dir / MODEL
        self.model.mkdir()
        self.library = Library()
        for version in (1, 2, 3):
            tensors = [Tensor("w", "U8", (256,), bytes([version]) * 256)]
            self.library.add(version, tensors)
            (self.model / str(version)).mkdir()
            self.write(self.model / str(version) / "model.safetensors", version, tensors)

    @staticmethod
    def write(path: Path, version: int, tensors: list[Tensor]) -> None:
        """Placed as the server places it: the data begin on a page."""
        metadata = {"version": str(version), "room": ""}
        header, _ = header_bytes([(t.name, t.dtype, t.shape) for t in tensors], metadata)
        metadata["room"] = " " * (-len(header) % PAGE_BYTES)
        write_safetensors(path, tensors, metadata)

    def make_current(self, version: int) -> None:
        (self.model / ".next").symlink_to(str(version))
        (self.model / ".next").rename(self.model / "current")

    def follow(self, *versions: int) -> Follower:
        """A follower that has seen these versions become current, one after the other."""
        self.make_current(versions[0])
        follower = Follower(self.data_dir, self.library)
        self.await_seen(follower, versions[0])
        for version in versions[1:]:
            self.make_current(version)
            self.await_seen(follower, version)
        return follower

    @staticmethod
    def await_seen(follower: Follower, version: int) -> None:
        seen = f"the follower sees version {version}"
        wait_until(lambda: follower.error is not None or version in follower.versions, seen, 30)

    def assert_stops_with(self, follower: Follower, words: str) -> None:
        wait_until(lambda: follower.error is not None, "the follower sees what is wrong", 30)
        with self.assertRaisesRegex(BrokenInvariant, words):
            follower.stop()

    def test_rising_versions_are_well(self) -> None:
        self.assertEqual(self.follow(1, 2, 3).stop(), [1, 2, 3])

    def test_an_older_version_that_it_knows_is_current_again_for_a_while(self) -> None:
        follower = self.follow(1, 2)
        self.make_current(1)
        wait_until(lambda: follower.error is not None, "the follower sees version 1 again", 30)
        self.make_current(2)
        self.assert_stops_with(follower, r"saw version 1 after \[1, 2\]")

    def test_equal_bytes_in_another_file_are_not_the_version_that_was_committed(self) -> None:
        follower = self.follow(1, 2)
        path = self.model / "2" / "model.safetensors"
        (self.model / "other").write_bytes(path.read_bytes())
        (self.model / "other").rename(path)
        self.assert_stops_with(follower, "version 2 is not the file")

    def test_a_version_that_is_open_changes(self) -> None:
        follower = self.follow(1, 2)
        with (self.model / "1" / "model.safetensors").open("r+b") as file:
            file.seek(-1, os.SEEK_END)
            file.write(b"\0")
        with self.assertRaisesRegex(BrokenInvariant, "version 1 has changed"):
            follower.stop()

    def test_current_is_gone(self) -> None:
        follower = self.follow(1)
        (self.model / "current").unlink()
        self.assert_stops_with(follower, "current is gone")

    def test_bytes_that_nobody_sent(self) -> None:
        follower = self.follow(1)
        other = [Tensor("w", "U8", (256,), bytes([9]) * 256)]
        (self.model / "4").mkdir()
        self.write(self.model / "4" / "model.safetensors", 3, other)
        self.make_current(4)
        self.assert_stops_with(follower, "is not version 3 as it was sent")


if __name__ == "__main__":
    python_cases.main()
