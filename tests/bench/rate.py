"""The main table: every contender, cold and warm, by connections."""

from __future__ import annotations

import contextlib

from tests.bench.contenders import Baseline, Settings, Work, fresh_server_case
from tests.bench.rounds import Case, Section, interleave

MEMORY_NOTE = (
    "memory: most of the process's own (RssAnon), sampled every 20 ms; source, arena and destination are shared memory "
    "and not in it; the staging ring (64 MiB) of `staged` is"
)
ARENA_NOTE = (
    "cold: the first push to a fresh server; warm: the next one, into memory made ready in between; NOT READY: the "
    "server had none ready, so this is no warm push"
)


def run(settings: Settings) -> list[Section]:
    section = Section("rate", f"One tensor of {settings.total_mib} MiB", notes=[ARENA_NOTE, MEMORY_NOTE])
    with contextlib.ExitStack() as stack:
        baselines = [stack.enter_context(Baseline(name, settings)).warmed_up() for name in ("tcp", "stub")]
        cases: list[Case] = []
        for connections in settings.connections:
            work = Work(settings.total_mib, connections)
            cases += [one.case(settings.total_mib, connections) for one in baselines]
            cases += [
                fresh_server_case(settings, "weightstream", work),
                fresh_server_case(settings, "weightstream staged", work, "--device=host-staged"),
            ]
        section.rows = interleave(section.name, settings.rounds, cases)
    return [section]
