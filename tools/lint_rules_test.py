"""What each rule of tools/lint_rules.py finds, and what it leaves alone."""

from __future__ import annotations

import unittest
from pathlib import Path

from tools import lint_rules, python_cases

ROOT = Path("/srv/checkouts/weightstream")
SLEEP = "absl::Sleep" + "For(absl::Seconds(1));"
UNFINISHED = "TO" + "DO"
LOCK = "std::" + "mutex"


def rules_found(path: str, text: str) -> list[str]:
    return [finding.rule for finding in lint_rules.check(lint_rules.File(path, text), ROOT)]


class RulesTest(unittest.TestCase):
    def test_sleeping_is_forbidden_in_tests_only(self) -> None:
        self.assertEqual(rules_found("server/update_test.cc", SLEEP), ["no-sleep"])
        self.assertEqual(rules_found("tests/end_to_end/fixture.cc", SLEEP), ["no-sleep"])
        self.assertEqual(rules_found("tests/interop/push_test.py", "time." + "sleep(1)"), ["no-sleep"])
        self.assertEqual(rules_found("client/backoff.cc", SLEEP), [])

    def test_an_exemption_needs_its_rule_and_a_reason(self) -> None:
        allowed = "// lint-allow(no-sleep): polls another process, with a deadline\n" + SLEEP
        self.assertEqual(rules_found("tests/a.cc", allowed), [])
        self.assertEqual(rules_found("tests/a.cc", f"{SLEEP}  // lint-allow(no-sleep): polls"), [])
        self.assertEqual(rules_found("tests/a.cc", f"{SLEEP}  // lint-allow(no-sleep):"), ["no-sleep"])
        self.assertEqual(rules_found("tests/a.cc", f"{SLEEP}  // lint-allow(line-length): polls"), ["no-sleep"])
        self.assertEqual(rules_found("tests/a.cc", f"{allowed}\n\n{SLEEP}"), ["no-sleep"])

    def test_lines_have_a_limit_except_in_prose(self) -> None:
        self.assertEqual(rules_found("a.cc", "x" * 120), [])
        self.assertEqual(rules_found("a.cc", "x" * 121), ["line-length"])
        self.assertEqual(rules_found("BUILD.bazel", "#" * 121), ["line-length"])
        self.assertEqual(rules_found("README.md", "x" * 121), [])

    def test_functions_have_a_limit(self) -> None:
        self.assertEqual(rules_found("a.cc", "void F() {\n" + "g();\n" * 78 + "}\n"), [])
        self.assertEqual(rules_found("a.cc", "void F() {\n" + "g();\n" * 79 + "}\n"), ["function-length"])
        self.assertEqual(rules_found("a.py", "def f():\n" + "    g()\n" * 79), [])
        self.assertEqual(rules_found("a.py", "def f():\n" + "    g()\n" * 80), ["function-length"])

    def test_files_have_a_limit(self) -> None:
        self.assertEqual(rules_found("a.cc", "\n" * 500), [])
        self.assertEqual(rules_found("a.cc", "\n" * 501), ["file-length"])

    def test_build_files_state_visibility(self) -> None:
        library = 'cc_library(name = "a")\n'
        self.assertEqual(rules_found("a/BUILD.bazel", library), ["build-visibility"])
        self.assertEqual(rules_found("a/BUILD.bazel", 'cc_library(name = "a", visibility = ["//b:__pkg__"])\n'), [])
        self.assertEqual(rules_found("a/BUILD.bazel", 'package(default_visibility = ["//b:__pkg__"])\n' + library), [])
        self.assertEqual(rules_found("a/BUILD.bazel", 'exports_files(["a.proto"])\n'), [])

    def test_headers_start_with_a_comment(self) -> None:
        self.assertEqual(rules_found("a.h", "#ifndef A_H_\n"), ["header-comment"])
        self.assertEqual(rules_found("a.h", "// What it is for.\n#ifndef A_H_\n"), [])

    def test_every_declaration_of_a_proto_has_a_comment_of_its_own(self) -> None:
        lines = [
            'syntax = "proto3";',
            'option go_package = "a/v1;av1";',
            "// A service.",
            "service S {",
            "  // A call.",
            "  rpc C(M) returns (stream M);",
            "}",
            "/* A message. */",
            "message M {",
            "  // Bytes.",
            "  optional fixed32 a = 1;",
            "  // Names, at most 8.",
            "  map<string, a.b.C> b = 2 [deprecated = true];",
            "  // Either.",
            "  oneof either {",
            "    // Milliseconds.",
            "    repeated .a.C c = 0x3;",
            "  }",
            "  // 4 to 9: promised.",
            "}",
            "// An enum.",
            "enum E {",
            "  option allow_alias = true;",
            "  // Never sent.",
            "  E_UNSPECIFIED = 0;",
            "}",
            "// Nothing.",
            "message N {}",
        ]
        self.assertEqual(rules_found("a.proto", "\n".join(lines)), [])
        comments = [number for number, text in enumerate(lines) if text.strip().startswith(("//", "/*"))]
        declared = [number for number in comments if "promised" not in lines[number]]
        self.assertEqual(len(declared), 10)
        for number in declared:
            with self.subTest(lines[number + 1]):
                without = lines[:number] + lines[number + 1 :]
                findings = lint_rules.check(lint_rules.File("a.proto", "\n".join(without)), ROOT)
                self.assertEqual([(f.rule, f.line) for f in findings], [("proto-comments", number + 1)])

    def test_a_comment_of_a_proto_covers_one_declaration(self) -> None:
        self.assertEqual(rules_found("a.proto", "// Both.\nuint64 a = 1;\nuint64 b = 2;"), ["proto-comments"])
        self.assertEqual(rules_found("a.proto", "// A section.\n\nmessage M {}"), ["proto-comments"])

    def test_locks_are_abseils(self) -> None:
        self.assertEqual(rules_found("a.cc", LOCK + " lock;"), ["abseil-locks"])
        self.assertEqual(rules_found("a.cc", "absl::Mutex mutex_; std::shared_ptr<int> p;"), [])

    def test_waits_with_a_limit_follow_the_clock_that_does_not_jump(self) -> None:
        for wait in (
            "m.AwaitWithTimeout(",
            "m.LockWhenWithDeadline(",
            "c.WaitWithTimeout(",
            "n.WaitForNotificationWithTimeout(",
        ):
            self.assertEqual(rules_found("server/a.cc", wait + "x);"), ["monotonic-waits"], wait)
            self.assertEqual(rules_found("server/a_test.cc", wait + "x);"), [], wait)
        self.assertEqual(rules_found("server/a.cc", "m.Await(x); n.WaitForNotification(); c.AwaitFor(m, x, y);"), [])

    def test_unfinished_work_is_found(self) -> None:
        self.assertEqual(rules_found("a.cc", f"// {UNFINISHED}: later"), ["unfinished"])
        self.assertEqual(rules_found("docs/a.md", f"{UNFINISHED} later"), ["unfinished"])

    def test_paths_of_one_machine_are_found(self) -> None:
        self.assertEqual(rules_found("a.cc", f'"{ROOT}/server"'), ["host-path"])
        self.assertEqual(rules_found("a.cc", '"/ho' + 'me/someone/x"'), ["host-path"])
        self.assertEqual(rules_found("a.cc", '"/dev/shm/weightstream"'), [])

    def test_python_that_does_not_parse_is_a_finding(self) -> None:
        self.assertEqual(rules_found("a.py", "def"), ["function-length"])


if __name__ == "__main__":
    python_cases.main()
