"""What drives the peers, without any of their packages: the table, the rounds, the sweep, and what is said of failures.

The programs of this repository are stood in for by scripts with known figures; the peer by one of plain sockets.
What is shared with `make bench` is tested there: the table in driver_test.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import sys
import tempfile
import unittest
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

from tests.bench.contenders import Settings
from tests.bench.peers import contenders, peers, stand_in_peer
from tests.bench.peers.contenders import PEERS, PeerContender
from tests.bench.peers.memory import pieces
from tests.bench.peers.one_round import Peer
from tests.bench.processes import BenchError
from tests.bench.rounds import MIB, Round

RECEIVER = "#!/bin/sh\necho listening on 127.0.0.1:7\ncat >/dev/null\n"
# 4 GB in 1 s with one connection, and in 2 s with two; each call leaves a line in a log.
SENDER = """#!/bin/sh
echo "$0 $*" >> "$(dirname "$0")/log"
[ "$1" = receive ] && { echo listening on 127.0.0.1:7; exec cat >/dev/null; }
case "$*" in *--connections=2*) seconds=2;; *) seconds=1;; esac
echo sending
echo '{"bytes": 4000000000, "seconds": '$seconds', "cpu_seconds": 0.5}'
"""


def stand_in(**settings: int) -> Peer:
    """The peer with other defaults, and no choice of them."""
    grid = {name: (settings.get(name, values[0]),) for name, values in stand_in_peer.PEER.grid.items()}
    return replace(stand_in_peer.PEER, grid=grid)


class PiecesTest(unittest.TestCase):
    def test_every_byte_belongs_to_one_piece_of_one_connection(self) -> None:
        for total, connections, period, largest in ((100, 3, 64, 7), (64, 1, 64, 64), (10, 4, 3, 100)):
            runs = pieces(total, connections, period, largest)
            self.assertEqual(len(runs), connections)
            seen = [(piece.begin + byte) % period for run in runs for piece in run for byte in range(piece.bytes)]
            self.assertEqual(seen, [byte % period for byte in range(total)])

    def test_no_piece_is_too_large_or_crosses_the_period(self) -> None:
        for piece in pieces(1000, 2, 96, 17)[1]:
            self.assertLessEqual(piece.bytes, 17)
            self.assertLessEqual(piece.begin + piece.bytes, 96)


class ArgumentsTest(unittest.TestCase):
    def refused(self, *arguments: str) -> None:
        with self.assertRaises(SystemExit) as caught, contextlib.redirect_stderr(io.StringIO()):
            peers.parse(arguments)
        self.assertEqual(caught.exception.code, 2)

    def test_defaults_are_those_of_the_measurement(self) -> None:
        options = peers.parse([])
        self.assertEqual((options.total_mib, options.rounds, options.connections), (4096, 5, (1, 2, 4)))

    def test_what_makes_no_sense_is_refused(self) -> None:
        self.refused("--connections=0")
        self.refused("--connections=two")
        self.refused("--peer=nobody")
        self.refused("--sweep", "--settings=file")

    def test_every_peer_has_a_default_for_every_setting(self) -> None:
        for peer in PEERS:
            self.assertEqual(peer.defaults().keys(), peer.grid.keys())
            peer.environment(2, peer.defaults())


class RoundTest(unittest.TestCase):
    def setUp(self) -> None:
        folder = Path(self.enterContext(tempfile.TemporaryDirectory(dir=os.environ.get("TEST_TMPDIR"))))
        self.folder = folder
        python = folder / "home" / "venv" / "bin" / "python"
        python.parent.mkdir(parents=True)
        # A script, as a symbolic link would lose the interpreter's own environment.
        python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
        python.chmod(0o755)
        for name, text in {"tests/bench/raw_tcp": SENDER, "tests/bench/library_push": SENDER}.items():
            self.program(name, text)
        self.program("server/weightstream-server", RECEIVER)

    def program(self, name: str, text: str) -> None:
        path = self.folder / "bin" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(0o755)

    def measure(self, peer: Peer, arguments: Sequence[str] = ()) -> tuple[int, list[list[str]], dict[str, Any]]:
        """The exit code, the table by words, and the JSON, of a measurement of the stand-in."""
        report = self.folder / "report.json"
        out = io.StringIO()
        with (
            mock.patch.object(peers, "PEERS", (peer,)),
            mock.patch.object(contenders, "QUIET_SPAN_SECONDS", 0.01),
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(io.StringIO()),
        ):
            code = peers.main(
                [
                    f"--bin={self.folder / 'bin'}",
                    f"--home={self.folder / 'home'}",
                    "--source-mib=4",
                    "--total-mib=10",
                    "--rounds=2",
                    "--connections=1,2",
                    f"--json={report}",
                    *arguments,
                ]
            )
        # The first line says what the machine is, and the third what the table.
        lines = [line.split() for line in out.getvalue().splitlines()[3:] if line]
        (section,) = json.loads(report.read_text())["sections"]
        return code, lines, section

    def test_every_contender_has_a_row_for_every_number_of_connections(self) -> None:
        code, lines, report = self.measure(stand_in())
        self.assertEqual(code, 0)
        names = [(line[0], line[1]) for line in lines[1:7]]
        both = [("tcp", "weightstream", "stand-in"), ("1", "2")]
        self.assertEqual(names, [(name, count) for count in both[1] for name in both[0]])
        self.assertEqual(lines[1][4:8], ["4.00", "4.00", "4.00", "1.00"])
        self.assertEqual(lines[4][4:8], ["2.00", "2.00", "2.00", "1.00"])
        self.assertTrue(report["facts"]["versions"]["stand-in"].startswith("pip "))
        self.assertEqual({one["bytes"] for one in report["rows"][2]["rounds"]}, {10 * MIB})
        # The first round, which checks what landed, is not among the two.
        self.assertEqual([len(row["rounds"]) for row in report["rows"]], [2] * 6)

    def test_rounds_are_interleaved(self) -> None:
        self.measure(stand_in())
        log = [line for line in (self.folder / "bin/tests/bench/log").read_text().splitlines() if "receive" not in line]
        order = [Path(line.split()[0]).name for line in log]
        self.assertEqual(order, ["raw_tcp", "library_push"] * 6)

    def test_a_round_that_changes_a_byte_is_found_out(self) -> None:
        code, lines, report = self.measure(stand_in(corrupt=1))
        self.assertEqual(code, 0)
        self.assertIn("what landed is not what was sent", report["facts"]["unavailable"]["stand-in"])
        self.assertIn(["(stand-in", "not", "measured:"], [line[:3] for line in lines])

    def test_what_a_receiver_says_at_its_failure_is_in_the_table(self) -> None:
        _, _, report = self.measure(stand_in(fail=1))
        self.assertIn("told to fail", report["facts"]["unavailable"]["stand-in"])
        self.assertEqual([row["contender"] for row in report["rows"]], ["tcp", "weightstream"] * 2)

    def test_a_peer_that_does_not_import_is_listed_with_the_reason(self) -> None:
        with mock.patch.object(
            PeerContender, "version", side_effect=BenchError("Traceback:\nImportError: libcuda.so.1")
        ):
            code, lines, _ = self.measure(stand_in())
        self.assertEqual(code, 0)
        self.assertEqual(lines[-1], ["(stand-in", "not", "measured:", "ImportError:", "libcuda.so.1)"])

    def test_a_package_that_was_not_installed_is_told_with_the_installers_words(self) -> None:
        refused = self.folder / "home" / "not_installed"
        refused.mkdir()
        (refused / "pip").write_text("first\nERROR: no matching distribution\n\n")
        settings = Settings(Path(), Path(), Path(), self.folder)
        with self.assertRaisesRegex(BenchError, "could not be installed: ERROR: no matching distribution"):
            PeerContender(stand_in(), settings, self.folder / "home").version()

    def test_a_measurement_without_tcp_is_a_failure(self) -> None:
        self.program("tests/bench/raw_tcp", SENDER.replace('echo \'{"bytes"', "echo broken >&2; exit 1; echo '{"))
        code, _, report = self.measure(stand_in())
        self.assertEqual(code, 1)
        self.assertIn("broken", report["facts"]["unavailable"]["tcp"])

    def test_a_sweep_takes_the_fastest_settings_and_later_runs_can_use_them(self) -> None:
        def run_with(_self: PeerContender, _count: int, chosen: dict[str, int], mib: int, verify: bool) -> Round:
            return Round(mib * MIB, 1, 0.5 if chosen["piece_kib"] == 256 else 1.0, 0.1, 0.1, MIB, MIB)

        with mock.patch.object(PeerContender, "run_with", run_with):
            _, _, report = self.measure(stand_in_peer.PEER, ["--sweep"])
        best = {"piece_kib": 256, "corrupt": 0, "fail": 0}
        self.assertEqual(report["facts"]["settings"], {"stand-in": {"1": best, "2": best}})

        earlier = (self.folder / "report.json").rename(self.folder / "earlier.json")
        _, lines, _ = self.measure(stand_in_peer.PEER, [f"--settings={earlier}"])
        self.assertIn("piece_kib=256", lines[3])


if __name__ == "__main__":
    unittest.main()
