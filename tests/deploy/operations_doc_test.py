"""docs/operations.md speaks of the programs as they are: their flags, their log's events, their errors' words."""

from __future__ import annotations

import os
import re
import subprocess
import unittest
from collections.abc import Iterator
from pathlib import Path

import grpc

from tests.end_to_end.processes import binary
from tools import python_cases

# Where the server logs an event, by its name, or by one of two.
_LOGGED = re.compile(r'\b[Ll]og(?:Debug|Info|Warning|Error)?\(\s*(?:[^",;{}]*\? "([a-z_]+)" : )?"([a-z_]+)"')

CODES = {code.name for code in grpc.StatusCode}

# Words of gRPC and of the system's own, which no binary of ours has as they are.
FOREIGN = {"failed to connect to all addresses"}


def rows_of(text: str, heading: str) -> list[list[str]]:
    """The cells of the table under a heading, without its two first lines."""
    section = text.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def argument_of(text: str, begin: int) -> str:
    """What is in the parentheses that open at `begin`, strings with parentheses in them included."""
    depth, at = 0, begin
    while True:
        if text[at] == '"':
            at = re.compile(r'"(?:[^"\\]|\\.)*').match(text, at).end()  # type: ignore[union-attr]
        depth += {"(": 1, ")": -1}.get(text[at], 0)
        at += 1
        if depth == 0:
            return text[begin:at]


def errors_made() -> Iterator[tuple[str, str, list[str]]]:
    """The code of each error that the server's sources make, where that is, and the texts in it."""
    for path in sorted(Path("server").glob("*.cc")):
        source = path.read_text()
        for made in re.finditer(r"absl::(\w+)Error\(", source):
            code = re.sub(r"(?<!^)([A-Z])", r"_\1", made[1]).upper()
            # The halves of a text that goes over two lines are one.
            words = re.sub(r'"\s*"', "", argument_of(source, made.end() - 1))
            texts = re.findall(r'"((?:[^"\\]|\\.)*)"', words)
            # One that hands on what another said has no words of its own.
            if any(re.search(r"[a-z]{3}", text) for text in texts):
                yield code, f"{path}:{source.count(chr(10), 0, made.start()) + 1}", texts


class OperationsDoc(unittest.TestCase):
    def setUp(self) -> None:
        self.text = Path(os.environ["OPERATIONS"]).read_text()
        self.server = Path(binary("WEIGHTSTREAM_SERVER")).read_bytes()
        self.programs = self.server + Path(binary("WEIGHTSTREAM")).read_bytes()

    def events(self) -> set[str]:
        rows = rows_of(self.text, "Logs")
        events = {event for row in rows for event in re.findall(r"`([a-z]+(?:_[a-z]+)*)`", row[0])}
        return events - {"missing_bytes"}

    def test_every_flag_in_it_is_one_of_the_programs(self) -> None:
        known = set()
        commands = [[binary("WEIGHTSTREAM"), command] for command in ("push", "pull", "status", "watch", "rollback")]
        for command in [[binary("WEIGHTSTREAM_SERVER")], *commands]:
            text = subprocess.run([*command, "--help"], check=True, capture_output=True, text=True).stdout
            known |= set(re.findall(r"^  --([a-z-]+)", text, re.MULTILINE))
        named = set(re.findall(r"--([a-z]+(?:-[a-z]+)*)", self.text))
        self.assertGreater(len(named), 15)
        self.assertLessEqual(named, known)

    def test_every_event_in_it_is_one_that_the_server_logs(self) -> None:
        events = self.events()
        self.assertGreater(len(events), 15)
        self.assertEqual({event for event in events if event.encode() not in self.server}, set())

    def test_every_event_that_the_server_logs_is_in_it(self) -> None:
        sources = "\n".join(path.read_text() for path in sorted(Path("server").glob("*.cc")))
        logged = {event for match in _LOGGED.finditer(sources) for event in match.groups() if event}
        self.assertGreater(len(logged), 25)
        self.assertEqual(logged - self.events(), set())

    def test_every_error_that_the_server_makes_is_in_it(self) -> None:
        rows = [(set(row[0].split(", ")), re.findall(r"`([^`]+)`", row[1])) for row in rows_of(self.text, "Errors")]
        made = list(errors_made())
        self.assertGreater(len(made), 70)
        for code, where, texts in made:
            explained = any(
                code in codes and any(word in text for word in words for text in texts) for codes, words in rows
            )
            with self.subTest(where, code=code):
                # Such an error says what to mend, and who reads it is who made the mistake.
                self.assertTrue(explained or code == "INVALID_ARGUMENT", f"no row of Errors has words of {texts}")

    def test_every_code_that_the_protocol_speaks_of_is_in_it(self) -> None:
        codes = {code for row in rows_of(self.text, "Errors") for code in row[0].split(", ")}
        spoken_of = set(re.findall(r"\b[A-Z]+(?:_[A-Z]+)*\b", Path(os.environ["PROTO"]).read_text())) & CODES
        self.assertGreater(len(spoken_of), 8)
        self.assertEqual((spoken_of | {code for code, _, _ in errors_made()}) - codes, set())

    def test_every_error_in_it_is_one_that_the_programs_make(self) -> None:
        rows = rows_of(self.text, "Errors")
        words = {words for row in rows for words in re.findall(r"`([^`]+)`", row[1])} - FOREIGN
        self.assertGreater(len(words), 20)
        self.assertEqual({text for text in words if text.encode() not in self.programs}, set())


if __name__ == "__main__":
    python_cases.main()
