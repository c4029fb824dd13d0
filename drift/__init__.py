"""Two-sample drift tests on embeddings, the decision that follows, and the report: arrays in, records out.

This room knows no store, no database and no scheduler.
"""

from __future__ import annotations

from drift.budget import level, permutations_for
from drift.by_class import ClassDrift, detect_by_class
from drift.detection import TESTS, detect
from drift.effect import Effect, effect
from drift.errors import DriftError
from drift.harm import Accuracy, Calibration, calibrate_harm, expected_accuracy, measured_accuracy
from drift.mmd import witness
from drift.policy import Decision, Evidence, Policy, decide, enough_labelled
from drift.rehearsal import Rehearsal
from drift.rehearsing import rehearse, rows_to_rehearse
from drift.result import Cause, Details, DriftResult, Member
from drift.screening import detect_at_level

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
    "Evidence",
    "Member",
    "Policy",
    "Rehearsal",
    "calibrate_harm",
    "decide",
    "detect",
    "detect_at_level",
    "detect_by_class",
    "effect",
    "enough_labelled",
    "expected_accuracy",
    "level",
    "measured_accuracy",
    "permutations_for",
    "rehearse",
    "rows_to_rehearse",
    "witness",
]
