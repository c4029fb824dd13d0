"""The report of a check: one page for people, its JSON twin for machines."""

from __future__ import annotations

from drift.report.content import CheckReport, ClassShare, Estimate, PastCheck, Sample
from drift.report.page import render
from drift.report.selection import Drifted, most_drifted
from drift.report.twin import to_json

__all__ = [
    "CheckReport",
    "ClassShare",
    "Drifted",
    "Estimate",
    "PastCheck",
    "Sample",
    "most_drifted",
    "render",
    "to_json",
]
