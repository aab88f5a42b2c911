"""What is scraped is what Prometheus wants and what happened; dashboard, alerts and the page speak of just that."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from tests.end_to_end.checkpoints import Tensor, random_tensor, write_safetensors
from tests.end_to_end.harness import EndToEndTest
from tests.end_to_end.processes import Server
from tests.end_to_end.waiting import wait_until
from tests.end_to_end.wire import Wire
from tests.metrics.prometheus import PROMTOOL, Prometheus, http_get
from tools import python_cases

DASHBOARD = Path("deploy/grafana/weightstream.json")
ALERTS = Path("deploy/prometheus/weightstream.rules.yaml")
ALERTS_TEST = Path("deploy/prometheus/weightstream.rules_test.yaml")
DOCUMENT = Path("docs/metrics.md")


def named_metrics() -> set[str]:
    """The metrics in the page's table."""
    return set(re.findall(r"^\| `(\w+)` \| (?:counter|gauge|histogram) ", DOCUMENT.read_text(), re.MULTILINE))


def panel_queries() -> list[tuple[str, str]]:
    """Title and expression of all that the dashboard draws, of every job, server and model, over a minute."""
    queries = []
    for panel in json.loads(DASHBOARD.read_text())["panels"]:
        for target in panel["targets"]:
            expression = target["expr"].replace("$__rate_interval", "1m")
            expression = re.sub(r"\$(instance|model|job)\b", ".*", expression)
            assert "$" not in expression, expression
            queries.append((panel["title"], expression))
    return queries


def alert_rules() -> list[dict[str, Any]]:
    (group,) = yaml.safe_load(ALERTS.read_text())["groups"]
    rules: list[dict[str, Any]] = group["rules"]
    return rules


