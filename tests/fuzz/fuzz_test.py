"""The runner, with a fuzzer of a few lines in place of libFuzzer."""

from __future__ import annotations

import contextlib
import io
import tempfile
import unittest
from pathlib import Path

from tests.fuzz import fuzz
from tools import python_cases

FAKE = """#!/bin/bash
corpus=
for argument in "$@"; do
  case "$argument" in
    -artifact_prefix=*) prefix=${argument#*=} ;;
    -merge_control_file=*) control=${argument#*=} ;;
    -*) ;;
    *) [[ -n "$corpus" ]] || corpus=$argument ;;
  esac
done
touch "$WEIGHTSTREAM_FUZZ_FOLDER/leftover"
echo "$WEIGHTSTREAM_FUZZ_FOLDER" > "@state@/temporary"
if [[ -n "${control:-}" ]]; then
  cp "@state@/control" "$control"
  exit 0
fi
echo "#2 INITED cov: 10 ft: 20 corp: 1/1b"
echo "#99 NEW cov: 30 ft: 4321 corp: 1/1b"
echo "stat::number_of_executed_units: 1234567"
echo "stat::average_exec_per_sec:     890"
[[ @exit_code@ == 77 ]] && echo x > "${prefix}crash-0123"
exit @exit_code@
"""


class Fuzz(unittest.TestCase):
    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.root = Path(folder.name)
        self.state = self.root / "state"

    def run_fake(self, *arguments: str, exit_code: int = 0) -> tuple[int, str]:
        (self.root / "bin").mkdir(exist_ok=True)
        binary = self.root / "bin" / "server_fuzzer"
        text = FAKE.replace("@exit_code@", str(exit_code))
        binary.write_text(text.replace("@state@", str(self.state)))
        binary.chmod(0o755)
        output = io.StringIO()
        with contextlib.redirect_stdout(output):
            folders = (f"--binaries={binary.parent}", f"--state={self.state}", f"--room={self.root}")
            code = fuzz.main(["--targets", "server", *folders, *arguments])
        return code, output.getvalue()

    def test_the_summary_has_the_figures_and_is_kept(self) -> None:
        code, output = self.run_fake("--seconds=1")
        self.assertEqual(code, 0)
        self.assertRegex(output, r"\| server \| \d{4}-\d\d-\d\d \d\d:\d\d:\d\d \| 1,234,567 \| 890 \| 4,321 \| 0 \|")
        self.assertIn("1,234,567", (self.state / "summary.md").read_text())

    def test_a_crash_fails_the_run_and_says_how_to_see_it_again(self) -> None:
        code, output = self.run_fake(exit_code=77)
        self.assertEqual(code, 1)
        crash = self.state / "crashes" / "server" / "crash-0123"
        self.assertTrue(crash.exists())
        self.assertIn(f"replay: {self.state}/bin/server_fuzzer {crash}", output)
        self.assertIn("| 1 |", output)

    def test_a_fuzzer_that_does_not_run_fails_the_run(self) -> None:
        code, output = self.run_fake(exit_code=3)
        self.assertEqual(code, 1)
        self.assertIn("exit code 3", output)

    def test_what_a_target_leaves_in_its_temporary_folder_goes(self) -> None:
        self.run_fake(exit_code=77)
        self.assertFalse(Path((self.state / "temporary").read_text().strip()).exists())

    def test_the_corpus_in_the_tree_becomes_the_fewest_inputs_that_reach_the_same(self) -> None:
        corpus = self.root / "corpus" / "server"
        found = self.state / "corpus" / "server"
        corpus.mkdir(parents=True)
        found.mkdir(parents=True)
        (corpus / "old.bin").write_text("reaches 1")
        (found / "long").write_text("reaches 1 2 3, and is longer")
        (found / "short").write_text("reaches 1 2 3")
        (found / "other").write_text("reaches 3 4")
        (self.state / "control").write_text(
            f"4\n1\n{corpus}/old.bin\n{found}/long\n{found}/short\n{found}/other\n"
            "STARTED 0 9\nFT 0 1\nCOV 0 1\nFT 1 1 2 3\nFT 2 1 2 3\nFT 3 3 4\n"
        )
        code, output = self.run_fake("--minimise")
        self.assertEqual(code, 0)
        self.assertIn("server: 2 inputs", output)
        self.assertEqual({file.read_text() for file in corpus.iterdir()}, {"reaches 1 2 3", "reaches 3 4"})

    def test_of_too_many_inputs_those_stay_that_add_most(self) -> None:
        for name in ("a", "b", "c"):
            (self.root / name).write_text(name)
        control = f"3\n0\n{self.root}/a\n{self.root}/b\n{self.root}/c\nFT 0 1 2\nFT 1 2 3 4\nFT 2 5\n"
        self.assertEqual([path.name for path in fuzz.choose_inputs(control, 2)], ["b", "a"])


if __name__ == "__main__":
    python_cases.main()
