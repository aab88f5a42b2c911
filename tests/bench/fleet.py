"""One sender and several servers at once, beside one server."""

from __future__ import annotations

import contextlib

from tests.bench.contenders import Settings, Work, push, server, standing_servers_case
from tests.bench.rate import ARENA_NOTE
from tests.bench.rounds import Case, Section, interleave

SERVERS = 4
CONNECTIONS = 2


def sent_mib(settings: Settings) -> int:
    return max(1, settings.total_mib // 4)


def run(settings: Settings) -> list[Section]:
    notes = [
        "GB/s: bytes on the wire, to all servers together; CPU s/GiB likewise, and of all servers together",
        ARENA_NOTE,
    ]
    section = Section(
        "fleet",
        f"{SERVERS} servers at once, {CONNECTIONS} connections to each",
        notes=notes,
        reference=lambda label, other: other.receivers == 1 and other.arena == label.arena,
        ratio_heading="of one server",
    )
    work = Work(sent_mib(settings), CONNECTIONS)
    with contextlib.ExitStack() as stack:
        cases: list[Case] = []
        for count in (1, SERVERS):
            servers = [stack.enter_context(server(settings)) for _ in range(count)]
            push(settings, servers, work)
            cases.append(standing_servers_case(settings, "weightstream", servers, work))
        section.rows = interleave(section.name, settings.rounds, cases)
    return [section]
