"""The report of a check: one page for people, its JSON twin for machines."""

from __future__ import annotations

from drift.report.content import CheckReport, ClassShare, Estimate, PastCheck, Sample
from drift.report.page import render, to_json

__all__ = ["CheckReport", "ClassShare", "Estimate", "PastCheck", "Sample", "render", "to_json"]
