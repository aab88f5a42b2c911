"""The header is safetensors', starts the data on a page, and depends on nothing but what it describes.

That it is the server's own, byte for byte, is damage_test's to prove.
"""

from __future__ import annotations

import json
import unittest

import crc32c
from weightstream.header import encode_header, manifest_crc32c
from weightstream.spec import TensorSpec

from tools import python_cases

SPECS = [TensorSpec("b", "U8", (3,)), TensorSpec("a", "F32", (2, 5)), TensorSpec("ü", "F32", ())]


class Header(unittest.TestCase):
    def test_it_says_what_lies_where(self) -> None:
        header = encode_header(SPECS, {"format": "pt"})
        self.assertEqual(len(header), 4096)
        self.assertEqual(int.from_bytes(header[:8], "little"), 4096 - 8)
        parsed = json.loads(header[8:])
        self.assertEqual(list(parsed), ["__metadata__", "a", "ü", "b"])
        self.assertEqual(parsed["__metadata__"], {"format": "pt"})
        self.assertEqual(parsed["a"], {"dtype": "F32", "shape": [2, 5], "data_offsets": [0, 40]})
        self.assertEqual(parsed["ü"], {"dtype": "F32", "shape": [], "data_offsets": [40, 44]})
        self.assertEqual(parsed["b"]["data_offsets"], [44, 47])

    def test_the_order_that_things_came_in_is_nothing_to_it(self) -> None:
        self.assertEqual(encode_header(SPECS, {"x": "1", "a": "2"}), encode_header(SPECS[::-1], {"a": "2", "x": "1"}))

    def test_a_text_that_fills_a_page_gets_no_second(self) -> None:
        for length, size in ((4096 - 8, 4096), (4096 - 7, 8192)):
            text = length - len('{"__metadata__":{"":""}}')
            self.assertEqual(len(encode_header([], {"": "x" * text})), size)

    def test_its_checksum_is_of_all_of_it(self) -> None:
        self.assertEqual(manifest_crc32c(SPECS, {}), crc32c.crc32c(encode_header(SPECS, {})))


if __name__ == "__main__":
    python_cases.main()
