"""Chunks cover what is missing once, within the limits, and small tensors travel together."""

from __future__ import annotations

import unittest
from typing import Any

import numpy as np
import weightstream
from weightstream.plan import Chunk, Missing, Plan, check_missing
from weightstream.source import open_source
from weightstream.spec import TensorSpec
from weightstream.v1 import weightstream_pb2 as ws

from tools import python_cases

MIB = 1 << 20


def chunks_of(plan: Plan) -> list[Chunk]:
    return list(iter(plan.take, None))


class Cut(unittest.TestCase):
    def test_each_missing_byte_is_sent_once_and_nothing_else(self) -> None:
        rng = np.random.default_rng(5)
        specs = [TensorSpec(f"t{i}", "F32", (int(rng.integers(1, 300_000)),)) for i in range(40)]
        missing = []
        for i, spec in enumerate(specs):
            cuts = sorted({int(cut) for cut in rng.integers(0, spec.nbytes + 1, 6)})
            missing.append(Missing(i, tuple(zip(cuts[::2], cuts[1::2], strict=False))))
        for chunk_bytes in (3, 4096, 100_000, MIB):
            wanted = [(m.tensor, b) for m in missing for r in m.ranges for b in range(r[0], r[1], 997)]
            covered: dict[int, list[tuple[int, int]]] = {}
            few = missing if chunk_bytes > 3 else [Missing(0, ((7, 40), (50, 99)))]
            for chunk in chunks_of(Plan(specs, few, chunk_bytes, pack=False)):
                self.assertTrue(0 < chunk.end - chunk.begin <= chunk_bytes)
                covered.setdefault(chunk.tensor, []).append((chunk.begin, chunk.end))
            for each in few:
                joined: list[list[int]] = []
                for begin, end in covered.get(each.tensor, []):
                    if joined and joined[-1][1] == begin and (begin not in [r[0] for r in each.ranges]):
                        joined[-1][1] = end
                    else:
                        joined.append([begin, end])
                self.assertEqual([tuple(j) for j in joined], [r for r in each.ranges if r[0] < r[1]])
            self.assertTrue(wanted)

    def test_chunks_end_between_elements_and_on_pages(self) -> None:
        spec = TensorSpec("t", "F64", (100_000,))
        ends = [c.end for c in chunks_of(Plan([spec], [Missing(0, ((8, 800_000),))], 10_000, pack=False))]
        self.assertTrue(all(end % 4096 == 0 for end in ends[:-1]))
        ends = [c.end for c in chunks_of(Plan([spec], [Missing(0, ((0, 800),))], 100, pack=False))]
        self.assertTrue(all(end % 8 == 0 for end in ends))


class Packed(unittest.TestCase):
    def pack(self, specs: list[TensorSpec], chunk_bytes: int = MIB) -> list[Chunk]:
        missing = [Missing(i, ((0, spec.nbytes),)) for i, spec in enumerate(specs) if spec.nbytes]
        return chunks_of(Plan(specs, missing, chunk_bytes, pack=True))

    def test_small_tensors_travel_together_after_the_large_ones(self) -> None:
        specs = [TensorSpec("a", "U8", (100,)), TensorSpec("b", "U8", (MIB,)), TensorSpec("c", "U8", (50,))]
        self.assertEqual(self.pack(specs), [Chunk(1, 0, MIB), Chunk(0, 0, 100, (2,))])

    def test_no_pack_passes_the_limits_of_bytes_count_and_names(self) -> None:
        for specs in (
            [TensorSpec(f"{i}", "U8", (200_000,)) for i in range(40)],
            [TensorSpec(f"{i}", "U8", (1,)) for i in range(10_000)],
            [TensorSpec(f"{i:04000}", "U8", (1,)) for i in range(60)],
        ):
            chunks = self.pack(specs)
            sent = [tensor for chunk in chunks for tensor in (chunk.tensor, *chunk.followed_by)]
            self.assertEqual(sent, list(range(len(specs))))
            self.assertGreater(len(chunks), 1)
            for chunk in chunks:
                following = [specs[tensor] for tensor in chunk.followed_by]
                self.assertLessEqual(chunk.end + sum(spec.nbytes for spec in following), MIB)
                self.assertLessEqual(len(following), 4096)
                self.assertLessEqual(sum(len(spec.name) for spec in following), 48 << 10)

    def test_a_tensor_of_which_a_part_is_missing_goes_alone(self) -> None:
        specs = [TensorSpec("a", "U8", (100,)), TensorSpec("b", "U8", (100,))]
        missing = [Missing(0, ((0, 50),)), Missing(1, ((0, 100),))]
        self.assertEqual(chunks_of(Plan(specs, missing, MIB, pack=True)), [Chunk(0, 0, 50), Chunk(1, 0, 100)])


class CheckedReply(unittest.TestCase):
    def setUp(self) -> None:
        self.source = open_source({"a": np.zeros(100, np.uint8), "b": np.zeros(0, np.uint8)})

    def reply(self, *ranges: tuple[str, int, int], **fields: Any) -> Any:
        missing = [ws.TensorRanges(name=n, ranges=[ws.ByteRange(begin=b, end=e)]) for n, b, e in ranges]
        size = sum(end - begin for _, begin, end in ranges)
        honest = {"update_id": "u", "bucket_limit_bytes": 9, "missing_bytes": size, "missing": missing}
        return ws.BeginUpdateResponse(**(honest | fields))

    def test_what_makes_sense_is_taken(self) -> None:
        self.assertEqual(check_missing(self.reply(("a", 3, 9)), self.source), [Missing(0, ((3, 9),))])
        everything = self.reply(everything_missing=True, missing_bytes=100)
        self.assertEqual(check_missing(everything, self.source), [Missing(0, ((0, 100),))])
        self.assertEqual(check_missing(self.reply(), self.source), [])

    def test_what_makes_none_is_refused(self) -> None:
        for reply, words in (
            (self.reply(update_id=""), "update id"),
            (self.reply(("c", 0, 1)), '"c"'),
            (self.reply(("a", 0, 101)), "of 100"),
            (self.reply(("a", 5, 5)), r"\[5, 5\)"),
            (self.reply(("a", 0, 1), ("a", 1, 2)), "twice"),
            (self.reply(("a", 0, 1), missing_bytes=2), "add up to 1"),
            (self.reply(("a", 0, 1), bucket_limit_bytes=0), "bucket limit"),
        ):
            with self.subTest(words), self.assertRaisesRegex(weightstream.InternalError, words):
                check_missing(reply, self.source)


if __name__ == "__main__":
    python_cases.main()
