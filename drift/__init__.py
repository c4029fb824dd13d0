"""Two-sample drift tests on embeddings, the decision that follows, and the report: arrays in, records out.

This room knows no store, no database and no scheduler.
"""

from __future__ import annotations

from drift.by_class import ClassDrift, detect_by_class
from drift.detection import TESTS, detect
from drift.effect import Effect, effect
from drift.errors import DriftError
from drift.harm import Accuracy, Calibration, calibrate_harm, expected_accuracy, measured_accuracy
from drift.mmd import witness
from drift.policy import Decision, Policy, decide, level, permutations_for
from drift.rehearsal import Rehearsal, rehearse
from drift.result import Cause, Details, DriftResult, Member

__all__ = [
    "TESTS",
    "Accuracy",
    "Calibration",
    "Cause",
    "ClassDrift",
    "Decision",
    "Details",
    "DriftError",
    "DriftResult",
    "Effect",
    "Member",
    "Policy",
    "Rehearsal",
    "calibrate_harm",
    "decide",
    "detect",
    "detect_by_class",
    "effect",
    "expected_accuracy",
    "level",
    "measured_accuracy",
    "permutations_for",
    "rehearse",
    "witness",
]
