"""Tidemark inside Airflow: operators, assets, connections and pages. Nothing of this is loaded by the pipeline."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]  # the folder that holds dags/, plugins/, pipeline/ and streams/

# Airflow puts dags/ and plugins/ on the path, not the project; where the project is not installed, it lies here.
if importlib.util.find_spec("pipeline") is None:
    sys.path.append(str(PROJECT))
