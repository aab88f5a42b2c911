"""What the check of invariant 4 must not let pass."""

from __future__ import annotations

import unittest

from tests.faults.resends import Begin, Landed, Mark, Sent, check, check_line
from tests.faults.witness import BrokenInvariant
from tools import python_cases

KIB = 1 << 10
MIB = 1 << 20
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


class OnTheLine(unittest.TestCase):
    """A push of 12 MiB that is cut with 8 MiB landed; where the cut is, 9 MiB have passed."""

    SENT = Sent(tensors=60, chunk_bytes=64 * KIB)
    BEGINS = (Begin("a", False, 12 * MIB, 10), Begin("a", True, 4 * MIB, 30))
    START = Mark(log_position=5, passed_bytes=1000)
    CUT = Mark(log_position=20, passed_bytes=1000 + 9 * MIB, rest_bytes=4 * MIB)

    def passed_at_end(self, after_cut: int) -> int:
        return self.CUT.passed_bytes + after_cut

    def test_the_rest_and_its_framing(self) -> None:
        line = check_line(self.BEGINS, (self.START, self.CUT), self.passed_at_end(4 * MIB + 30 * KIB), self.SENT)
        self.assertEqual((line.marks_in_mid_push, line.bytes_since_them), (1, 4 * MIB + 30 * KIB))

    def test_a_client_that_sends_all_again(self) -> None:
        with self.assertRaisesRegex(BrokenInvariant, "passed on the line"):
            check_line(self.BEGINS, (self.START, self.CUT), self.passed_at_end(12 * MIB), self.SENT)

    def test_a_tenth_of_what_had_landed(self) -> None:
        with self.assertRaisesRegex(BrokenInvariant, "passed on the line"):
            check_line(self.BEGINS, (self.START, self.CUT), self.passed_at_end(4 * MIB + 8 * MIB // 10), self.SENT)

    def test_a_round_that_had_begun_before_the_cut_and_goes_on(self) -> None:
        # Its Begin was answered; its connections were not there yet.
        begins = (self.BEGINS[0], Begin("a", True, 4 * MIB, 18))
        check_line(begins, (self.START, self.CUT), self.passed_at_end(4 * MIB + 30 * KIB), self.SENT)
        with self.assertRaisesRegex(BrokenInvariant, "passed on the line"):
            check_line(begins, (self.START, self.CUT), self.passed_at_end(5 * MIB), self.SENT)
        # Or begins once more for what it did not get through.
        both = (*begins, Begin("a", True, 3 * MIB, 30))
        check_line(both, (self.START, self.CUT), self.passed_at_end(4 * MIB + 30 * KIB), self.SENT)
        with self.assertRaisesRegex(BrokenInvariant, "passed on the line"):
            check_line(both, (self.START, self.CUT), self.passed_at_end(6 * MIB), self.SENT)

    def test_a_killed_client_goes_on_with_nothing(self) -> None:
        killed = Mark(log_position=20, passed_bytes=self.CUT.passed_bytes)
        with self.assertRaisesRegex(BrokenInvariant, "passed on the line"):
            check_line(self.BEGINS[:1], (self.START, killed), self.passed_at_end(MIB), self.SENT)

    def test_what_else_broke_may_cost_what_was_in_flight(self) -> None:
        passed = self.passed_at_end(7 * MIB)
        check_line(self.BEGINS, (self.START, self.CUT), passed, self.SENT, undisturbed=False)
        with self.assertRaisesRegex(BrokenInvariant, "passed on the line"):
            check_line(self.BEGINS, (self.START, self.CUT), passed, self.SENT)

    def test_a_superseded_sender_may_send_a_chunk_a_stream(self) -> None:
        chunk = self.SENT.chunk_bytes
        passed = self.passed_at_end(4 * MIB + 4 * chunk)
        check_line(self.BEGINS, (self.START, self.CUT), passed, self.SENT, superseded_streams=4)
        with self.assertRaisesRegex(BrokenInvariant, "passed on the line"):
            check_line(self.BEGINS, (self.START, self.CUT), passed + MIB, self.SENT, superseded_streams=4)

    def test_a_round_that_sends_twice_without_a_fault(self) -> None:
        with self.assertRaisesRegex(BrokenInvariant, "passed on the line"):
            check_line(self.BEGINS[:1], (self.START,), 1000 + 2 * 12 * MIB, self.SENT)

    def test_framing_is_a_small_part(self) -> None:
        # Measured: 427 KB for 96 MiB in chunks of 16 KiB, 94 KB in chunks of 256 KiB, each of 300 tensors.
        for chunk_bytes in (16 * KIB, 256 * KIB):
            most = Sent(300, chunk_bytes).most_bytes(96 * MIB)
            self.assertLess(most, 96 * MIB * 1.01)


if __name__ == "__main__":
    python_cases.main()
