"""Alerts and dashboard: of metrics that there are, with a runbook, firing when they should."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from streamer.metrics import DECLARED
from tests.support.project.debian import from_debian

ROOT = Path(__file__).parents[2]
PROMETHEUS = ROOT / "ops" / "prometheus"
RULES: list[dict[str, Any]] = yaml.safe_load((PROMETHEUS / "rules.yml").read_text())["groups"][0][
    "rules"
]
DASHBOARD = json.loads((ROOT / "ops/grafana/dashboards/clv-streamer.json").read_text())
EXPOSED = {metric.exposed for metric in DECLARED} | {
    metric.exposed + part
    for metric in DECLARED
    if metric.type == "histogram"
    for part in ("_bucket", "_count", "_sum")
}
LABELS = {label for metric in DECLARED for label in metric.labels} | {"instance", "le"}


def queries() -> list[str]:
    return [rule["expr"] for rule in RULES] + [
        target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]
    ]


@pytest.mark.parametrize("query", queries())
def test_a_query_names_metrics_and_labels_that_there_are(query: str) -> None:
    names = set(re.findall(r"\bclv_\w+", query))
    assert names or query.startswith("up{")
    assert names <= EXPOSED
    for group in re.findall(r"by \(([^)]*)\)", query):
        assert set(re.split(r",\s*", group)) <= LABELS


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_an_alert_has_its_section_in_the_runbook(rule: dict[str, Any]) -> None:
    page, anchor = rule["annotations"]["runbook"].split("#")
    headings = re.findall(r"^## (\w+)$", (ROOT / page).read_text(), re.MULTILINE)
    assert anchor == rule["alert"].lower()
    assert rule["alert"] in headings
    assert len(headings) == len(RULES)


def test_panels_do_not_overlap() -> None:
    taken = [
        (x, y)
        for panel in DASHBOARD["panels"]
        for at in [panel["gridPos"]]
        for x in range(at["x"], at["x"] + at["w"])
        for y in range(at["y"], at["y"] + at["h"])
    ]
    assert len(taken) == len(set(taken))
    assert max(x for x, _ in taken) < 24


def test_each_alert_fires_and_is_quiet_as_promtool_sees_it() -> None:
    binary = from_debian("promtool", "prometheus")
    if binary is None:
        pytest.skip("no promtool on the PATH, and none to be had from Debian")
    for what in (["check", "rules", "rules.yml"], ["test", "rules", "tests.yml"]):
        done = subprocess.run(
            [binary, *what], cwd=PROMETHEUS, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
    tried = yaml.safe_load((PROMETHEUS / "tests.yml").read_text())["tests"]
    names = {one["alert_rule_test"][0]["alertname"] for one in tried}
    assert names == {rule["alert"] for rule in RULES}
