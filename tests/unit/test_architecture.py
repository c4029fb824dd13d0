"""Imports run one way: dags → plugins/tidemark_airflow → pipeline.stages → model, images, labels, storage → drift."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

# What each room may not import.
FORBIDDEN = {
    "drift": ("pipeline", "tidemark_airflow", "airflow", "dags"),
    "pipeline": ("tidemark_airflow", "airflow", "dags"),
    "pipeline/images": ("pipeline.stages", "pipeline.storage", "pipeline.model", "pipeline.local", "pipeline.cli"),
    "pipeline/labels": (
        "pipeline.stages",
        "pipeline.storage",
        "pipeline.images",
        "pipeline.model",
        "pipeline.local",
        "pipeline.cli",
    ),
    "pipeline/notify": (
        "pipeline.stages",
        "pipeline.storage",
        "pipeline.images",
        "pipeline.model",
        "pipeline.local",
        "pipeline.cli",
    ),
    "pipeline/model": ("pipeline.stages", "pipeline.storage", "pipeline.local", "pipeline.cli"),
    "pipeline/storage": (
        "pipeline.stages",
        "pipeline.model",
        "pipeline.images",
        "pipeline.labels",
        "pipeline.local",
        "pipeline.cli",
    ),
    "pipeline/stages": ("pipeline.local", "pipeline.doctor", "pipeline.cli"),
    "pipeline/doctor": ("pipeline.cli", "tidemark_airflow", "airflow", "dags"),
    "plugins/tidemark_airflow": ("pipeline.local", "pipeline.cli", "dags"),
    "dags": ("pipeline.model", "pipeline.images", "pipeline.storage", "pipeline.stages", "drift"),
}
EDGES = {"boto3": "pipeline/storage", "botocore": "pipeline/storage", "minio": "pipeline/storage",
         "psycopg2": "pipeline/storage", "mlflow": "pipeline/storage"}  # fmt: skip


def imports_of(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def within(name: str, package: str) -> bool:
    return name == package or name.startswith(package + ".")


@pytest.mark.parametrize("room", FORBIDDEN)
def test_no_room_imports_from_above(room: str) -> None:
    paths = list((ROOT / room).rglob("*.py"))
    assert paths
    for path in paths:
        wrong = {name for name in imports_of(path) for package in FORBIDDEN[room] if within(name, package)}
        assert not wrong, f"{path.relative_to(ROOT)} imports {wrong}"


def test_only_the_edges_know_the_drivers() -> None:
    for path in [
        *(ROOT / "pipeline").rglob("*.py"),
        *(ROOT / "plugins").rglob("*.py"),
        *(ROOT / "drift").rglob("*.py"),
    ]:
        for name in imports_of(path):
            home = EDGES.get(name.split(".")[0])
            # The embedded stack makes its own databases before there is a catalogue.
            allowed = home is None or path.is_relative_to(ROOT / home) or path.is_relative_to(ROOT / "pipeline/local")
            assert allowed, f"{path.relative_to(ROOT)} imports {name}, which belongs into {home}"


def modules_after(statement: str) -> set[str]:
    code = f"import sys\n{statement}\nprint('\\n'.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    return {name.split(".")[0] for name in done.stdout.split()}


def test_importing_pipeline_and_drift_imports_no_airflow() -> None:
    everything = [
        ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for room in ("pipeline", "drift")
        for path in sorted((ROOT / room).rglob("*.py"))
        if path.name not in {"__main__.py", "__init__.py"}
    ]
    loaded = modules_after("import importlib\nfor name in " + repr(everything) + ": importlib.import_module(name)")
    assert "torch" in loaded  # the modules really were imported
    assert "airflow" not in loaded


def test_the_command_line_starts_without_heavy_packages() -> None:
    heavy = {"torch", "pandas", "mlflow", "sklearn", "evidently", "alibi_detect", "timm", "onnxruntime", "boto3"}
    assert not heavy & modules_after("import pipeline.cli")
