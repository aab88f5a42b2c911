"""The sums of reliability.md against its own tables, and what it counts of the tree against the tree."""

from __future__ import annotations

import re
import unittest
from pathlib import Path

from tests.fuzz.fuzz import TARGETS
from tools import python_cases

PAGE = Path("docs/reliability.md").read_text()


def number(text: str) -> int:
    """The first number of a text: "1,500 pushes" is 1500."""
    match = re.search(r"\d[\d,]*", text)
    assert match, text
    return int(match[0].replace(",", ""))


def cells(row: str) -> list[str]:
    return [cell.strip() for cell in row.strip().strip("|").split("|")]


def tables_of(heading: str) -> list[list[list[str]]]:
    """The rows of each table whose first line begins so."""
    lines = PAGE.splitlines()
    found = []
    for at, line in enumerate(lines):
        if line.startswith(f"| {heading} |"):
            end = next(i for i in range(at, len(lines) + 1) if i == len(lines) or not lines[i].startswith("|"))
            found.append([cells(row) for row in lines[at + 2 : end]])
    assert found, f"no table begins with {heading}"
    return found


def summaries(words: str) -> list[list[str]]:
    """The rows of the first table of which the first two cells have these words."""
    found = [row for row in tables_of("what was tried")[0] if words in " ".join(row[:2])]
    assert found, words
    return found


def summary(words: str) -> list[str]:
    (row,) = summaries(words)
    return row


def updates(block: str) -> int:
    """Of the run under that title."""
    match = re.search(rf"^{re.escape(block)}[^\n]*:\n  ([\d,]+) updates", PAGE, re.MULTILINE)
    assert match, block
    return number(match[1])


class SumsTest(unittest.TestCase):
    def test_what_was_fuzzed_adds_up(self) -> None:
        self.assertEqual(len(TARGETS), 6)
        for words, heading in (("six targets", "target"), ("earlier", "target, earlier")):
            (runs,) = tables_of(heading)
            self.assertEqual([run[0] for run in runs], list(TARGETS))
            self.assertEqual(number(summary(words)[1]), sum(number(run[3]) for run in runs))

    def test_the_corpus_has_so_many_inputs(self) -> None:
        match = re.search(r"replay the corpus in the tree, ([\d,]+) inputs", PAGE)
        assert match
        self.assertEqual(number(match[1]), sum(path.is_file() for path in Path("tests/fuzz/corpus").rglob("*")))

    def test_the_pushes_of_the_schedules_add_up(self) -> None:
        for row, table in zip(summaries(" schedules,"), tables_of("what was seen"), strict=True):
            seen = {name: number(count) for name, count in table}
            self.assertEqual(seen["pushes"], seen["pushes done"] + seen["pushes that failed and said why"])
            self.assertEqual(row[1], f"{seen['schedules']:,} schedules, {seen['pushes']:,} pushes")
            self.assertEqual(number(row[2]), seen["pushes that failed and said why"])

    def test_the_cases_of_the_clock_are_so_many(self) -> None:
        cases = re.findall(r"^    def test_", Path("tests/faults/clock_test.py").read_text(), re.MULTILINE)
        self.assertEqual(number(summary("clock set")[1]), len(cases))

    def test_the_updates_under_load_add_up(self) -> None:
        clients = "64 clients with a model of 1024 KiB each"
        runs = re.findall(rf"^{clients}:\n  ([\d,]+) updates", PAGE, re.MULTILINE)
        self.assertEqual([number(row[1]) for row in summaries("64 clients")], [number(count) for count in runs])
        self.assertEqual(number(summary("updates in a row")[1]), updates("10,000 updates in a row"))
        under = sum(updates(f"{clients}, under {library}") for library in ("libtsan", "libasan"))
        self.assertEqual(number(summary("under each sanitizer")[1]), under)

    def test_the_cases_under_sanitizers_add_up(self) -> None:
        asan = re.search(r"([\d,]+) cases passed, none failed", PAGE)
        tsan = re.search(r"([\d,]+) passed, two failed", PAGE)
        assert asan and tsan
        self.assertEqual(number(summary("AddressSanitizer")[1]), number(asan[1]))
        self.assertEqual(number(summary("ThreadSanitizer")[1]), number(tsan[1]) + 2)


if __name__ == "__main__":
    python_cases.main()
