"""Finds the functions of a C++ file and how many lines each has, well enough for a limit on their length.

It is no parser: it blanks comments, strings and preprocessor lines, follows the braces, and takes an outermost brace
that comes after a parameter list for a function's body. A lambda belongs to the function around it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

# In one expression, so that a quote inside a comment (or the reverse) does not count. A quote between digits separates
# them; it begins no character.
_BLANKED = re.compile(
    r"""
      //[^\n]*
    | /\*.*?\*/
    | R"(?P<mark>[^()\s\\]*)\(.*?\)(?P=mark)"
    | "(?:\\.|[^"\\\n])*"
    | (?<![0-9a-fA-F])'(?:\\.|[^'\\\n])*'
    | ^[ \t]*\#(?:[^\n\\]|\\.)*
    """,
    re.VERBOSE | re.DOTALL | re.MULTILINE,
)

# What opens a brace that may hold functions, rather than being one.
_SCOPE = re.compile(r"\b(namespace|class|struct|union|enum|extern)\b[^()]*$|\b(namespace|enum)\b")
_CLASS = re.compile(r"\b(?:class|struct|union)\b")
# What a function's head ends with: its parameters, then qualifiers, a return type or an initialiser list.
_FUNCTION_HEAD = re.compile(r"(?P<name>[~\w:]+|operator[^\w\s(]+)\s*\(.*\)[^()=;]*$", re.DOTALL)


@dataclass(frozen=True)
class Function:
    """One function's body: the lines of its braces, counted from 1."""

    name: str
    first_line: int
    last_line: int

    @property
    def lines(self) -> int:
        return self.last_line - self.first_line + 1


def blank_text(source: str) -> str:
    """`source` with comments, strings and preprocessor lines as blanks; line numbers stay."""
    return _BLANKED.sub(lambda match: re.sub(r"[^\n]", " ", match.group()), source)


def _function_name(head: str) -> str | None:
    """The name, if `head` (the text before a brace) begins a function."""
    if _SCOPE.search(head) or (_CLASS.search(head) and not head.rstrip().endswith(")")):
        return None
    match = _FUNCTION_HEAD.search(head)
    return match["name"] if match else None


def functions_of(source: str) -> list[Function]:
    """The outermost functions of a file, in order."""
    found = []
    name: str | None = None
    first_line = line = 1
    depth = 0  # of braces inside the function
    head = ""
    for character in blank_text(source):
        if character == "\n":
            line += 1
        if name is not None:
            depth += {"{": 1, "}": -1}.get(character, 0)
            if depth == 0:
                found.append(Function(name, first_line, line))
                name = None
        elif character == "{":
            name = _function_name(head)
            first_line, depth, head = line, 1, ""
        elif character in ";}":
            head = ""
        else:
            head += character
    return found
