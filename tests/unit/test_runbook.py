"""Whoever is woken by an alarm is woken for a reason, and finds its section."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from pipeline.policies import EVENTS

ROOT = Path(__file__).parents[2]
SECTIONS = set(re.findall(r"^### (\w+)$", (ROOT / "docs/runbook.md").read_text(), re.MULTILINE))


def test_every_message_and_every_alert_rule_has_its_section() -> None:
    groups = yaml.safe_load((ROOT / "docker/prometheus/alerts.yaml").read_text())["groups"]
    rules = {rule["alert"]: rule for group in groups for rule in group["rules"]}
    assert set(EVENTS) | set(rules) == SECTIONS
    for name, rule in rules.items():
        assert rule["annotations"]["runbook"] == f"docs/runbook.md#{name.lower()}"


@pytest.mark.skipif(shutil.which("promtool") is None, reason="needs promtool, which comes with Prometheus")
def test_the_alert_rules_fire_when_they_should_and_only_then() -> None:
    command = ["promtool", "test", "rules", str(ROOT / "docker/prometheus/alerts_test.yaml")]
    played = subprocess.run(command, capture_output=True, text=True, check=False)
    assert played.returncode == 0, played.stdout + played.stderr


def test_every_alert_rule_is_played_through() -> None:
    rules = yaml.safe_load((ROOT / "docker/prometheus/alerts.yaml").read_text())["groups"]
    tests = yaml.safe_load((ROOT / "docker/prometheus/alerts_test.yaml").read_text())["tests"]
    fired = {case["alertname"] for test in tests for case in test["alert_rule_test"] if case.get("exp_alerts")}
    assert fired == {rule["alert"] for group in rules for rule in group["rules"]}
