"""A real Prometheus, as Debian ships it, that scrapes one server of a test."""

from __future__ import annotations

import json
import re
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

from tests.end_to_end.processes import Process
from tests.end_to_end.waiting import wait_until

PROMETHEUS = "/usr/bin/prometheus"
PROMTOOL = "/usr/bin/promtool"

_CONFIGURATION = """
global: {{scrape_interval: 250ms, scrape_timeout: 250ms}}
scrape_configs:
  - job_name: weightstream
    static_configs: [{{targets: ["{target}"]}}]
"""


def http_get(url: str) -> str:
    with urllib.request.urlopen(url, timeout=10) as answer:
        return str(answer.read().decode())


class Prometheus(Process):
    """Scrapes `target` (HOST:PORT) four times a second; await_scrape() after the start, kill() at the end."""

    def __init__(self, folder: Path, target: str) -> None:
        folder.mkdir()
        configuration = folder / "prometheus.yml"
        configuration.write_text(_CONFIGURATION.format(target=target))
        command = [
            PROMETHEUS,
            f"--config.file={configuration}",
            f"--storage.tsdb.path={folder / 'data'}",
            "--web.listen-address=127.0.0.1:0",
        ]
        super().__init__("prometheus", command, folder / "prometheus.log", folder / "prometheus.out")
        self.address = ""

    def await_scrape(self) -> None:
        """Waits until it has scraped its target once."""
        wait_until(self._find_address, "Prometheus listens")
        wait_until(self._ready, "Prometheus is ready")
        wait_until(lambda: self.value("up") == 1, "Prometheus scrapes its target")

    def _ready(self) -> bool:
        try:
            return "Ready" in http_get(f"http://{self.address}/-/ready")
        except urllib.error.HTTPError:
            return False

    def _find_address(self) -> bool:
        if not self.running():
            raise AssertionError(f"Prometheus ended:\n{self.log()}")
        found = re.search(r'msg="Listening on" address=(\S+)', self.log())
        self.address = found[1] if found else ""
        return self.address != ""

    def query(self, expression: str) -> list[Any]:
        """The series that an expression of PromQL gives now; AssertionError if Prometheus does not understand it."""
        url = f"http://{self.address}/api/v1/query?" + urllib.parse.urlencode({"query": expression})
        try:
            answer = json.loads(http_get(url))
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{expression}: {error.read().decode()}") from None
        result = answer["data"]["result"]
        assert isinstance(result, list)
        return result

    def value(self, expression: str) -> float | None:
        """Of the one series that the expression gives."""
        series = self.query(expression)
        return float(series[0]["value"][1]) if len(series) == 1 else None

    def label_values(self, metric: str, label: str) -> list[str]:
        """The values that a label of a metric has."""
        url = f"http://{self.address}/api/v1/label/{label}/values?" + urllib.parse.urlencode({"match[]": metric})
        values = json.loads(http_get(url))["data"]
        assert isinstance(values, list)
        return values
