"""The shape of the work: one tensor, a model's tensors, very many small ones."""

from __future__ import annotations

from tests.bench.contenders import Baseline, Settings, Work, fresh_server_case
from tests.bench.rate import ARENA_NOTE, MEMORY_NOTE
from tests.bench.rounds import Case, Section, interleave

CONNECTIONS = 2


def run(settings: Settings) -> list[Section]:
    notes = [
        "llama: the 291 tensors of a Llama-3-8B, scaled by their rows",
        f"small: {settings.small_tensors:,} tensors of 4 KiB, {small_mib(settings)} MiB whatever --total-mib is",
        ARENA_NOTE,
        MEMORY_NOTE,
    ]
    section = Section("shapes", f"Shapes of the work, {CONNECTIONS} connections", notes=notes)
    with Baseline("tcp", settings) as tcp:
        cases: list[Case] = [tcp.warmed_up().case(settings.total_mib, CONNECTIONS)]
        for shape in ("one", "llama", "small"):
            total_mib = small_mib(settings) if shape == "small" else settings.total_mib
            work = Work(total_mib, CONNECTIONS, shape)
            cases.append(fresh_server_case(settings, "weightstream", work, show_shape=True))
        section.rows = interleave(section.name, settings.rounds, cases)
    return [section]


def small_mib(settings: Settings) -> int:
    return settings.small_tensors * 4 // 1024
