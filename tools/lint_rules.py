"""Checks the rules of this repository that no other linter knows. `make lint` runs it over every tracked file.

Each finding names the file, the line, the rule and the remedy. A line may be exempted, with a reason, by a comment on
it or on the line before: lint-allow(RULE): REASON. Exits 1 if anything was found.
"""

from __future__ import annotations

import argparse
import ast
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from tools import cpp_functions

MAX_COLUMNS = 120
MAX_FUNCTION_LINES = 80
MAX_FILE_LINES = 500

CPP = {".cc", ".h", ".cu", ".cuh"}
CODE = CPP | {".py"}
PROSE = {".md", ".json", ".txt"}
TEXT = CODE | PROSE | {".sh", ".bazel", ".bzl", ".proto", ".yaml", ".yml", ".toml", ".ini", ""}

_ALLOW = re.compile(r"lint-allow\((?P<rule>[a-z-]+)\):\s*\S+")
_SLEEP = re.compile(r"\b(sleep_for|sleep_until|usleep|nanosleep|SleepFor|time\.sleep)\b\s*\(")
# Abseil's waits with a limit, on a mutex, a condition variable or a notification.
_WALL_CLOCK_WAIT = re.compile(r"\b\w*(Await|Wait|LockWhen|WaitForNotification)With(Timeout|Deadline)\s*\(")
_STANDARD_LOCK = re.compile(r"\bstd::(\w*mutex|condition_variable\w*|lock_guard|\w+_lock)\b")
_HOME = re.compile(r"(?<![\w.])/(home|Users)/[a-z]")
# In two halves, so that this file does not contain what it forbids.
_UNFINISHED = re.compile(r"\b(TO" + r"DO|FIX" + r"ME)\b")

# What a .proto file declares, one declaration a line: a block or a call by its keyword, a field or an enum's value by
# its number. Options are not declarations.
_PROTO_BLOCK = re.compile(r"\s*(?:message|enum|service|rpc|oneof|extend)\s+(?P<name>[\w.]+)")
_PROTO_NUMBERED = re.compile(
    r"\s*(?!option\s)(?:(?:optional|repeated|required)\s+)?(?:(?:map\s*<[^>]*>|[\w.]+)\s+)?"
    r"(?P<name>\w+)\s*=\s*(?:-?\d|$)"
)

# Calls in a BUILD file that make no target, or one whose visibility is always public.
_NOT_TARGETS = {"load", "package", "exports_files", "licenses", "config_setting", "workspace", "test_suite"}


@dataclass(frozen=True)
class File:
    """One tracked file: its path from the root, and its text."""

    path: str
    text: str

    @property
    def suffix(self) -> str:
        return PurePosixPath(self.path).suffix

    @property
    def name(self) -> str:
        return PurePosixPath(self.path).name

    @property
    def is_test(self) -> bool:
        return self.path.startswith("tests/") or PurePosixPath(self.path).stem.endswith("_test")

    @property
    def is_build_file(self) -> bool:
        return self.name in ("BUILD.bazel", "BUILD")

    def lines(self) -> list[str]:
        return self.text.splitlines()


@dataclass(frozen=True)
class Finding:
    """What one rule found in one line."""

    path: str
    line: int
    rule: str
    message: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.message} [{self.rule}]"


# A rule yields lines and messages; check() adds the path and the rule's name.
Rule = Callable[[File], Iterator[tuple[int, str]]]


def _lines_matching(file: File, pattern: re.Pattern[str], message: str) -> Iterator[tuple[int, str]]:
    for number, text in enumerate(file.lines(), start=1):
        if match := pattern.search(text):
            yield number, message.format(match.group().rstrip("( "))


def no_sleep(file: File) -> Iterator[tuple[int, str]]:
    if file.is_test and file.suffix in CODE:
        yield from _lines_matching(
            file, _SLEEP, "{} in a test: wait for the condition with a deadline, or drive a clock of the test's own"
        )


def line_length(file: File) -> Iterator[tuple[int, str]]:
    if file.suffix not in TEXT - PROSE or file.name == "LICENSE":
        return
    for number, text in enumerate(file.lines(), start=1):
        if len(text) > MAX_COLUMNS:
            yield number, f"{len(text)} columns, the limit is {MAX_COLUMNS}"


