"""What the watch of a server's memory must not let pass: one that holds a model, be it for a moment."""

from __future__ import annotations

import subprocess
import sys
import unittest

from tests.end_to_end.waiting import wait_until
from tests.faults.memory_watch import MemoryWatch, most_growth_bytes
from tests.faults.schedule import KINDS, draw
from tests.faults.witness import BrokenInvariant
from tools import python_cases

MIB = 1 << 20
# Of a push over one connection.
_MOST_BYTES = most_growth_bytes(1)
_MODEL_BYTES = 48 * MIB
# Takes that many bytes at a time, lets go of them, and says so; the memory it has when it first speaks is its baseline.
_TAKER = """
import mmap, sys
print("started", flush=True)
held = []
for line in sys.stdin:
    held.append(mmap.mmap(-1, int(line), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS))
    for at in range(0, int(line), 4096):
        held[-1][at] = 1
    print("taken", flush=True)
    if sys.argv[1] == "buffer" and sys.stdin.readline():
        held.pop().close()
        print("freed", flush=True)
"""


class MemoryWatchTest(unittest.TestCase):
    def start(self, what: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", _TAKER, what], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.addCleanup(self.process.communicate)
        self.expect("started")
        self.watch = MemoryWatch(self.process.pid)
        self.addCleanup(self.watch.stop)

    def expect(self, word: str) -> None:
        assert self.process.stdout is not None
        self.assertEqual(self.process.stdout.readline().strip(), word)

    def say(self, line: str, answer: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{line}\n")
        self.process.stdin.flush()
        self.expect(answer)

    def test_one_that_buffers_a_model_and_lets_go_of_it(self) -> None:
        self.start("buffer")
        self.say(str(_MODEL_BYTES), "taken")
        wait_until(lambda: self.watch.grown_bytes >= _MODEL_BYTES, "the watch sees it", 30)
        self.say("let go", "freed")
        with self.assertRaisesRegex(BrokenInvariant, "invariant 3: server 7 had"):
            self.watch.check("server 7", _MOST_BYTES)

    def test_one_that_keeps_two_thirds_of_a_model(self) -> None:
        self.start("keep")
        self.say(str(_MOST_BYTES + MIB), "taken")
        with self.assertRaisesRegex(BrokenInvariant, "invariant 3"):
            self.watch.check("server 7", _MOST_BYTES)

    def test_what_is_kept_of_each_push_adds_up(self) -> None:
        self.start("keep")
        for _ in range(3):
            self.watch.check("server 7", _MOST_BYTES)
            self.say(str(_MOST_BYTES // 3 + MIB), "taken")
        with self.assertRaisesRegex(BrokenInvariant, "invariant 3"):
            self.watch.check("server 7", _MOST_BYTES)

    def test_what_a_connection_has_on_its_way(self) -> None:
        self.start("keep")
        self.say(str(14 * MIB), "taken")
        self.assertGreaterEqual(self.watch.check("server 7", _MOST_BYTES), 14 * MIB)

    def test_every_kind_of_fault_meets_a_model_that_does_not_fit(self) -> None:
        large = [each for each in map(draw, range(1, 501)) if each.model_bytes > 1.4 * each.most_growth_bytes]
        self.assertEqual(len(large), 50)
        self.assertEqual({kind for schedule in large for kind in schedule.kinds()}, set(KINDS))
        # Those of `make test`.
        self.assertGreaterEqual(sum(schedule.seed < 35 for schedule in large), 3)


if __name__ == "__main__":
    python_cases.main()
