"""Memory does not grow with the model: the same push of a small and of a large one."""

from __future__ import annotations

from tests.bench.contenders import Settings, Work, push, server
from tests.bench.rate import MEMORY_NOTE
from tests.bench.rounds import Case, Label, Round, Section, interleave

CONNECTIONS = 8


def sizes_mib(settings: Settings) -> tuple[int, int]:
    return max(1, settings.total_mib // 4), settings.total_mib * 2


def run(settings: Settings) -> list[Section]:
    section = Section("memory", f"Memory by size of the model, {CONNECTIONS} connections", notes=[MEMORY_NOTE])
    cases = [size_case(settings, total_mib) for total_mib in sizes_mib(settings)]
    section.rows = interleave(section.name, settings.rounds, cases)
    return [section]


def size_case(settings: Settings, total_mib: int) -> Case:
    def run() -> list[tuple[Label, Round]]:
        work = Work(total_mib, CONNECTIONS)
        with server(settings) as receiver:
            return [(work.label("weightstream", "cold"), push(settings, [receiver], work))]

    return run
