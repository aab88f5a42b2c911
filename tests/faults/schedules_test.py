"""Random schedules of faults against real processes: the invariants hold after each. SEEDS says which to play."""

from __future__ import annotations

import os
import unittest
from collections.abc import Callable
from pathlib import Path

from tests.end_to_end.processes import binary
from tests.faults.namespaces import keep_mounts_private, unavailable
from tests.faults.play import play
from tests.faults.schedule import NEEDS_LINE, Kind, Schedule, draw
from tools import python_cases

# "24+11 261+1": eleven from 24 on, and one.
_RANGES = [tuple(map(int, each.split("+"))) for each in os.environ["SEEDS"].split()]
_NO_MOUNTS = keep_mounts_private()
CLOCKS = {Kind.SERVER_CLOCK, Kind.CLIENT_CLOCK}


class Schedules(unittest.TestCase):
    """A case a seed: "bazel test //tests/faults:NAME --test_arg=Schedules.test_seed_7"."""

    def check(self, schedule: Schedule) -> None:
        print(schedule.describe(), flush=True)
        if Kind.DISK_FULL in schedule.kinds() and _NO_MOUNTS:
            self.skipTest(_NO_MOUNTS)
        lines_needed = sorted(kind.value for kind in schedule.kinds() & NEEDS_LINE)
        if lines_needed and unavailable():
            self.skipTest(f"{', '.join(lines_needed)}: {unavailable()}")
        if schedule.kinds() & CLOCKS and b"libtsan.so" in Path(binary("WEIGHTSTREAM_SERVER")).read_bytes():
            self.skipTest("clock jumps: ThreadSanitizer's library must be the first, where the jumping clock has to be")
        tally = play(schedule)
        print(f"  made: {dict(tally.faults)}; seen: {tally.seen()}", flush=True)
        self.assertGreaterEqual(tally.counts["pushes done"], 1)


def _case(seed: int) -> Callable[[Schedules], None]:
    return lambda self: self.check(draw(seed))


for _seed in (seed for first, count in _RANGES for seed in range(first, first + count)):
    setattr(Schedules, f"test_seed_{_seed}", _case(_seed))


if __name__ == "__main__":
    python_cases.main()
