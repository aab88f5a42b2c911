"""One sender and several servers at once, beside one server; and that it reads a file once for all of them."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

from tests.bench.contenders import Settings, Work, push, server, standing_servers_case
from tests.bench.processes import Receiver
from tests.bench.rate import ARENA_NOTE
from tests.bench.rounds import MIB, Case, Section, interleave
from tests.bench.storage import bytes_read_by_push

SERVERS = 4
CONNECTIONS = 2
# Enough to tell one reading from several, beside what else the client reads: itself.
FILE_MIB = 256


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
        add_storage_reads(settings, servers, section)
    return [section]


def add_storage_reads(settings: Settings, servers: Sequence[Receiver], section: Section) -> None:
    file_mib = min(FILE_MIB, sent_mib(settings))
    what = "storage read by the client"
    try:
        read = bytes_read_by_push(settings, servers, CONNECTIONS, file_mib)
    except OSError as error:
        section.notes.append(f"{what}: not measured: {error}; give another --disk")
        return
    if read == 0:
        section.notes.append(f"{what}: not measured: {settings.disk} shows no reads; give a --disk that is one")
        return
    times = read / (file_mib * MIB)
    section.notes.append(f"{what}: {times:.2f} times the file, of {file_mib} MiB, for {len(servers)} servers")
    section.facts["storage_read"] = {"file_bytes": file_mib * MIB, "read_bytes": read, "receivers": len(servers)}
