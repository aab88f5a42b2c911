"""A short load of one server by many clients, and many updates in a row: no error, no growth, fair shares."""

from __future__ import annotations

import math
import os
import unittest
from collections.abc import Callable
from pathlib import Path

from tests.load.load import Binaries, LoadError, Report, Round, Sample, run
from tools import python_cases

KIB = 1 << 10
MIB = 1 << 20
CLIENTS = 32
UPDATES = 400
SECONDS = 10


def binaries() -> Binaries:
    paths = [Path(os.environ[name]) for name in ("WEIGHTSTREAM_SERVER", "LOAD_CLIENT", "HEAP_GAUGE_LIBRARY")]
    return Binaries(paths[0], paths[1], paths[2])


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
    """The load is judged by figures: what settles passes, and what goes on fails."""

    def run_of(self, clients: int, **grown: Callable[[float], float]) -> Report:
        """Ten minutes, a sample a second: each of these grows so by its function of the time, 0 to 1."""

        def sample_at(second: int, at_rest: bool) -> Sample:
            def more(what: str) -> int:
                return int(grown[what](second / 600)) if what in grown else 0

            in_flight = 0 if at_rest else 1 + second % 7
            return Sample(
                MIB + in_flight * 100 * KIB + more("heap"),
                20 * MIB + more("memory"),
                2 * clients * MIB + more("shared"),
                20 + in_flight + more("descriptors"),
                10 + more("threads"),
            )

        rounds = [
            Round(
                [sample_at(second, False) for second in range(150 * i, 150 * i + 150)], sample_at(150 * i + 150, True)
            )
            for i in range(4)
        ]
        return Report("made up", 600, [700] * clients, [0.1], rounds)

    @staticmethod
    def ramp(by: float) -> Callable[[float], float]:
        return lambda time: by * time

    @staticmethod
    def settling(by: float) -> Callable[[float], float]:
        """Nearly all in the first quarter."""
        return lambda time: by * (1 - math.exp(-12 * time))

    @staticmethod
    def step(by: float, at: float) -> Callable[[float], float]:
        return lambda time: by * (time >= at)

    def test_what_settles_is_no_growth(self) -> None:
        for clients in (1, 64):
            settled = {
                "heap": self.settling(MIB),
                "memory": self.settling(8 * MIB),
                "shared": self.settling(8 * MIB),
                "descriptors": self.settling(40),
                "threads": self.settling(20),
            }
            self.run_of(clients, **settled).check()

    def test_all_that_malloc_keeps_at_a_late_step_is_no_leak(self) -> None:
        for at in (0.3, 0.6, 0.9):
            self.run_of(64, memory=self.step(6 * MIB, at)).check()

    def test_a_ramp_of_memory_is_found(self) -> None:
        # Of this size the judge once took a ramp for something that settles.
        for clients, by in ((64, 8 * MIB), (1, 3 * MIB)):
            with self.assertRaisesRegex(LoadError, "memory goes on to grow"):
                self.run_of(clients, memory=self.ramp(by)).check()

    def test_a_large_step_is_found(self) -> None:
        with self.assertRaisesRegex(LoadError, "memory grew in the last quarter"):
            self.run_of(64, memory=self.step(20 * MIB, 0.8)).check()

    def test_four_bytes_of_an_update_are_found(self) -> None:
        for updates, clients in ((64 * 700, 64), (10_000, 1)):
            with self.assertRaisesRegex(LoadError, "heap in use at rest grew"):
                self.run_of(clients, heap=self.ramp(4 * updates)).check()

    def test_an_arena_of_each_thousandth_update_is_found(self) -> None:
        with self.assertRaisesRegex(LoadError, "shared memory grew"):
            self.run_of(1, shared=self.ramp(10_000 / 1000 * MIB)).check()

    def test_a_descriptor_of_each_five_hundredth_update_is_found(self) -> None:
        with self.assertRaisesRegex(LoadError, "descriptors at rest grew"):
            self.run_of(1, descriptors=self.ramp(10_000 / 500)).check()

    def test_a_thread_of_each_thousandth_update_is_found(self) -> None:
        with self.assertRaisesRegex(LoadError, "threads grew"):
            self.run_of(64, threads=self.ramp(64 * 700 / 1000)).check()

    def test_unfair_shares_are_found(self) -> None:
        report = self.run_of(2)
        report.updates = [5, 10]
        report.check()
        report.updates = [4, 10]
        with self.assertRaisesRegex(LoadError, "from 4 to 10 updates"):
            report.check()

    def test_the_report_has_all_four_quarters(self) -> None:
        lines = "\n".join(self.run_of(2, memory=self.ramp(80 * MIB), descriptors=self.ramp(16)).lines())
        self.assertIn("memory of its own, median of each quarter, MiB: 29.9 -> 49.9 -> 69.9 -> 89.9", lines)
        self.assertIn("descriptors after each quarter: 24 -> 28 -> 32 -> 36", lines)
        self.assertIn("KiB: 1,024.0 -> 1,024.0 -> 1,024.0 -> 1,024.0", lines)


if __name__ == "__main__":
    python_cases.main()