def function_length(file: File) -> Iterator[tuple[int, str]]:
    if file.suffix in CPP:
        lengths = [(f.first_line, f.name, f.lines) for f in cpp_functions.functions_of(file.text)]
    elif file.suffix == ".py":
        nodes = ast.walk(ast.parse(file.text))
        functions = [node for node in nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
        lengths = [(f.lineno, f.name, (f.end_lineno or f.lineno) - f.lineno + 1) for f in functions]
    else:
        return
    for first_line, name, lines in lengths:
        if lines > MAX_FUNCTION_LINES:
            yield first_line, f"{name} has {lines} lines, the limit is {MAX_FUNCTION_LINES}: split it"


def file_length(file: File) -> Iterator[tuple[int, str]]:
    lines = len(file.lines())
    if file.suffix in CODE and lines > MAX_FILE_LINES:
        yield 1, f"{lines} lines, the limit is {MAX_FILE_LINES}: the file holds a second subject"


def build_visibility(file: File) -> Iterator[tuple[int, str]]:
    if not file.is_build_file:
        return
    calls = [
        statement.value
        for statement in ast.parse(file.text).body
        if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call)
    ]
    named = [(call, call.func.id, {k.arg for k in call.keywords}) for call in calls if isinstance(call.func, ast.Name)]
    if any(name == "package" and "default_visibility" in arguments for _, name, arguments in named):
        return
    for call, name, arguments in named:
        if name not in _NOT_TARGETS and "visibility" not in arguments:
            yield call.lineno, f"{name} states no visibility: give the package a default_visibility"


def header_comment(file: File) -> Iterator[tuple[int, str]]:
    if file.suffix in (".h", ".cuh") and not file.text.startswith("//"):
        yield 1, "a header starts with a comment: what it is for, units, errors, ownership, thread-safety"


def proto_comments(file: File) -> Iterator[tuple[int, str]]:
    """Strict on purpose: a comment covers the one declaration below it, so that none hides behind its neighbour's."""
    if file.suffix != ".proto":
        return
    above = ""
    for number, text in enumerate(file.lines(), start=1):
        declared = _PROTO_BLOCK.match(text) or _PROTO_NUMBERED.match(text)
        if declared and not above.startswith("//") and not above.endswith("*/"):
            yield number, f"{declared['name']} has no comment directly above it: say what it means, and in which unit"
        above = text.strip()


def abseil_locks(file: File) -> Iterator[tuple[int, str]]:
    if file.suffix in CPP:
        yield from _lines_matching(
            file,
            _STANDARD_LOCK,
            "{}: use absl::Mutex with ABSL_GUARDED_BY, which says what it guards and lets a wait name its condition",
        )


def monotonic_waits(file: File) -> Iterator[tuple[int, str]]:
    if file.suffix in CPP and not file.is_test and not file.path.startswith("third_party/"):
        yield from _lines_matching(
            file,
            _WALL_CLOCK_WAIT,
            "{} follows the wall clock, which may be set: use MonotonicCondVar (tensor/monotonic_cond_var.h)",
        )


def unfinished(file: File) -> Iterator[tuple[int, str]]:
    if file.suffix in TEXT:
        yield from _lines_matching(file, _UNFINISHED, "{}: finish it, or open an issue")


def host_paths(root: Path) -> Rule:
    """The rule against paths of the machine at hand: someone's home, or where this checkout lies."""
    # A checkout in a folder of the file system's root has too common a name to look for.
    checkout = re.compile(re.escape(str(root)) + r"(?![\w.-])") if len(root.parts) > 2 else None

    def rule(file: File) -> Iterator[tuple[int, str]]:
        if file.suffix not in TEXT:
            return
        for pattern in (_HOME, checkout):
            if pattern:
                yield from _lines_matching(file, pattern, "{}: a path of one machine")

    return rule


def rules(root: Path) -> dict[str, Rule]:
    """Every rule, by the name that findings and exemptions use."""
    return {
        "no-sleep": no_sleep,
        "line-length": line_length,
        "function-length": function_length,
        "file-length": file_length,
        "build-visibility": build_visibility,
        "header-comment": header_comment,
        "proto-comments": proto_comments,
        "abseil-locks": abseil_locks,
        "monotonic-waits": monotonic_waits,
        "unfinished": unfinished,
        "host-path": host_paths(root),
    }


def _allowed(lines: list[str], number: int, rule: str) -> bool:
    nearby = lines[max(0, number - 2) : number]
    return any(match["rule"] == rule for text in nearby for match in _ALLOW.finditer(text))


def check(file: File, root: Path) -> list[Finding]:
    """Everything that the rules find in one file and that is not exempted."""
    lines = file.lines()
    findings = []
    for name, rule in rules(root).items():
        try:
            found = list(rule(file))
        except SyntaxError as error:
            found = [(error.lineno or 1, f"does not parse: {error.msg}")]
        findings += [Finding(file.path, line, name, text) for line, text in found if not _allowed(lines, line, name)]
    return findings


def tracked_files(root: Path) -> Iterator[File]:
    """The text files that git tracks below `root`."""
    listing = subprocess.run(["git", "ls-files", "-z"], cwd=root, check=True, capture_output=True, text=True).stdout
    for name in listing.split("\0"):
        path = root / name
        if name and path.is_file() and not path.is_symlink():
            try:
                yield File(name, path.read_text())
            except UnicodeDecodeError:
                continue  # Not text.


def main() -> int:
    parser = argparse.ArgumentParser(description="Checks this repository's own rules over every tracked file.")
    parser.add_argument("--root", type=Path, default=Path(__file__).resolve().parent.parent)
    root = parser.parse_args().root.resolve()
    findings = [finding for file in tracked_files(root) for finding in check(file, root)]
    for finding in findings:
        print(finding)
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
