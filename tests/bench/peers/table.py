"""The figures as people and programs read them."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tests.bench.peers.processes import Round

GIB = 1 << 30
CEILING = "tcp"
COLUMNS = ("connections", "GB/s", "least", "most", "of tcp", "CPU s/GiB send", "receive")


@dataclass
class Row:
    """Every round of one contender with one number of connections."""

    contender: str
    connections: int
    settings: Mapping[str, int]
    rounds: list[Round] = field(default_factory=list)

    def median(self) -> float:
        return statistics.median(one.gb_per_second() for one in self.rounds)

    def sender_cpu_per_gib(self) -> float:
        return statistics.median(one.sender_cpu_seconds / (one.bytes / GIB) for one in self.rounds)

    def receiver_cpu_per_gib(self) -> float:
        return statistics.median(one.receiver_cpu_seconds / (one.bytes / GIB) for one in self.rounds)


def ratio_to_ceiling(row: Row, rows: Sequence[Row]) -> float | None:
    """Of raw TCP's median with as many connections; None where that was not measured."""
    for other in rows:
        if other.contender == CEILING and other.connections == row.connections and other.rounds:
            return row.median() / other.median()
    return None


def lines_of(rows: Sequence[Row], unavailable: Mapping[str, str]) -> list[str]:
    """The table, a line each; what could not be measured is there with its reason."""
    width = max([len("contender"), *(len(row.contender) for row in rows), *(len(name) for name in unavailable)]) + 2
    lines = [f"{'contender':{width}}" + "".join(f"{title:>15}" for title in COLUMNS) + "  settings"]
    for row in rows:
        if not row.rounds:
            continue
        rates = [one.gb_per_second() for one in row.rounds]
        ratio = ratio_to_ceiling(row, rows)
        cells = (
            f"{row.connections}",
            f"{row.median():.2f}",
            f"{min(rates):.2f}",
            f"{max(rates):.2f}",
            "-" if ratio is None else f"{ratio:.2f}",
            f"{row.sender_cpu_per_gib():.2f}",
            f"{row.receiver_cpu_per_gib():.2f}",
        )
        settings = " ".join(f"{name}={value}" for name, value in row.settings.items())
        lines.append((f"{row.contender:{width}}" + "".join(f"{cell:>15}" for cell in cells) + "  " + settings).rstrip())
    lines += [f"{name:{width}}not measured: {reason}" for name, reason in unavailable.items()]
    return lines


def report_of(
    rows: Sequence[Row], unavailable: Mapping[str, str], versions: Mapping[str, str], conditions: Mapping[str, Any]
) -> dict[str, Any]:
    """Everything that was measured, for programs; "settings" is what --settings reads."""
    measured = [row for row in rows if row.rounds]
    settings: dict[str, dict[str, Mapping[str, int]]] = {}
    for row in measured:
        if row.settings:
            settings.setdefault(row.contender, {})[str(row.connections)] = row.settings
    return {
        "conditions": dict(conditions),
        "versions": dict(versions),
        "settings": settings,
        "unavailable": dict(unavailable),
        "rows": [
            {
                "contender": row.contender,
                "connections": row.connections,
                "settings": dict(row.settings),
                "median_gb_per_second": row.median(),
                "min_gb_per_second": min(one.gb_per_second() for one in row.rounds),
                "max_gb_per_second": max(one.gb_per_second() for one in row.rounds),
                "ratio_to_tcp": ratio_to_ceiling(row, measured),
                "rounds": [asdict(one) for one in row.rounds],
            }
            for row in measured
        ],
    }


def write_json(report: Mapping[str, Any], path: Path) -> None:
    path.write_text(json.dumps(report, indent=1) + "\n")
