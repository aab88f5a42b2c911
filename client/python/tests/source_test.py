"""What can be pushed: borrowed where it can be, copied a few tensors at a time where it cannot, in layout order."""

from __future__ import annotations

import os
import unittest
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest import mock

import numpy as np
import weightstream
from weightstream import source
from weightstream.source import open_source

from tests.end_to_end.checkpoints import filled_tensor, write_safetensors, write_sharded
from tools import python_cases


class Memory(unittest.TestCase):
    def test_contiguous_arrays_are_borrowed(self) -> None:
        array = np.arange(12, dtype=np.float32).reshape(3, 4)
        view = open_source({"a": array}).view(0)
        array[0, 0] = 7
        self.assertEqual(view.tobytes(), array.tobytes())

    def test_others_are_copied_a_few_at_a_time(self) -> None:
        opened = open_source({f"{i}": np.arange(6.0).reshape(2, 3).T for i in range(9)})
        with mock.patch.object(source, "_bytes_of", wraps=source._bytes_of) as reads:
            for _ in range(2):
                for tensor in range(9):
                    self.assertEqual(opened.view(tensor).tobytes(), np.arange(6.0).reshape(2, 3).T.tobytes())
                    opened.view(tensor)
            self.assertEqual(reads.call_count, 18)
        self.assertLessEqual(len(opened._copies), 4)

    def test_the_order_is_that_of_the_layout(self) -> None:
        arrays = {"b": np.zeros(1, np.uint8), "c": np.zeros(1), "ä": np.zeros(1, np.uint8), "a": np.zeros(1)}
        self.assertEqual([spec.name for spec in open_source(arrays).specs], ["a", "c", "b", "ä"])

    def test_each_source_has_an_id_of_its_own_unless_it_is_given_one(self) -> None:
        self.assertNotEqual(open_source({}).source_id, open_source({}).source_id)
        self.assertEqual(open_source({}, source_id="step 3").source_id, "step 3")
        with self.assertRaisesRegex(weightstream.InvalidArgumentError, "257 bytes"):
            open_source({}, source_id="x" * 257)

    def test_text_that_cannot_travel_is_refused_by_name(self) -> None:
        for arrays, metadata, words in (
            ({"\ud800": np.zeros(1)}, {}, "a tensor's name is '.ud800'.*lone surrogate"),
            ({1: np.zeros(1)}, {}, "a tensor's name is 1, not a str"),
            ({}, {"step": 3}, r"metadata\['step'\] is 3, not a str"),
            ({}, {3: "step"}, "a key of metadata is 3"),
            ({}, {"step": "\udfff"}, r"metadata\['step'\].*lone surrogate"),
        ):
            odd: Any = (arrays, metadata)
            with self.subTest(words), self.assertRaisesRegex(weightstream.InvalidArgumentError, words):
                open_source(*odd)
        with self.assertRaisesRegex(weightstream.InvalidArgumentError, "source_id.*lone surrogate"):
            open_source({}, source_id="\ud800")


class Checkpoint(unittest.TestCase):
    def setUp(self) -> None:
        folder = TemporaryDirectory(dir=os.environ.get("TEST_TMPDIR"))
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.tensors = [filled_tensor(f"t{i}", 10 + i, i + 1) for i in range(5)]

    def test_its_id_is_the_same_for_as_long_as_its_files_are(self) -> None:
        path = write_safetensors(self.folder / "a.safetensors", self.tensors)
        first = open_source(path)
        self.assertEqual(open_source(str(path)).source_id, first.source_id)
        first.check_unchanged()
        os.utime(path, ns=(1, 1))
        self.assertNotEqual(open_source(path).source_id, first.source_id)
        with self.assertRaisesRegex(weightstream.FailedPreconditionError, r"a\.safetensors was written"):
            first.check_unchanged()
        path.unlink()
        with self.assertRaisesRegex(weightstream.FailedPreconditionError, "removed"):
            first.check_unchanged()

    def test_a_sharded_one_is_the_sum_of_its_shards(self) -> None:
        opened = open_source(write_sharded(self.folder / "c", self.tensors, 2))
        found = {spec.name: opened.view(i).tobytes() for i, spec in enumerate(opened.specs)}
        self.assertEqual(found, {tensor.name: tensor.data for tensor in self.tensors})
        self.assertEqual(opened.metadata, {"format": "pt"})

    def test_what_is_missing_is_named(self) -> None:
        folder = write_sharded(self.folder / "c", self.tensors, 2)
        (folder / "model-00002-of-00002.safetensors").unlink()
        with self.assertRaisesRegex(weightstream.NotFoundError, "model-00002-of-00002"):
            open_source(folder)
        with self.assertRaisesRegex(weightstream.NotFoundError, "nothing-here"):
            open_source(self.folder / "nothing-here")
        (self.folder / "empty").mkdir()
        with self.assertRaisesRegex(weightstream.InvalidArgumentError, "neither"):
            open_source(self.folder / "empty")


if __name__ == "__main__":
    python_cases.main()
