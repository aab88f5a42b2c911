"""The parts of the driver, without the benchmark's processes."""

from __future__ import annotations

import dataclasses
import json
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
from tests.bench.storage import bytes_read_by_push, write_safetensors
from tests.bench.sweeps import chunk_costs, warm_rows
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


class ChunkCostsTest(unittest.TestCase):
    GIB = 1 << 30

    def row(self, chunk_kib: int, sender: float, receiver: float, arena: str = "warm") -> Row:
        """CPU seconds for 1 GiB, of which there are two rounds: the figure is a median."""
        label = Label("weightstream", 2, 1024, arena, chunk_kib=chunk_kib)
        return Row(label, [Round(self.GIB, 1, 1, cpu, receiver, 0, 0) for cpu in (sender - 0.1, sender + 0.1)])

    def test_one_more_chunk_costs_the_slope_between_two_sizes(self) -> None:
        # 65,536, 16,384 and 1,024 chunks per GiB; 2 and 3 us for each of the smaller ones, 4 and 5 for the larger.
        sender = [0.5, 0.5 + 15360 * 4e-6, 0.5 + 15360 * 4e-6 + 49152 * 2e-6]
        receiver = [0.7, 0.7 + 15360 * 5e-6, 0.7 + 15360 * 5e-6 + 49152 * 3e-6]
        rows = [self.row(*one) for one in zip((1024, 64, 16), sender, receiver, strict=True)]
        costs = chunk_costs(rows)
        self.assertEqual(list(costs), ["16 to 64 KiB", "64 to 1024 KiB"])
        self.assertAlmostEqual(costs["16 to 64 KiB"]["sender"], 2)
        self.assertAlmostEqual(costs["16 to 64 KiB"]["receiver"], 3)
        self.assertAlmostEqual(costs["64 to 1024 KiB"]["sender"], 4)
        self.assertAlmostEqual(costs["64 to 1024 KiB"]["receiver"], 5)

    def test_a_span_may_lie_within_another(self) -> None:
        costs = chunk_costs([self.row(1024, 1, 1), self.row(128, 1 + 7168 * 3e-6, 1), self.row(64, 2, 2)])
        self.assertEqual(list(costs), ["64 to 1024 KiB", "128 to 1024 KiB"])
        self.assertAlmostEqual(costs["128 to 1024 KiB"]["sender"], 3)

    def test_rounds_without_memory_ready_give_no_cost(self) -> None:
        rows = [self.row(1024, 1, 1), self.row(64, 2, 2), self.row(16, 3, 3, NOT_READY)]
        self.assertEqual(list(chunk_costs(rows)), ["64 to 1024 KiB"])


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


class StorageTest(FolderTest):
    def test_the_file_is_a_safetensors_file(self) -> None:
        path = self.folder / "model.safetensors"
        write_safetensors(path, 2)
        data = path.read_bytes()
        length = int.from_bytes(data[:8], "little")
        self.assertEqual(json.loads(data[8 : 8 + length])["weight"]["data_offsets"], [0, 2 * MIB])
        self.assertEqual(len(data), 8 + length + 2 * MIB)

    def test_what_the_client_reads_twice_counts_once_and_what_is_dropped_counts_again(self) -> None:
        read = "path = sys.argv[2]; open(path, 'rb').read()"
        drop = "fd = os.open(path, os.O_RDONLY); os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)"
        figures = [self.bytes_read(*steps) for steps in ([read], [read, read], [read, drop, read])]
        if not figures[2]:
            self.skipTest("the test's folder is not on a disk")
        self.assertGreaterEqual(figures[0], 8 * MIB)
        self.assertLess(figures[1], 2 * figures[0])
        self.assertGreaterEqual(figures[2], 2 * 8 * MIB)

    def bytes_read(self, *steps: str) -> int:
        settings = Settings(Path(), Path(), self.script("import os, sys", *steps), self.folder, disk=self.folder)
        return bytes_read_by_push(settings, [], 1, 8)


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
