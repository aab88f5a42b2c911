"""The parts of the driver, without the benchmark's processes."""

from __future__ import annotations

import dataclasses
import os
import shutil
import socket
import sys
import tempfile
import unittest
from collections.abc import Callable
from pathlib import Path
from unittest import mock

from tests.bench import bench, namespaces, readiness
from tests.bench.contenders import NOT_READY, Settings
from tests.bench.link import connections_to
from tests.bench.processes import BenchError, HighWater, Process, Receiver, run_round
from tests.bench.rounds import Case, Label, Round, Row, Section, interleave
from tests.bench.sweeps import warm_rows
from tests.bench.table import table

MIB = 1 << 20


def a_round(seconds: float, memory_mib: int = 1) -> Round:
    """1 GB in so many seconds."""
    return Round(10**9, 1, seconds, 0.5, 1.0, memory_mib * MIB, 2 * memory_mib * MIB)


class RoundsTest(unittest.TestCase):
    def test_rounds_of_all_are_interleaved(self) -> None:
        order: list[str] = []

        def case(name: str) -> Case:
            def run() -> list[tuple[Label, Round]]:
                order.append(name)
                return [(Label(name, 1, 1), a_round(1))]

            return run

        rows = interleave("test", 2, [case("a"), case("b")])
        self.assertEqual(order, ["a", "b", "a", "b"])
        self.assertEqual([len(row.rounds) for row in rows], [2, 2])

    def test_figures_are_medians_and_memory_is_the_most(self) -> None:
        row = Row(Label("tcp", 1, 1), [a_round(1, 5), a_round(0.5, 9), a_round(4, 1)])
        self.assertEqual(row.rate(), 1.0)
        self.assertEqual(row.memory("sender"), 9 * MIB)
        self.assertEqual(row.memory("receiver"), 18 * MIB)

    def test_the_rate_of_a_fleet_counts_every_receiver(self) -> None:
        self.assertEqual(Round(10**9, 4, 2.0, 0, 0, 0, 0).rate, 2.0)

    def test_rows_are_compared_with_tcp_of_the_same_connections(self) -> None:
        rows = [Row(Label("tcp", n, 1), [a_round(1 / n)]) for n in (1, 2)]
        rows += [Row(Label("weightstream", n, 1), [a_round(1)]) for n in (1, 2, 3)]
        section = Section("rate", "", rows)
        self.assertEqual([section.ratio(row) for row in rows], [1, 1, 1, 0.5, None])


class TableTest(unittest.TestCase):
    def test_columns_without_a_word_are_left_out(self) -> None:
        text = table(Section("rate", "title", [Row(Label("tcp", 2, 1), [a_round(1)])]))
        self.assertIn("of tcp", text)
        self.assertNotIn("arena", text)
        self.assertIn("arena", table(Section("rate", "", [Row(Label("weightstream", 2, 1, "cold"), [a_round(1)])])))

    def test_what_was_skipped_or_failed_says_why(self) -> None:
        self.assertIn("SKIPPED: needs root", table(Section("link", "", skipped="needs root")))
        self.assertIn("FAILED: no room", table(Section("link", "", failed="no room")))

    def test_rounds_without_memory_ready_are_told_and_not_plotted(self) -> None:
        rows = [Row(Label("weightstream", 2, 1, arena), [a_round(1)]) for arena in ("warm", NOT_READY)]
        section = Section("sweep", "", rows)
        self.assertEqual([row.label.arena for row in warm_rows(section)], ["warm"])
        self.assertIn("not in the plot: weightstream x2 NOT READY", table(section))


class PartsTest(unittest.TestCase):
    settings = Settings(Path(), Path(), Path(), Path(), total_mib=1)

    def test_without_root_the_link_is_listed_as_skipped(self) -> None:
        with mock.patch.object(os, "geteuid", return_value=1000):
            (section,) = bench.run_part("link", self.settings)
        self.assertIn("needs root", section.skipped)

    def test_without_the_commands_the_link_is_listed_as_skipped(self) -> None:
        with (
            mock.patch.object(os, "geteuid", return_value=0),
            mock.patch.object(shutil, "which", return_value=None),
        ):
            self.assertIn("ip and tc", namespaces.unavailable())

    def test_a_part_without_room_is_listed_as_skipped(self) -> None:
        usage = mock.Mock(free=100 * MIB)
        settings = dataclasses.replace(self.settings, total_mib=4096)
        with mock.patch.object(shutil, "disk_usage", return_value=usage):
            (section,) = bench.run_part("rate", settings)
        self.assertIn("shared memory", section.skipped)

    def test_a_part_that_fails_is_listed_with_its_error(self) -> None:
        part = bench.Part(mock.Mock(side_effect=BenchError("the server ended")), lambda settings: 0)
        with mock.patch.dict(bench.PARTS, {"rate": part}):
            (section,) = bench.run_part("rate", self.settings)
        self.assertEqual(section.failed, "the server ended")

    def test_quick_is_small_unless_said_otherwise(self) -> None:
        quick = bench.parse(["--quick"])
        self.assertEqual((quick.total_mib, quick.rounds, quick.sections), (1024, 3, ["rate"]))
        self.assertEqual(bench.parse(["--quick", "--rounds=9"]).rounds, 9)
        self.assertEqual(bench.parse([]).sections, list(bench.PARTS))


