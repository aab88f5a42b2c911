"""A short load of one server by many clients, and many updates in a row: no error, no growth, fair shares."""

from __future__ import annotations

import os
import unittest
from pathlib import Path

from tests.load.load import Binaries, LoadError, Report, Sample, run
from tools import python_cases

MIB = 1 << 20
CLIENTS = 32
UPDATES = 400
SECONDS = 10


def binaries() -> Binaries:
    return Binaries(Path(os.environ["WEIGHTSTREAM_SERVER"]), Path(os.environ["LOAD_CLIENT"]))


class Load(unittest.TestCase):
    def test_many_clients_get_fair_shares_and_nothing_grows(self) -> None:
        report = run(
            "clients",
            binaries(),
            [f"--clients={CLIENTS}", f"--seconds={SECONDS}", "--model_kib=512", "--report_ms=100"],
        )
        print("\n".join(report.lines()))
        report.check()
        self.assertEqual(len(report.updates), CLIENTS)
        self.assertGreaterEqual(min(report.updates), 1)
        self.assertEqual(len(report.latencies), sum(report.updates))

    def test_many_updates_in_a_row_grow_nothing(self) -> None:
        flags = ["--clients=1", f"--updates={UPDATES}", "--model_kib=64", "--report_ms=20"]
        report = run("in a row", binaries(), flags)
        print("\n".join(report.lines()))
        report.check()
        self.assertEqual(report.updates, [UPDATES])


class Judgement(unittest.TestCase):
    """The load is judged by figures: these would fail it."""

    def report(self, samples: list[Sample], updates: list[int]) -> Report:
        return Report("made up", 600, updates, [0.1], samples)

    def grows(
        self, clients: int, memory: float = 0, shared: float = 0, descriptors: float = 0, threads: float = 0
    ) -> Report:
        """So much in ten minutes, evenly, on top of what was there."""
        samples = [
            Sample(
                100 * MIB + int(i / 600 * memory),
                2 * clients * MIB + int(i / 600 * shared),
                20 + int(i / 600 * descriptors),
                10 + int(i / 600 * threads),
            )
            for i in range(600)
        ]
        return self.report(samples, [700] * clients)

    def test_what_settles_is_no_growth(self) -> None:
        self.grows(64, memory=8 * MIB, shared=8 * MIB, descriptors=4, threads=4).check()
        self.grows(1, memory=2 * MIB, shared=MIB, descriptors=2, threads=4).check()

    def test_half_a_kib_an_update_is_found(self) -> None:
        with self.assertRaisesRegex(LoadError, "memory grew"):
            self.grows(64, memory=64 * 700 / 2 * 1024).check()

    def test_an_arena_of_each_five_hundredth_update_is_found(self) -> None:
        with self.assertRaisesRegex(LoadError, "shared memory grew"):
            self.grows(64, shared=64 * 700 / 500 * MIB).check()

    def test_a_descriptor_of_each_thousandth_update_is_found(self) -> None:
        with self.assertRaisesRegex(LoadError, "descriptors grew"):
            self.grows(64, descriptors=64 * 700 / 1000).check()

    def test_a_thread_of_each_thousandth_update_is_found(self) -> None:
        with self.assertRaisesRegex(LoadError, "threads grew"):
            self.grows(64, threads=64 * 700 / 1000).check()

    def test_unfair_shares_are_found(self) -> None:
        samples = [Sample(100 * MIB, MIB, 20, 10)] * 100
        self.report(samples, [5, 10]).check()
        with self.assertRaisesRegex(LoadError, "from 4 to 10 updates"):
            self.report(samples, [4, 10]).check()


if __name__ == "__main__":
    python_cases.main()
