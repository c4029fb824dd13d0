"""What the room shows, and what it costs to import."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import drift

HEAVY = ("torch", "pandas", "evidently", "alibi_detect", "airflow", "sklearn", "matplotlib", "pipeline")


def test_the_public_names_are_these() -> None:
    assert set(drift.__all__) == {
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
    }
    assert all(hasattr(drift, name) for name in drift.__all__)
    assert issubclass(drift.DriftError, ValueError)


def test_importing_the_room_and_its_report_is_light() -> None:
    program = f"import sys, drift, drift.report, drift.policy; print([m for m in {HEAVY!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_testing_by_the_own_tests_is_light() -> None:
    program = (
        "import sys, numpy as np, drift\n"
        "x = np.random.default_rng(0).normal(size=(20, 3))\n"
        "drift.detect(x, x, permutations=99), drift.detect(x, x, test='mmd', permutations=99)\n"
        f"print([m for m in {HEAVY!r} if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_no_module_of_the_room_imports_a_room_above_it() -> None:
    above = {"pipeline", "plugins", "dags", "tidemark_airflow", "airflow", "boto3", "psycopg2", "mlflow", "minio"}
    for path in Path(drift.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            assert not {name.split(".")[0] for name in names} & above, path
