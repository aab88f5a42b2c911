"""The whole benchmark, small, against the real binaries: that it works, not how fast anything is."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import json
import os
import tempfile
import unittest
import xml.etree.ElementTree
from pathlib import Path
from typing import Any

from tests.bench import bench, fleet, sweeps

TOTAL_MIB = 16
SMALL_TENSORS = 500
MIB = 1 << 20
HAS_MATPLOTLIB = importlib.util.find_spec("matplotlib") is not None
SECTIONS = ["rate", "shapes", "sweep-chunks", "sweep-connections", "tls", "memory", "fleet"]


class BenchTest(unittest.TestCase):
    code: int
    out: str
    report: dict[str, Any]
    folder: Path

    @classmethod
    def setUpClass(cls) -> None:
        cls.folder = Path(tempfile.mkdtemp(dir=os.environ.get("TEST_TMPDIR")))
        arguments = [
            # Bazel runs a test in a folder that holds the binaries as bazel-bin does.
            "--bin=.",
            "--sections=rate,shapes,sweeps,tls,memory,fleet",
            f"--total-mib={TOTAL_MIB}",
            "--rounds=1",
            "--connections=1,2",
            f"--small-tensors={SMALL_TENSORS}",
            f"--disk={cls.folder}",
            f"--json={cls.folder / 'bench.json'}",
        ]
        if HAS_MATPLOTLIB:
            arguments.append(f"--plots={cls.folder / 'plots'}")
        with contextlib.redirect_stdout(io.StringIO()) as out:
            cls.code = bench.main(arguments)
        cls.out = out.getvalue()
        cls.report = json.loads((cls.folder / "bench.json").read_text())

    def section(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = next(one for one in self.report["sections"] if one["name"] == name)
        return found

    def test_every_section_is_there(self) -> None:
        self.assertEqual([one["name"] for one in self.report["sections"]], SECTIONS, self.out)
        self.assertEqual(
            [(one["skipped"], one["failed"]) for one in self.report["sections"]], [(None, None)] * len(SECTIONS)
        )
        self.assertEqual(self.code, 0)

    def test_every_contender_has_its_rows(self) -> None:
        rows = {(row["contender"], row["arena"], row["connections"]) for row in self.section("rate")["rows"]}
        wanted = [("tcp", ""), ("stub", "")]
        wanted += [(name, arena) for name in ("weightstream", "weightstream staged") for arena in ("cold", "warm")]
        self.assertEqual(rows, {(*one, connections) for one in wanted for connections in (1, 2)})

    def test_warm_rounds_find_memory_ready(self) -> None:
        arenas = {row["arena"] for section in self.report["sections"] for row in section["rows"]}
        self.assertEqual(arenas, {"", "cold", "warm"}, "a NOT READY means that no memory was seen to be made ready")

    def test_every_figure_is_sane(self) -> None:
        for section in self.report["sections"]:
            for row in section["rows"]:
                with self.subTest(section["name"], row=row):
                    self.assertEqual(len(row["rounds"]), 1)
                    rate = row["gb_per_second"]
                    self.assertTrue(0 < rate["least"] <= rate["median"] <= rate["most"])
                    # Memory is what a process has beside source and arena: well below a GiB, and never nothing.
                    self.assertTrue(all(0 < size < 1 << 30 for size in row["memory_bytes"].values()))
                    self.assertTrue(all(seconds >= 0 for seconds in row["cpu_seconds_per_gib"].values()))
                    if section["name"] != "memory":
                        self.assertGreater(row["ratio"], 0)

    def test_the_bytes_that_were_asked_for_were_sent(self) -> None:
        shapes = {row["shape"]: row["rounds"][0]["bytes"] for row in self.section("shapes")["rows"]}
        self.assertEqual(shapes["one"], TOTAL_MIB * MIB)
        self.assertEqual(shapes["small"], SMALL_TENSORS * 4096)
        self.assertLessEqual(shapes["llama"], TOTAL_MIB * MIB)
        self.assertGreater(shapes["llama"], (TOTAL_MIB - 3) * MIB)
        costs = self.section("shapes")["facts"]["cpu_microseconds_per_small_tensor"]
        self.assertEqual(sorted(costs), ["receiver", "sender"])
        for name in ("rate", "sweep-chunks", "sweep-connections", "tls", "memory", "fleet"):
            for row in self.section(name)["rows"]:
                self.assertEqual(row["rounds"][0]["bytes"], row["total_mib"] * MIB, name)
        self.assertEqual([row["total_mib"] for row in self.section("memory")["rows"]], [4, 32])

    def test_sweeps_cover_their_range(self) -> None:
        chunks = [row["chunk_kib"] for row in self.section("sweep-chunks")["rows"] if row["contender"] != "tcp"]
        self.assertEqual(chunks, list(sweeps.CHUNKS_KIB))
        connections = {(row["contender"], row["connections"]) for row in self.section("sweep-connections")["rows"]}
        self.assertEqual(connections, {(name, n) for name in ("tcp", "weightstream") for n in sweeps.CONNECTIONS})

    def test_tls_is_compared_with_plaintext(self) -> None:
        rows = [(row["contender"], row["connections"]) for row in self.section("tls")["rows"]]
        self.assertEqual(rows, [(name, n) for n in (1, 2) for name in ("tcp", "weightstream", "weightstream tls")])

    def test_a_fleet_is_compared_with_one_server(self) -> None:
        one, several = self.section("fleet")["rows"]
        self.assertEqual((one["receivers"], several["receivers"]), (1, fleet.SERVERS))
        self.assertEqual(one["ratio"], 1)
        self.assertEqual(several["rounds"][0]["receivers"], fleet.SERVERS)

    def test_a_fleets_client_reads_a_file_once_for_all_servers(self) -> None:
        section = self.section("fleet")
        if not (read := section["facts"].get("storage_read")):
            self.skipTest(section["notes"][-1])
        self.assertEqual(read["file_bytes"], TOTAL_MIB * MIB // 4)
        self.assertEqual(read["receivers"], fleet.SERVERS)
        # Loosely: so small a file is little beside what the client reads of itself.
        self.assertGreaterEqual(read["read_bytes"], read["file_bytes"])

    def test_the_cost_of_one_more_chunk_is_told(self) -> None:
        section = self.section("sweep-chunks")
        costs = section["facts"]["cpu_microseconds_per_chunk"]
        self.assertEqual(list(costs), [f"{small} to {large} KiB" for small, large in sweeps.COST_SPANS_KIB])
        self.assertEqual(len([note for note in section["notes"] if "one more chunk" in note]), len(costs))
        self.assertTrue(all(list(sides) == ["sender", "receiver"] for sides in costs.values()))

    def test_the_table_has_a_line_for_every_row(self) -> None:
        rows = sum(len(section["rows"]) for section in self.report["sections"])
        lines = [line for line in self.out.splitlines() if line.startswith(("  tcp", "  stub", "  weightstream"))]
        self.assertEqual(len(lines), rows, self.out)

    def test_the_machine_and_the_commit_are_described(self) -> None:
        self.assertGreater(self.report["machine"]["cores"], 0)
        self.assertGreater(self.report["machine"]["memory_bytes"], 0)
        self.assertIn("id", self.report["commit"])
        self.assertIn(self.report["machine"]["kernel"], self.out)

    def test_nothing_is_left_in_shared_memory(self) -> None:
        # Other runs beside this one have folders of their own, which are in use.
        left = [path for path in Path("/dev/shm").glob(f"weightstream-bench-{os.getpid()}-*")]
        self.assertEqual(left, [])

    @unittest.skipUnless(HAS_MATPLOTLIB, "no matplotlib: tools/setup bench installs it")
    def test_both_sweeps_are_plotted(self) -> None:
        for name in ("bench-chunk-size.svg", "bench-connections.svg"):
            text = (self.folder / "plots" / name).read_text()
            self.assertEqual(xml.etree.ElementTree.fromstring(text).tag, "{http://www.w3.org/2000/svg}svg")
            self.assertIn("rate, as a ratio to tcp", text)


if __name__ == "__main__":
    unittest.main()
