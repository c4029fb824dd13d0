"""Whoever is woken by an alarm finds its section."""

from __future__ import annotations

import re
from pathlib import Path

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
