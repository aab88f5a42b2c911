"""A push is a span of its own in its caller's trace; what is no trace is refused, or passed over in the environment."""

from __future__ import annotations

import os
import unittest
from unittest import mock

import weightstream
from weightstream.trace import VARIABLE, traceparent_for_push

from tools import python_cases

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
SPAN = "00f067aa0ba902b7"
PARENT = f"00-{TRACE}-{SPAN}-01"

NONE = [
    "",
    "00",
    f"00-{TRACE}-{SPAN}",
    f"00-{TRACE}-{SPAN}-1",
    f"00-{TRACE}-{SPAN}-01-more",
    f"00-{TRACE.upper()}-{SPAN}-01",
    f"00-{'0' * 32}-{SPAN}-01",
    f"00-{TRACE}-{'0' * 16}-01",
    f"ff-{TRACE}-{SPAN}-01",
    f" {PARENT}",
    f"{PARENT}\n",
    f"00-{TRACE[:-1]}-{SPAN}0-01",
]


class Spans(unittest.TestCase):
    def test_a_child_is_of_the_same_trace_and_a_span_of_its_own(self) -> None:
        children = {traceparent_for_push(PARENT) for _ in range(10)}
        self.assertEqual(len(children), 10)
        for child in children:
            self.assertRegex(child or "", rf"\A00-{TRACE}-[0-9a-f]{{16}}-01\Z")
            self.assertNotIn(SPAN, child or "")

    def test_only_the_flags_that_are_known_are_handed_on(self) -> None:
        for flags, kept in (("00", "00"), ("ff", "03"), ("fe", "02")):
            self.assertEqual((traceparent_for_push(f"00-{TRACE}-{SPAN}-{flags}") or "")[-2:], kept)

    def test_a_later_version_is_read_as_far_as_it_is_known(self) -> None:
        child = traceparent_for_push(f"01-{TRACE}-{SPAN}-01-more")
        self.assertRegex(child or "", rf"\A00-{TRACE}-[0-9a-f]{{16}}-01\Z")

    def test_what_is_none_is_refused_and_passed_over_in_the_environment(self) -> None:
        for text in NONE:
            with self.subTest(text):
                with self.assertRaisesRegex(weightstream.InvalidArgumentError, "traceparent is"):
                    traceparent_for_push(text)
                with mock.patch.dict(os.environ, {VARIABLE: text}):
                    self.assertIsNone(traceparent_for_push(None))

    def test_the_environment_is_asked_where_nothing_is_given(self) -> None:
        with mock.patch.dict(os.environ, {VARIABLE: PARENT}):
            self.assertIn(TRACE, traceparent_for_push(None) or "")
            other = "a" * 32
            self.assertIn(other, traceparent_for_push(f"00-{other}-{SPAN}-00") or "")
        with mock.patch.dict(os.environ):
            os.environ.pop(VARIABLE, None)
            self.assertIsNone(traceparent_for_push(None))


if __name__ == "__main__":
    python_cases.main()