class FolderTest(unittest.TestCase):
    def setUp(self) -> None:
        self.folder = Path(tempfile.mkdtemp(dir=os.environ.get("TEST_TMPDIR")))
        self.addCleanup(shutil.rmtree, self.folder)

    def script(self, *lines: str) -> Path:
        path = self.folder / "script"
        path.write_text("\n".join([f"#!{sys.executable}", *lines]))
        path.chmod(0o755)
        return path


class ReadinessTest(FolderTest):
    def ready(self, model: str, wanted_bytes: int) -> bool:
        command = self.script(f"""print('{{"ok":true,"servers":[{{"models":[{model}]}}]}}')""")
        with mock.patch.multiple(readiness, SIGN_SECONDS=0.0, READY_SECONDS=60.0, POLL_SECONDS=0.01):
            return readiness.await_prepared(command, "127.0.0.1:1", "bench", wanted_bytes)

    def test_ready_is_as_much_as_is_wanted(self) -> None:
        self.assertTrue(self.ready('{"prepared_bytes":100}', 100))

    def test_a_server_that_shows_no_sign_is_not_ready(self) -> None:
        self.assertFalse(self.ready('{"prepared_bytes":0}', 100))

    def test_a_server_without_the_field_is_not_ready(self) -> None:
        self.assertFalse(self.ready("{}", 100))

    def test_a_command_that_fails_says_so(self) -> None:
        command = self.script("import sys", "sys.exit('no such model')")
        with self.assertRaisesRegex(BenchError, "no such model"):
            readiness.await_prepared(command, "127.0.0.1:1", "bench", 1)


class ProcessesTest(FolderTest):
    RECEIVER = ("print('listening on 127.0.0.1:1', flush=True)", "import sys", "sys.stdin.read()")

    def start_receiver(self) -> Receiver:
        receiver = Receiver([self.script(*self.RECEIVER)], self.folder / "receiver.log")
        self.addCleanup(receiver.stop)
        return receiver

    def test_a_round_has_what_the_sender_reports(self) -> None:
        receiver = self.start_receiver()
        sender = self.script("print('sending')", """print('{"bytes":100,"seconds":2,"cpu_seconds":1}')""")
        one = run_round([sender], [receiver], self.folder / "log")
        self.assertEqual((one.bytes, one.seconds, one.sender_cpu_seconds), (100, 2, 1))
        self.assertGreater(one.receiver_memory_bytes, 0)

    def test_a_sender_that_fails_is_quoted(self) -> None:
        receiver = self.start_receiver()
        sender = self.script("import sys", "print('sending', flush=True)", "sys.exit('the link is down')")
        with self.assertRaisesRegex(BenchError, "script: no report .*the link is down"):
            run_round([sender], [receiver], self.folder / "log")

    def test_a_receiver_that_does_not_start_is_quoted(self) -> None:
        with self.assertRaisesRegex(BenchError, "no address .*no room"):
            Receiver([self.script("import sys", "sys.exit('no room')")], self.folder / "log")

    def test_what_is_started_is_ended(self) -> None:
        with Process([self.script("input()")], self.folder / "log") as process:
            pid = process.pid
        self.assertFalse(Path(f"/proc/{pid}").exists())

    def test_high_water_keeps_the_most_between_start_and_end(self) -> None:
        values = iter([3, 9, 2])
        with HighWater({"a": lambda: next(values, 1)}):
            pass
        samples: list[Callable[[], int]] = [lambda: 7]
        with HighWater({"a": lambda: samples[0]()}) as high_water:
            samples[0] = lambda: 5
        self.assertEqual(high_water.most("a"), 7)

    def test_connections_to_a_port_are_counted(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
            self.assertEqual(connections_to(os.getpid(), port), 0)
            with socket.create_connection(("127.0.0.1", port)), socket.create_connection(("127.0.0.1", port)):
                self.assertEqual(connections_to(os.getpid(), port), 2)


if __name__ == "__main__":
    unittest.main()
