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
        return Report("made up", 1, updates, [0.1], samples)

    def test_growth_of_memory_is_found(self) -> None:
        samples = [Sample(100 * MIB + i * MIB, 20, 10) for i in range(100)]
        with self.assertRaisesRegex(LoadError, "memory grew"):
            self.report(samples, [5]).check()

    def test_growth_of_descriptors_is_found(self) -> None:
        samples = [Sample(100 * MIB, 20 + i, 10) for i in range(100)]
        with self.assertRaisesRegex(LoadError, "descriptors grew"):
            self.report(samples, [5]).check()

    def test_unfair_shares_are_found(self) -> None:
        samples = [Sample(100 * MIB, 20, 10)] * 100
        self.report(samples, [5, 10]).check()
        with self.assertRaisesRegex(LoadError, "from 4 to 10 updates"):
            self.report(samples, [4, 10]).check()


if __name__ == "__main__":
    python_cases.main()
