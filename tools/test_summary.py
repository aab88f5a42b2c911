#!/usr/bin/python3
"""Counts the test cases of one `bazel test`, from its build events and the test.xml files that they name.

Bazel counts targets; people count cases. Only what this very run reported is counted, so an XML file that an earlier
run left behind cannot be. A target that did not build, was not run, crashed or timed out counts as one failure.

  test_summary.py report EVENTS --bazel-exit-code=N [--totals=FILE]   prints the failed and skipped cases, and the line
  test_summary.py total TOTALS...                                     prints the line for several runs together

The last line is "N passed, N failed"; if cases were skipped, the line before it is "N skipped". Exits 1 if anything
failed.
"""

from __future__ import annotations

import argparse
import json
import sys
import urllib.parse
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

# What bazel exits with when it built everything and ran every test.
BAZEL_ALL_PASSED = 0

# Of a failed case's words, those lines: a trace begins with the test's own line and ends with what was wrong.
FIRST_LINES, LAST_LINES, LINE_CHARACTERS = 3, 6, 300


@dataclass
class Summary:
    """The cases of a run, by name and outcome."""

    passed: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)

    def extend(self, other: Summary) -> None:
        self.passed += other.passed
        self.failed += other.failed
        self.skipped += other.skipped


def last_lines(passed: int, failed: int, skipped: int) -> str:
    """The line that people and scripts look for, and before it how many cases were skipped, if any."""
    text = f"{passed} passed, {failed} failed"
    return f"{skipped} skipped\n{text}" if skipped else text


def case_name(label: str, case: ElementTree.Element) -> str:
    """The target, and the case within it unless the target is its only case (shell tests)."""
    suite = case.get("classname")
    if suite is None:
        return label
    # Where a Python class is not set up, the case is "setUpClass (__main__.Class)", of no class.
    name = case.get("name", "").replace("(__main__.", "(")
    return f"{label} {suite}.{name}" if suite else f"{label} {name}"


def why_failed(case: ElementTree.Element) -> str:
    """What the case's first failure said, indented below its name; a long log above may be cut where this is not."""
    found = case.find("failure")
    if found is None:
        found = case.find("error")
    if found is None:
        return ""
    lines = (found.text or "").strip().splitlines() or found.get("message", "").splitlines()
    if len(lines) > FIRST_LINES + LAST_LINES:
        lines = [*lines[:FIRST_LINES], "...", *lines[-LAST_LINES:]]
    return "".join(f"\n      {line[:LINE_CHARACTERS]}" for line in lines)


def cases_of(label: str, xml: str) -> Summary:
    """The cases in the text of one test.xml: GoogleTest's, tools/python_cases.py's or Bazel's own.

    Raises ParseError if it is not XML.
    """
    summary = Summary()
    for case in ElementTree.fromstring(xml).iter("testcase"):
        name = case_name(label, case)
        skipped = case.find("skipped")
        if case.find("failure") is not None or case.find("error") is not None:
            summary.failed.append(name + why_failed(case))
        elif skipped is not None or case.get("status") == "notrun":
            why = skipped.get("message", "") if skipped is not None else ""
            summary.skipped.append(f"{name}: {why.splitlines()[0]}" if why else name)
        else:
            summary.passed.append(name)
    return summary


def xml_path_of(result: dict[str, Any]) -> Path | None:
    """Where the test.xml of one test result lies."""
    for output in result.get("testActionOutput", []):
        uri = urllib.parse.urlsplit(output.get("uri", ""))
        if output.get("name") == "test.xml" and uri.scheme == "file":
            return Path(urllib.parse.unquote(uri.path))
    return None


def summarise_result(label: str, result: dict[str, Any]) -> Summary:
    """The cases of one run (one shard) of a test."""
    status = result.get("status", "NO_STATUS")
    path = xml_path_of(result)
    try:
        # The log that Bazel embeds in its own XML may hold any bytes.
        summary = cases_of(label, path.read_text(errors="replace")) if path else Summary()
    except (OSError, ElementTree.ParseError) as error:
        summary = Summary(failed=[f"{label} ({status}; its test.xml could not be read: {error})"])
    if status == "PASSED":
        if not (summary.passed or summary.failed or summary.skipped):
            summary.failed.append(f"{label} (passed without running any case)")
    elif not summary.failed:
        # Every case passed and the process failed nevertheless: a leak, a crash at exit, a time-out.
        summary.failed.append(f"{label} ({status})")
    return summary


