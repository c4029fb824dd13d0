"""The stack's MLflow: tracking server, registry and pages, on the stack's PostgreSQL and S3."""

from __future__ import annotations

import sys
from pathlib import Path

from pipeline.local import postgres
from pipeline.local.credentials import Credentials
from pipeline.local.loopback import get
from pipeline.local.ports import HOST, Ports
from pipeline.local.s3 import REGION
from pipeline.local.service import Service


def service(home: Path, ports: Ports, credentials: Credentials, artifact_bucket: str) -> Service:
    """MLflow as the stack starts it; artefacts pass through it, so that its users need no key of the store."""
    port = ports.mlflow
    return Service(
        name="mlflow",
        title="MLflow",
        port=port,
        address=f"http://{HOST}:{port}",
        command=(
            sys.executable,
            "-m",
            "mlflow",
            "server",
            f"--host={HOST}",
            f"--port={port}",
            "--workers=1",
            "--serve-artifacts",
            f"--artifacts-destination=s3://{artifact_bucket}/mlflow",
        ),
        environment={
            "HOME": str(home / "mlflow"),
            "MLFLOW_BACKEND_STORE_URI": postgres.url(ports.postgres, "mlflow", credentials.mlflow_password),
            "MLFLOW_S3_ENDPOINT_URL": f"http://{HOST}:{ports.s3}",
            "AWS_ACCESS_KEY_ID": credentials.s3_access_key,
            "AWS_SECRET_ACCESS_KEY": credentials.s3_secret_key,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_REQUEST_CHECKSUM_CALCULATION": "when_required",
            "AWS_RESPONSE_CHECKSUM_VALIDATION": "when_required",
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # more processes, for language models only
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "DO_NOT_TRACK": "true",
            "NO_PROXY": HOST,
            "PYTHONUNBUFFERED": "1",
        },
        folder=home / "mlflow",
        log=home / "logs" / "mlflow.log",
        answers=lambda: answers(port),
    )


def answers(port: int) -> bool:
    """Whether it serves."""
    return get(f"http://{HOST}:{port}/health") == 200
