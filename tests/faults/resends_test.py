"""What the check of invariant 4 must not let pass."""

from __future__ import annotations

import unittest

from tests.faults.resends import Begin, Landed, check
from tests.faults.witness import BrokenInvariant
from tools import python_cases

_TOTAL = 1000
_BEGUN = Begin("a", resumed=False, missing_bytes=_TOTAL, log_position=10)


class ResendsTest(unittest.TestCase):
    def test_a_resume_that_asks_for_the_rest(self) -> None:
        resumed = Begin("a", resumed=True, missing_bytes=300, log_position=30)
        proven = check([_BEGUN, resumed], [Landed("a", 600, _TOTAL, 20)], may_lose=False)
        self.assertEqual((proven.resumes, proven.bytes_kept), (1, 600))

    def test_a_server_that_forgets_everything_at_a_reconnect(self) -> None:
        resumed = Begin("a", resumed=True, missing_bytes=_TOTAL, log_position=30)
        landed = [Landed("a", 600, _TOTAL, 20)]
        self.assertEqual(check([_BEGUN, resumed], [], may_lose=False).resumes, 0)  # That alone does not show it.
        for may_lose in (False, True):
            with self.assertRaisesRegex(BrokenInvariant, "asked for again"):
                check([_BEGUN, resumed], landed, may_lose)

    def test_one_byte_too_many(self) -> None:
        landed = [Landed("a", 600, _TOTAL, 20)]
        check([Begin("a", True, 400, 30)], landed, may_lose=False)
        with self.assertRaisesRegex(BrokenInvariant, "asked for again"):
            check([Begin("a", True, 401, 30)], landed, may_lose=False)

    def test_an_update_that_is_begun_anew(self) -> None:
        anew = Begin("b", resumed=False, missing_bytes=_TOTAL, log_position=30)
        landed = [Landed("a", 600, _TOTAL, 20)]
        with self.assertRaisesRegex(BrokenInvariant, "was forgotten"):
            check([_BEGUN, anew], landed, may_lose=False)
        # A server that was killed may lose it: that is the design.
        self.assertEqual(check([_BEGUN, anew], landed, may_lose=True).resumes, 0)

    def test_what_landed_after_a_begin_says_nothing_of_it(self) -> None:
        self.assertEqual(check([_BEGUN], [Landed("a", 600, _TOTAL, 20)], may_lose=False).resumes, 0)

    def test_an_update_that_misses_more_than_before(self) -> None:
        with self.assertRaisesRegex(BrokenInvariant, "misses bytes that it had"):
            check([Begin("a", True, 300, 30), Begin("a", True, 301, 40)], [], may_lose=True)


if __name__ == "__main__":
    python_cases.main()