def summarise_events(events: Iterable[dict[str, Any]], bazel_exit_code: int) -> Summary:
    """The cases of one `bazel test`, from its build events in order."""
    expected: set[str] = set()
    incompatible: set[str] = set()
    results: dict[tuple[str, int, int], dict[str, Any]] = {}
    for event in events:
        identity = event.get("id", {})
        if "testSize" in event.get("configured", {}):
            expected.add(identity["targetConfigured"]["label"])
        # How Bazel ends a target that cannot be built as this run builds: without a toolkit, or under a sanitizer.
        if event.get("aborted", {}).get("reason") == "SKIPPED" and "targetCompleted" in identity:
            incompatible.add(identity["targetCompleted"]["label"])
        if "testResult" in event:
            where = identity["testResult"]
            # A later attempt of a flaky test replaces the earlier.
            results[(where["label"], where.get("run", 1), where.get("shard", 1))] = event["testResult"]

    summary = Summary()
    for (label, _, _), result in sorted(results.items(), key=lambda item: item[0]):
        summary.extend(summarise_result(label, result))
    for label in sorted(expected - {label for label, _, _ in results}):
        if label in incompatible:
            summary.skipped.append(f"{label}: cannot be built in this configuration")
        else:
            summary.failed.append(f"{label} (did not build, or was not run)")
    if bazel_exit_code != BAZEL_ALL_PASSED and not summary.failed:
        summary.failed.append(f"bazel itself (exit code {bazel_exit_code}, see above)")
    return summary


def read_events(path: Path) -> list[dict[str, Any]]:
    """The build events in a file, one JSON object a line; none if Bazel got as far as none."""
    if not path.exists():
        return []
    events = []
    for text in path.read_text().splitlines():
        try:
            events.append(json.loads(text))
        except json.JSONDecodeError:
            break  # Bazel was killed while it wrote this line, the last.
    return events


def report(events: Path, bazel_exit_code: int, totals: Path | None) -> int:
    """Prints one run's summary. Returns the exit code."""
    summary = summarise_events(read_events(events), bazel_exit_code)
    for title, names in (("Skipped", summary.skipped), ("Failed", summary.failed)):
        if names:
            print(f"\n{title}:")
            for name in names:
                print(f"  {name}")
    counts = {"passed": len(summary.passed), "failed": len(summary.failed), "skipped": len(summary.skipped)}
    if totals:
        totals.write_text(json.dumps(counts) + "\n")
    print("\n" + last_lines(**counts))
    return 1 if summary.failed else 0


def total(paths: list[Path]) -> int:
    """Prints the sum of several runs. A run that left no totals did not get far enough, and counts as one failure."""
    sums = {"passed": 0, "failed": 0, "skipped": 0}
    for path in paths:
        if path.exists():
            counts = json.loads(path.read_text())
        else:
            print(f"The run that should have written {path} ended before its summary.")
            counts = {"failed": 1}
        for outcome, count in counts.items():
            sums[outcome] += count
    print(last_lines(**sums))
    return 1 if sums["failed"] else 0


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description="Counts test cases.", allow_abbrev=False)
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("report", help="print the summary of one run")
    one.add_argument("events", type=Path, help="what bazel wrote to --build_event_json_file")
    one.add_argument("--bazel-exit-code", type=int, required=True)
    one.add_argument("--totals", type=Path, help="also write the three counts to this file, as JSON")
    several = commands.add_parser("total", help="print the sum of several runs")
    several.add_argument("totals", type=Path, nargs="+", help="files that `report --totals` wrote")
    options = parser.parse_args(arguments)
    if options.command == "report":
        return report(options.events, options.bazel_exit_code, options.totals)
    return total(options.totals)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
