"""What tools/python_cases.py tells of the cases that it ran."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

from tools import python_cases, test_summary

MODULE = """
import os, unittest
from tools import python_cases

class Many(unittest.TestCase):
    def test_passes(self):
        print("\\x1b[1m]]> \\x00")
    def test_fails(self):
        self.assertEqual(1, 2)
    def test_raises(self):
        raise OSError("broken")
    def test_skips(self):
        self.skipTest("no GPU")
    def test_of_parts(self):
        for part in range(3):
            with self.subTest(part=part):
                self.assertEqual(part, 0)

class NotSetUp(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        raise OSError("nothing here")
    def test_never_runs(self):
        pass

class NotHere(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        raise unittest.SkipTest("not here")
    def test_never_runs(self):
        pass

class Dies(unittest.TestCase):
    def test_dies(self):
        os._exit(0 if "DIES" in os.environ else self.skipTest("not asked to"))

python_cases.main()
"""


class CasesTest(unittest.TestCase):
    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory(dir=os.environ.get("TEST_TMPDIR"))
        self.addCleanup(folder.cleanup)
        self.program = Path(folder.name) / "program.py"
        self.program.write_text(MODULE)
        self.xml = Path(folder.name) / "test.xml"

    def run_program(self, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)} | variables
        command = [sys.executable, str(self.program), *arguments]
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)

    def cases(self, *arguments: str) -> tuple[int, test_summary.Summary]:
        """The exit code, and what the summary counts."""
        code = self.run_program(*arguments, XML_OUTPUT_FILE=str(self.xml)).returncode
        return code, test_summary.cases_of("//a:b", self.xml.read_text())

    def test_every_outcome_is_counted(self) -> None:
        code, summary = self.cases()
        self.assertNotEqual(code, 0)
        self.assertEqual(summary.passed, ["//a:b Many.test_passes"])
        parts = ["Many.test_of_parts (part=1)", "Many.test_of_parts (part=2)"]
        failed = ["Many.test_fails", *parts, "Many.test_raises", "setUpClass (NotSetUp)"]
        # Below each name is why.
        names = sorted(words.splitlines()[0] for words in summary.failed)
        self.assertEqual(names, [f"//a:b {name}" for name in failed])
        self.assertIn("1 != 2", next(words for words in summary.failed if "test_fails" in words))
        skipped = ["Dies.test_dies: not asked to", "Many.test_skips: no GPU", "setUpClass (NotHere): not here"]
        self.assertEqual(sorted(summary.skipped), [f"//a:b {name}" for name in skipped])

    def test_the_command_line_is_that_of_unittest(self) -> None:
        code, summary = self.cases("Many.test_passes", "Many.test_skips", "-v")
        self.assertEqual(code, 0)
        self.assertEqual((len(summary.passed), len(summary.failed), len(summary.skipped)), (1, 0, 1))
        self.assertNotEqual(self.run_program("Many.test_of_that_name_there_is_none").returncode, 0)

    def test_a_failure_is_shown(self) -> None:
        ran = self.run_program("Many.test_fails", XML_OUTPUT_FILE=str(self.xml))
        self.assertIn("1 != 2", ran.stderr)

    def test_a_process_that_dies_leaves_no_xml(self) -> None:
        # Even one that claims to have succeeded: then Bazel writes the XML, of one case.
        ran = self.run_program("Many", "Dies", XML_OUTPUT_FILE=str(self.xml), DIES="1")
        self.assertEqual(ran.returncode, 0)
        self.assertFalse(self.xml.exists())

    def test_by_hand_it_is_plain_unittest(self) -> None:
        environment = {name: value for name, value in os.environ.items() if name != "XML_OUTPUT_FILE"}
        ran = subprocess.run(
            [sys.executable, str(self.program), "Many.test_passes"],
            env=environment | {"PYTHONPATH": os.pathsep.join(sys.path)},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        self.assertEqual(ran.returncode, 0)
        self.assertIn("Ran 1 test", ran.stderr)
        self.assertFalse(self.xml.exists())


if __name__ == "__main__":
    python_cases.main()
