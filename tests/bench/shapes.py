"""The shape of the work: one tensor, a model's tensors, very many small ones."""

from __future__ import annotations

from tests.bench.contenders import Baseline, Settings, Work, fresh_server_case
from tests.bench.rate import ARENA_NOTE, MEMORY_NOTE
from tests.bench.rounds import GIB, MIB, Case, Section, interleave
from tests.bench.table import cost_text

CONNECTIONS = 2
# As shapes.h has it.
SMALL_TENSOR_BYTES = 4096


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
    add_small_tensor_costs(section)
    return [section]


def add_small_tensor_costs(section: Section) -> None:
    """Adds what a small tensor costs either side: many to a message, beginning and committing included."""
    for row in section.rows:
        if (row.label.shape, row.label.arena) == ("small", "warm"):
            costs = {side: row.cpu_per_gib(side) * SMALL_TENSOR_BYTES / GIB * 1e6 for side in ("sender", "receiver")}
            section.facts["cpu_microseconds_per_small_tensor"] = costs
            section.notes.append(f"CPU of one small tensor, warm: {cost_text(costs)}")


def small_mib(settings: Settings) -> int:
    return settings.small_tensors * SMALL_TENSOR_BYTES // MIB
