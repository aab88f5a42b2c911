"""What tools/test_summary.py counts."""

from __future__ import annotations

import contextlib
import io
import json
import os
import tempfile
import unittest
from pathlib import Path
from typing import Any

from tools import python_cases, test_summary

GOOGLE_TEST_XML = """<?xml version="1.0" encoding="UTF-8"?>
<testsuites tests="4" failures="1" disabled="1">
  <testsuite name="Ranges" tests="4">
    <testcase name="Merge" status="run" result="completed" classname="Ranges" />
    <testcase name="NeedsAGpu" status="run" result="skipped" classname="Ranges"><skipped message="no GPU"/></testcase>
    <testcase name="DISABLED_Slow" status="notrun" result="suppressed" classname="Ranges" />
    <testcase name="Split" status="run" result="completed" classname="Ranges"><failure message="1 != 2"/></testcase>
  </testsuite>
</testsuites>
"""

PYTHON_XML = """<?xml version="1.0" encoding="UTF-8"?>
<testsuites>
  <testsuite name="Killed" tests="3" failures="1" skipped="1">
    <testcase classname="Killed" name="test_resumes"><!--why--><system-out>text</system-out></testcase>
    <testcase classname="Killed" name="test_parts (part=1)"><failure type="AssertionError" message="1 != 2"/></testcase>
    <testcase classname="Killed" name="test_mounts"><skipped type="skip" message="no root&#10;at all"/></testcase>
  </testsuite>
  <testsuite name="unittest.suite._ErrorHolder" tests="1" errors="1">
    <testcase classname="" name="setUpClass (__main__.Many)"><error type="OSError" message="nothing here"/></testcase>
  </testsuite>
</testsuites>
"""

SHELL_PASSED_XML = '<testsuites><testsuite name="s"><testcase name="s" status="run"/></testsuite></testsuites>'
SHELL_FAILED_XML = (
    '<testsuites><testsuite name="s"><testcase name="s"><error message="exit 1"/></testcase></testsuite></testsuites>'
)


def configured(label: str) -> dict[str, Any]:
    return {"id": {"targetConfigured": {"label": label}}, "configured": {"testSize": "SMALL"}}


