"""The command as a person runs it, with the servers of a test."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from pipeline.settings import Settings

ROOT = Path(__file__).parents[2]


def environment(settings: Settings) -> dict[str, str]:
    """What a person would set to use these servers."""
    assert settings.s3_access_key is not None
    assert settings.s3_secret_key is not None
    env = {key: value for key, value in os.environ.items() if not key.startswith(("TIDEMARK_", "MLFLOW_"))}
    if settings.database_url is not None:
        env["TIDEMARK_DATABASE_URL"] = settings.database_url.get_secret_value()
    if settings.mlflow_tracking_uri is not None:
        env["MLFLOW_TRACKING_URI"] = settings.mlflow_tracking_uri
    return env | {
        "TIDEMARK_HOME": str(settings.home),
        "TIDEMARK_STREAMS": str(settings.streams),
        "TIDEMARK_S3_ENDPOINT": str(settings.s3_endpoint),
        "TIDEMARK_S3_ACCESS_KEY": settings.s3_access_key.get_secret_value(),
        "TIDEMARK_S3_SECRET_KEY": settings.s3_secret_key.get_secret_value(),
        "TIDEMARK_IMAGE_BUCKET": settings.image_bucket,
        "TIDEMARK_ARTIFACT_BUCKET": settings.artifact_bucket,
    }


def tidemark(settings: Settings, *args: str) -> subprocess.CompletedProcess[str]:
    """Run ``tidemark`` to its end."""
    return subprocess.run(
        [sys.executable, "-m", "pipeline", *args], cwd=ROOT, env=environment(settings), capture_output=True, text=True
    )