class Metrics(EndToEndTest):
    """Each test has a server with the staging ring and a commit hook, so that every metric is there."""

    def setUp(self) -> None:
        super().setUp()
        # Tests that leave an update in flight need not wait for it at their end.
        flags = ("--metrics-listen=127.0.0.1:0", "--device=host-staged", "--drain-seconds=0.1")
        self.server = self.start_server(*flags, "--on-commit-exec=/bin/true")
        self.target = self.metrics_address(self.server)

    def metrics_address(self, server: Server) -> str:
        found = re.search(r"metrics address=(\S+)", server.log())
        assert found, server.log()
        return found[1]

    def scrape(self) -> str:
        return http_get(f"http://{self.target}/metrics")

    def start_prometheus(self) -> Prometheus:
        prometheus = Prometheus(self.folder / "prometheus", self.target)
        self.addCleanup(prometheus.kill)
        prometheus.await_scrape()
        return prometheus

    def await_value(self, prometheus: Prometheus, expression: str, value: float) -> None:
        wait_until(lambda: prometheus.value(expression) == value, f"{expression} is {value}")

    def await_series(self, prometheus: Prometheus, expression: str, panel: str) -> None:
        wait_until(lambda: prometheus.query(expression) != [], f"{panel} shows {expression}")

    def await_labels(self, prometheus: Prometheus, expression: str, labels: dict[str, str]) -> None:
        def shown() -> bool:
            return labels in [series["metric"] for series in prometheus.query(expression)]

        wait_until(shown, f"{expression} has {labels}")

    def tensor(self, version: int) -> Tensor:
        return random_tensor(np.random.default_rng(version), "w", "BF16", (1000, 500))

    def push_version(self, version: int) -> int:
        """Pushes a version of "model"; its bytes."""
        source = write_safetensors(self.folder / f"{version}.safetensors", [self.tensor(version)])
        self.push(source, self.server.address, "model", f"--version={version}")
        return 1_000_000

    def begin_update(self, model: str, version: int) -> None:
        """Leaves an update in flight, without a byte of it."""
        with Wire(self.server.address) as wire:
            wire.begin(model, version, [self.tensor(version)])

    def test_promtool_finds_nothing_to_say(self) -> None:
        self.push_version(1)
        self.weightstream("status", f"--to={self.server.address}", "--model=nobody", code=1)
        checked = subprocess.run([PROMTOOL, "check", "metrics"], input=self.scrape(), capture_output=True, text=True)
        self.assertEqual((checked.returncode, checked.stdout + checked.stderr), (0, ""))

    def test_prometheus_sees_what_happened(self) -> None:
        prometheus = self.start_prometheus()
        pushed = self.push_version(3)
        wait_until(lambda: prometheus.value("weightstream_model_current_version") == 3, "the version is scraped")
        for expression, expected in {
            "weightstream_received_bytes_total": pushed,
            'weightstream_updates_total{outcome="committed"}': 1,
            'weightstream_calls_total{method="CommitUpdate", code="OK"}': 1,
            'weightstream_update_phase_seconds_count{phase="receive"}': 1,
            'weightstream_model_held_bytes{model="model"}': pushed,
        }.items():
            self.await_value(prometheus, expression, expected)

    def test_every_panel_of_the_dashboard_shows_something(self) -> None:
        prometheus = self.start_prometheus()
        self.push_version(1)
        wait_until(lambda: prometheus.value("weightstream_model_current_version") == 1, "the first version is scraped")
        # What happens between two scrapes is what a rate sees.
        self.push_version(2)
        self.weightstream("pull", f"--from={self.server.address}", "--model=model", f"--out={self.folder / 'pulled'}")
        self.weightstream("status", f"--to={self.server.address}", "--model=nobody", code=1)
        self.begin_update("model", 3)
        queries = panel_queries()
        self.assertGreater(len(queries), 10)
        for title, expression in queries:
            self.await_series(prometheus, expression, title)

    def test_the_dashboard_shows_the_first_error_of_each_kind(self) -> None:
        # All of it has happened when Prometheus first looks, so that no series is ever seen to grow.
        hook = ("--on-commit-exec=/bin/false", "--on-commit-attempts=1")
        self.server = self.start_server("--metrics-listen=127.0.0.1:0", *hook, data_dir=self.data_dir("failing"))
        self.target = self.metrics_address(self.server)
        self.push_version(1)
        self.weightstream("status", f"--to={self.server.address}", "--model=nobody", code=1)
        failed = 'weightstream_commit_hooks_total{model="model",outcome="failed"} 1'
        wait_until(lambda: failed in self.scrape(), "the hook was given up")
        prometheus = self.start_prometheus()
        for metric, labels in {
            "weightstream_calls_total": {"method": "GetModel", "code": "NOT_FOUND"},
            "weightstream_commit_hooks_total": {"model": "model", "outcome": "failed"},
            "weightstream_commit_hook_failed_attempts_total": {"model": "model"},
        }.items():
            ((title, expression),) = (query for query in panel_queries() if metric in query[1])
            with self.subTest(title, metric=metric):
                self.await_labels(prometheus, f"({expression}) > 0", labels)

    def test_the_page_names_every_metric_and_no_other(self) -> None:
        self.push_version(1)
        self.begin_update("model", 2)
        self.weightstream("status", f"--to={self.server.address}", "--model=nobody", code=1)
        served = set(re.findall(r"^# TYPE (\w+)", self.scrape(), re.MULTILINE))
        self.assertEqual(served, named_metrics())

    def test_the_dashboard_asks_for_metrics_that_there_are(self) -> None:
        asked = set(re.findall(r"\b(?:weightstream|process)_\w+", DASHBOARD.read_text()))
        self.assertEqual({name.removesuffix("_bucket") for name in asked} - named_metrics(), set())

    def test_the_dashboard_s_menus_have_entries(self) -> None:
        prometheus = self.start_prometheus()
        self.push_version(1)
        wait_until(lambda: prometheus.value("weightstream_model_current_version") == 1, "the version is scraped")
        menus = [menu for menu in json.loads(DASHBOARD.read_text())["templating"]["list"] if menu["type"] == "query"]
        entries = {"job": ["weightstream"], "instance": [self.target], "model": ["model"]}
        self.assertEqual({menu["name"] for menu in menus}, set(entries))
        for menu in menus:
            # Grafana's own word, which it turns into a call of this interface.
            found = re.fullmatch(r"label_values\((\w+), (\w+)\)", menu["query"])
            assert found, menu["query"]
            self.assertEqual(prometheus.label_values(found[1], found[2]), entries[menu["name"]], menu["query"])

    def test_prometheus_takes_the_page_s_configuration_with_the_alerts(self) -> None:
        (configuration,) = re.findall(r"^```yaml\n(.*?)^```$", DOCUMENT.read_text(), re.MULTILINE | re.DOTALL)
        (self.folder / "prometheus.yml").write_text(configuration)
        shutil.copy(ALERTS, self.folder)
        command = [PROMTOOL, "check", "config", str(self.folder / "prometheus.yml")]
        checked = subprocess.run(command, capture_output=True, text=True)
        self.assertEqual(checked.returncode, 0, checked.stdout + checked.stderr)
        self.assertIn(f"{len(alert_rules())} rules found", checked.stdout)
        # The alerts pick jobs by name.
        (pattern,) = {job for rule in alert_rules() for job in re.findall(r'job=~"([^"]+)"', rule["expr"])}
        (job,) = (scraped["job_name"] for scraped in yaml.safe_load(configuration)["scrape_configs"])
        self.assertRegex(job, f"^(?:{pattern})$")

    def test_alerts_fire_when_they_must_and_not_else(self) -> None:
        checked = subprocess.run([PROMTOOL, "check", "rules", str(ALERTS)], capture_output=True, text=True)
        self.assertEqual(checked.returncode, 0, checked.stdout + checked.stderr)
        tested = subprocess.run([PROMTOOL, "test", "rules", str(ALERTS_TEST)], capture_output=True, text=True)
        self.assertEqual(tested.returncode, 0, tested.stdout + tested.stderr)
        # No alert is left out.
        proven = set()
        for case in yaml.safe_load(ALERTS_TEST.read_text())["tests"]:
            proven |= {check["alertname"] for check in case["alert_rule_test"] if check["exp_alerts"]}
        self.assertEqual(proven, {rule["alert"] for rule in alert_rules()})

    def test_a_real_prometheus_takes_the_alerts_and_they_ask_for_metrics_that_there_are(self) -> None:
        prometheus = self.start_prometheus()
        for rule in alert_rules():
            prometheus.query(rule["expr"])
            asked = set(re.findall(r"\b(?:weightstream|process)_\w+", rule["expr"]))
            self.assertEqual(asked - named_metrics(), set(), rule["alert"])
        gone = alert_rules()[0]["expr"]
        # On a busy machine a scrape may now and then be late.
        wait_until(lambda: prometheus.query(gone) == [], "the server is there")
        self.server.kill()
        self.await_series(prometheus, gone, "the alert of a server that is gone")

    def test_the_page_says_of_each_alert_what_it_means(self) -> None:
        said = re.findall(r"^\| `(Weightstream\w+)` \| \w", DOCUMENT.read_text(), re.MULTILINE)
        self.assertEqual(said, [rule["alert"] for rule in alert_rules()])


if __name__ == "__main__":
    python_cases.main()