class SummaryTest(unittest.TestCase):
    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory(dir=os.environ.get("TEST_TMPDIR"))
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.files = 0

    def result(self, label: str, status: str, xml: str | None, **where: int) -> dict[str, Any]:
        """The event of one test result, whose test.xml holds `xml`."""
        self.files += 1
        path = self.folder / f"test {self.files}.xml"
        if xml is not None:
            path.write_text(xml)
        return {
            "id": {"testResult": {"label": label, **where}},
            "testResult": {"status": status, "testActionOutput": [{"name": "test.xml", "uri": path.as_uri()}]},
        }

    def test_counts_the_cases_of_google_test_by_outcome(self) -> None:
        summary = test_summary.cases_of("//a:b", GOOGLE_TEST_XML)
        self.assertEqual(summary.passed, ["//a:b Ranges.Merge"])
        self.assertEqual(summary.failed, ["//a:b Ranges.Split\n      1 != 2"])
        self.assertEqual(summary.skipped, ["//a:b Ranges.NeedsAGpu: no GPU", "//a:b Ranges.DISABLED_Slow"])

    def test_counts_the_cases_of_a_python_test_by_outcome(self) -> None:
        summary = test_summary.cases_of("//a:b", PYTHON_XML)
        self.assertEqual(summary.passed, ["//a:b Killed.test_resumes"])
        self.assertEqual(
            summary.failed,
            ["//a:b Killed.test_parts (part=1)\n      1 != 2", "//a:b setUpClass (Many)\n      nothing here"],
        )
        self.assertEqual(summary.skipped, ["//a:b Killed.test_mounts: no root"])

    def test_a_shell_test_is_one_case_named_by_its_target(self) -> None:
        self.assertEqual(test_summary.cases_of("//a:s", SHELL_PASSED_XML).passed, ["//a:s"])
        self.assertEqual(test_summary.cases_of("//a:s", SHELL_FAILED_XML).failed, ["//a:s\n      exit 1"])

    def test_a_failed_case_says_why_in_few_lines(self) -> None:
        lines = "\n".join(f"line {number}" for number in range(20))
        xml = f'<testcase classname="A" name="b"><error message="not this">\n{lines}{"x" * 999}\n</error></testcase>'
        (failed,) = test_summary.cases_of("//a:b", xml).failed
        name, *why = failed.splitlines()
        self.assertEqual(name, "//a:b A.b")
        self.assertEqual(why[:4], ["      line 0", "      line 1", "      line 2", "      ..."])
        self.assertEqual(why[4], "      line 14")
        self.assertEqual(len(why), 10)
        self.assertEqual(len(why[-1].strip()), test_summary.LINE_CHARACTERS)

    def test_a_target_that_did_not_build_is_a_failure(self) -> None:
        events = [configured("//a:good"), configured("//a:broken"), self.result("//a:good", "PASSED", SHELL_PASSED_XML)]
        summary = test_summary.summarise_events(events, bazel_exit_code=1)
        self.assertEqual(summary.passed, ["//a:good"])
        self.assertEqual(summary.failed, ["//a:broken (did not build, or was not run)"])

    def test_a_target_that_cannot_be_built_in_this_configuration_is_skipped_by_name(self) -> None:
        identity = {"targetCompleted": {"label": "//a:gpu"}}
        events = [configured("//a:good"), configured("//a:gpu"), self.result("//a:good", "PASSED", SHELL_PASSED_XML)]
        events.append({"id": identity, "aborted": {"reason": "SKIPPED", "description": "build was skipped"}})
        summary = test_summary.summarise_events(events, bazel_exit_code=0)
        self.assertEqual(summary.passed, ["//a:good"])
        self.assertEqual(summary.failed, [])
        self.assertEqual(summary.skipped, ["//a:gpu: cannot be built in this configuration"])

    def test_a_failed_process_whose_cases_all_passed_is_a_failure(self) -> None:
        summary = test_summary.summarise_events([self.result("//a:leak", "FAILED", SHELL_PASSED_XML)], 3)
        self.assertEqual(summary.failed, ["//a:leak (FAILED)"])

    def test_a_timeout_is_one_failure(self) -> None:
        summary = test_summary.summarise_events([self.result("//a:slow", "TIMEOUT", SHELL_FAILED_XML)], 3)
        self.assertEqual(summary.failed, ["//a:slow\n      exit 1"])
        self.assertEqual(summary.passed, [])

    def test_missing_or_broken_xml_is_a_failure(self) -> None:
        events = [self.result("//a:gone", "PASSED", None), self.result("//a:torn", "PASSED", "<testsuites>")]
        self.assertEqual(len(test_summary.summarise_events(events, 0).failed), 2)

    def test_a_target_without_any_case_is_a_failure(self) -> None:
        summary = test_summary.summarise_events([self.result("//a:empty", "PASSED", "<testsuites/>")], 0)
        self.assertEqual(len(summary.failed), 1)

    def test_shards_add_up_and_the_last_attempt_decides(self) -> None:
        events = [
            self.result("//a:sharded", "PASSED", SHELL_PASSED_XML, shard=1),
            self.result("//a:sharded", "FAILED", SHELL_FAILED_XML, shard=2, attempt=1),
            self.result("//a:sharded", "PASSED", SHELL_PASSED_XML, shard=2, attempt=2),
        ]
        summary = test_summary.summarise_events(events, 0)
        self.assertEqual((len(summary.passed), len(summary.failed)), (2, 0))

    def test_a_failure_of_bazel_itself_is_never_reported_as_no_failure(self) -> None:
        self.assertEqual(len(test_summary.summarise_events([], bazel_exit_code=4).failed), 1)
        self.assertEqual(test_summary.summarise_events([], bazel_exit_code=0).failed, [])

    def test_an_event_file_that_was_cut_short_is_read_up_to_there(self) -> None:
        path = self.folder / "events.json"
        path.write_text(json.dumps(configured("//a:b")) + '\n{"id": {"testRes')
        self.assertEqual(test_summary.read_events(path), [configured("//a:b")])
        self.assertEqual(test_summary.read_events(self.folder / "absent.json"), [])

    def test_the_last_line_is_the_count_and_the_totals_add_up(self) -> None:
        events = self.folder / "events.json"
        events.write_text(json.dumps(self.result("//a:b", "FAILED", GOOGLE_TEST_XML)) + "\n")
        totals = self.folder / "totals.json"
        output = io.StringIO()
        with contextlib.redirect_stdout(output):
            code = test_summary.main(["report", str(events), "--bazel-exit-code=3", f"--totals={totals}"])
        self.assertEqual(code, 1)
        self.assertEqual(output.getvalue().splitlines()[-2:], ["2 skipped", "1 passed, 1 failed"])
        self.assertIn("  //a:b Ranges.NeedsAGpu: no GPU", output.getvalue().splitlines())

        with contextlib.redirect_stdout(output):
            code = test_summary.main(["total", str(totals), str(totals), str(self.folder / "absent.json")])
        self.assertEqual(code, 1)
        self.assertEqual(output.getvalue().splitlines()[-2:], ["4 skipped", "2 passed, 3 failed"])

    def test_skipped_cases_are_counted_only_if_there_are_any(self) -> None:
        self.assertEqual(test_summary.last_lines(3, 0, 0), "3 passed, 0 failed")


if __name__ == "__main__":
    python_cases.main()
