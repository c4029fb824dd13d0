"""Geometry of the report's pictures: data in, coordinates out. The templates draw them."""

from __future__ import annotations

from drift.report.pictures.accuracy import accuracy
from drift.report.pictures.axes import BOX
from drift.report.pictures.chance import histogram
from drift.report.pictures.classes import bars
from drift.report.pictures.measures import measures
from drift.report.pictures.past import CHECKS, accuracies, p_values
from drift.report.pictures.plane import scatter

__all__ = ["BOX", "CHECKS", "accuracies", "accuracy", "bars", "histogram", "measures", "p_values", "scatter"]
