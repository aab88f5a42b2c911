"""Sections as JSON: every round, and what was derived from them."""

from __future__ import annotations

import dataclasses
from typing import Any

from tests.bench import machine
from tests.bench.contenders import Settings
from tests.bench.rounds import Row, Section


def as_json(settings: Settings, sections: list[Section]) -> dict[str, Any]:
    return {
        "commit": machine.commit(),
        "machine": machine.description(),
        "settings": {
            "total_mib": settings.total_mib,
            "rounds": settings.rounds,
            "connections": list(settings.connections),
            "small_tensors": settings.small_tensors,
            "link_mib": settings.link_mib,
            "period_mib": settings.period_mib,
        },
        "sections": [_section(section) for section in sections],
    }


def _section(section: Section) -> dict[str, Any]:
    return {
        "name": section.name,
        "title": section.title,
        "skipped": section.skipped or None,
        "failed": section.failed or None,
        "ratio": section.ratio_heading,
        "notes": section.notes,
        "facts": section.facts,
        "rows": [_row(section, row) for row in section.rows],
    }


def _row(section: Section, row: Row) -> dict[str, Any]:
    return {
        **dataclasses.asdict(row.label),
        "gb_per_second": {"median": row.rate(), "least": min(row.rates()), "most": max(row.rates())},
        "ratio": section.ratio(row),
        "cpu_seconds_per_gib": {side: row.cpu_per_gib(side) for side in ("sender", "receiver")},
        "memory_bytes": {side: row.memory(side) for side in ("sender", "receiver")},
        "rounds": [dataclasses.asdict(one) for one in row.rounds],
    }
