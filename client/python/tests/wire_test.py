"""Chunks are the same on the wire as those of the generated class, and read in whatever order their fields come."""

from __future__ import annotations

import tracemalloc
import unittest
from collections.abc import Callable
from typing import Any

import crc32c
import weightstream
from weightstream.spec import TensorSpec
from weightstream.v1 import weightstream_pb2 as ws
from weightstream.wire import decode_chunk, encode_chunk

from tools import python_cases

SPEC = TensorSpec("layer.weight", "BF16", (300, 7))
LARGE_BYTES = 4 << 20


def most_allocated(run: Callable[[], Any]) -> int:
    """Bytes that Python held at once while it ran, beyond those of before."""
    tracemalloc.start()
    try:
        run()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


class Encoded(unittest.TestCase):
    def test_it_is_what_the_generated_class_writes(self) -> None:
        for data in (b"", b"x", bytes(range(256)) * 700):
            expected = ws.WeightChunk(
                name=SPEC.name, dtype=SPEC.dtype, shape=SPEC.shape, offset=12, crc32c=crc32c.crc32c(data), update_id="u"
            )
            expected.header_crc32c = crc32c.crc32c(expected.SerializeToString())
            expected.data = data
            found = ws.WeightChunk.FromString(encode_chunk(SPEC, 12, [memoryview(data)], "u"))
            self.assertEqual(found, expected)

    def test_pieces_lie_one_behind_the_other(self) -> None:
        message = encode_chunk(SPEC, 0, [memoryview(b"abc"), memoryview(b""), memoryview(b"de")], "", ["x", "y"])
        found = ws.WeightChunk.FromString(message)
        self.assertEqual((found.data, found.crc32c, list(found.followed_by)), (b"abcde", 0xC450D697, ["x", "y"]))
        self.assertEqual(found.crc32c, crc32c.crc32c(b"abcde"))

    def test_the_payload_is_copied_once(self) -> None:
        half = memoryview(bytes(LARGE_BYTES // 2))
        allocated = most_allocated(lambda: encode_chunk(SPEC, 0, [half, half], "u"))
        self.assertLess(LARGE_BYTES, allocated)
        self.assertLess(allocated, LARGE_BYTES * 5 // 4)

    def test_data_come_last(self) -> None:
        data = bytes(1000)
        self.assertTrue(encode_chunk(SPEC, 1 << 40, [memoryview(data)], "u").endswith(data))


class Decoded(unittest.TestCase):
    def test_the_payload_stays_in_the_message(self) -> None:
        data = bytes(range(256)) * 9
        message = encode_chunk(SPEC, 5, [memoryview(data)], "u", ["next"])
        chunk, payload = decode_chunk(message)
        self.assertEqual((chunk.name, chunk.offset, chunk.data, payload), (SPEC.name, 5, b"", data))
        self.assertIs(payload.obj, message)

    def test_the_payload_is_not_copied(self) -> None:
        message = encode_chunk(SPEC, 0, [memoryview(bytes(LARGE_BYTES))], "u")
        self.assertLess(most_allocated(lambda: decode_chunk(message)), LARGE_BYTES // 4)

    def test_fields_in_another_order_are_read(self) -> None:
        parts = [ws.WeightChunk(data=b"xyz"), ws.WeightChunk(name="late"), ws.WeightChunk(crc32c=7)]
        chunk, payload = decode_chunk(b"".join(part.SerializeToString() for part in parts))
        self.assertEqual((chunk.name, chunk.crc32c, payload), ("late", 7, b"xyz"))

    def test_the_last_of_two_payloads_counts(self) -> None:
        message = ws.WeightChunk(data=b"first").SerializeToString() + ws.WeightChunk(data=b"2nd").SerializeToString()
        self.assertEqual(decode_chunk(message)[1], b"2nd")

    def test_a_chunk_without_data_is_read(self) -> None:
        chunk, payload = decode_chunk(ws.WeightChunk(name="empty").SerializeToString())
        self.assertEqual((chunk.name, payload), ("empty", b""))

    def test_a_flipped_bit_of_the_header_is_noticed(self) -> None:
        message = encode_chunk(SPEC, 5, [memoryview(b"data")], "u", ["next"])
        covered = len(message) - len(b"\x9d\x06CRC!" + b"\xa2\x06\x04data")
        noticed = 0
        for bit in range(8 * covered):
            damaged = bytearray(message)
            damaged[bit // 8] ^= 1 << bit % 8
            try:
                chunk, _ = decode_chunk(bytes(damaged))
            except weightstream.DataLossError:
                noticed += 1
            except weightstream.InternalError:
                continue  # No message any more.
            else:
                # One field has swallowed both checksums: a reader refuses data without theirs.
                self.assertFalse(chunk.HasField("crc32c"), damaged)
        self.assertGreater(noticed, 6 * covered)

    def test_a_header_without_a_checksum_is_believed(self) -> None:
        """As servers of before it was there send it."""
        self.assertEqual(decode_chunk(ws.WeightChunk(name="n", data=b"x").SerializeToString())[1], b"x")

    def test_the_last_of_two_header_checksums_counts(self) -> None:
        first = ws.WeightChunk(name="n", header_crc32c=7).SerializeToString()
        for wrong in (0, 1):
            second = ws.WeightChunk(header_crc32c=crc32c.crc32c(first) ^ wrong, data=b"x").SerializeToString()
            if wrong:
                with self.assertRaises(weightstream.DataLossError):
                    decode_chunk(first + second)
            else:
                self.assertEqual(decode_chunk(first + second)[1], b"x")

    def test_what_is_no_chunk_is_an_error(self) -> None:
        message = encode_chunk(SPEC, 5, [memoryview(bytes(300))], "u")
        for cut in range(1, len(message)):
            try:
                chunk, payload = decode_chunk(message[:cut])
            except weightstream.InternalError:
                continue
            self.assertEqual(payload, b"", f"{cut} bytes of a chunk gave {len(payload)} bytes of data")
            self.assertFalse(chunk.data)


if __name__ == "__main__":
    python_cases.main()
