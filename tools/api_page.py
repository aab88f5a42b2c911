"""Writes docs/api.md from the comments of the service's .proto, so that the page says what the file says.

    protoc -I proto --include_source_info --descriptor_set_out=SET proto/weightstream/v1/weightstream.proto
    python3 -m tools.api_page SET > docs/api.md

`bazel run //docs:write_api` does both; //docs:api_test fails where the page is not what this would write.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from google.protobuf import descriptor_pb2

_Field = descriptor_pb2.FieldDescriptorProto
_SCALARS = {
    number: name.removeprefix("TYPE_").lower()
    for name, number in _Field.Type.items()
    if name not in ("TYPE_MESSAGE", "TYPE_ENUM", "TYPE_GROUP")
}

# Field numbers of descriptor.proto, by which source locations name what they are about.
_FILE_MESSAGE, _FILE_ENUM, _FILE_SERVICE, _FILE_SYNTAX = 4, 5, 6, 12
_MESSAGE_FIELD, _ENUM_VALUE, _SERVICE_METHOD = 2, 2, 2

_INTRODUCTION = """\
# The API

<!-- Written by tools/api_page.py from the comments of the .proto: change those, then `bazel run //docs:write_api`. -->

`{package}`, as [{path}](../{path}) defines it:
every call, message and field, in the words of that file. Programs in Python and Go that speak it from nothing but
generated stubs are in [tests/interop](../tests/interop).
"""


class Page:
    """One file's descriptor, and the comments in it."""

    def __init__(self, file: Any, path: str) -> None:
        self._file = file
        self._path = path
        self._comments = {
            tuple(at.path): at.leading_comments for at in file.source_code_info.location if at.leading_comments
        }
        self._maps = {
            f".{file.package}.{message.name}.{nested.name}": nested
            for message in file.message_type
            for nested in message.nested_type
            if nested.options.map_entry
        }

    def text(self) -> str:
        """The whole page."""
        return "\n".join(line.rstrip() for line in self._lines()).rstrip() + "\n"

    def _lines(self) -> Iterator[str]:
        yield from (_INTRODUCTION.format(package=self._file.package, path=self._path), "")
        yield from self._prose((_FILE_SYNTAX,))
        for number, service in enumerate(self._file.service):
            yield from self._service(service, (_FILE_SERVICE, number))
        yield from ("## Messages", "")
        for number, message in enumerate(self._file.message_type):
            yield from self._message(message, (_FILE_MESSAGE, number))
        yield from ("## Enums", "")
        for number, enum in enumerate(self._file.enum_type):
            yield from self._enum(enum, (_FILE_ENUM, number))

    def _prose(self, path: tuple[int, ...]) -> Iterator[str]:
        """A comment as paragraphs; what it indents is a table of its own, and stays one."""
        for paragraph in _unindented(self._comments.get(path, "")).strip("\n").split("\n\n"):
            for line in paragraph.splitlines():
                if re.match(r" {2}\S", line) and not line.startswith("    "):
                    yield from _list_item(line)
                else:
                    yield "  " + line.strip() if line.startswith("  ") else _escaped(line)
            yield ""

    def _cell(self, path: tuple[int, ...]) -> str:
        return _escaped(" ".join(_unindented(self._comments.get(path, "")).split())).replace("|", r"\|")

    def _service(self, service: Any, path: tuple[int, ...]) -> Iterator[str]:
        yield from (f"## {service.name}", "")
        yield from self._prose(path)
        for number, method in enumerate(service.method):
            asks = ("stream " if method.client_streaming else "") + self._link(method.input_type)
            answers = ("stream " if method.server_streaming else "") + self._link(method.output_type)
            yield from (f"### {method.name}", "", f"{asks} → {answers}", "")
            yield from self._prose((*path, _SERVICE_METHOD, number))

    def _message(self, message: Any, path: tuple[int, ...]) -> Iterator[str]:
        yield from (f"### {message.name}", "")
        yield from self._prose(path)
        if message.field:
            yield from ("| number | field | type | |", "|---|---|---|---|")
        for number, field in enumerate(message.field):
            cell = self._cell((*path, _MESSAGE_FIELD, number))
            yield f"| {field.number} | `{field.name}` | {self._type(field)} | {cell} |"
        reserved = [_numbers(each.start, each.end - 1) for each in message.reserved_range]
        if reserved:
            yield from ("", f"Reserved: {', '.join(reserved)}.")
        yield ""

    def _enum(self, enum: Any, path: tuple[int, ...]) -> Iterator[str]:
        yield from (f"### {enum.name}", "")
        yield from self._prose(path)
        yield from ("| number | value | |", "|---|---|---|")
        for number, value in enumerate(enum.value):
            yield f"| {value.number} | `{value.name}` | {self._cell((*path, _ENUM_VALUE, number))} |"
        yield ""

    def _type(self, field: Any) -> str:
        entry = self._maps.get(field.type_name)
        if entry is not None:
            return f"map of {self._type(entry.field[0])} to {self._type(entry.field[1])}"
        name = _SCALARS.get(field.type) or self._link(field.type_name)
        if field.label == _Field.LABEL_REPEATED:
            return f"repeated {name}"
        return f"optional {name}" if field.proto3_optional else name

    def _link(self, type_name: str) -> str:
        own = f".{self._file.package}."
        if not type_name.startswith(own):
            return f"`{type_name.removeprefix('.')}`"
        name = type_name.removeprefix(own)
        return f"[{name}](#{name.lower()})"


def _unindented(comment: str) -> str:
    """Without the one space that follows each `//`."""
    return "\n".join(line.removeprefix(" ") for line in comment.splitlines())


def _escaped(text: str) -> str:
    """What Markdown would take for its own; it leaves the underscores inside of a name."""
    return re.sub(r"\b__\w+__\b", lambda match: f"`{match.group()}`", re.sub(r"[*<]", lambda m: "\\" + m.group(), text))


def _list_item(line: str) -> Iterator[str]:
    """Of the comment's two columns, a name and what it means."""
    name, _, meaning = line.strip().partition("  ")
    yield f"- `{name}`: {_escaped(meaning.strip())}" if meaning else f"- {_escaped(name)}"


def _numbers(first: int, last: int) -> str:
    return str(first) if first == last else f"{first} to {last}"


def main() -> None:
    files = descriptor_pb2.FileDescriptorSet.FromString(Path(sys.argv[1]).read_bytes())
    file = files.file[-1]
    sys.stdout.write(Page(file, f"proto/{file.name}").text())


if __name__ == "__main__":
    main()
