"""The DAGs' own operators against the real pipeline, by Airflow's ``dag.test()``."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.settings import Settings
from pipeline.stages.workplace import workplace
from tests.dags.conftest import HERE, ROOT, AirflowProcesses
from tests.integration.scans import STREAM, upload


@pytest.fixture
def metadata(airflow_processes: AirflowProcesses) -> AirflowProcesses:
    """Airflow's own database, a file in its home."""
    subprocess.run(
        [sys.executable, "-m", "airflow", "db", "migrate"],
        env=dict(airflow_processes.environment),
        check=True,
        capture_output=True,
    )
    return airflow_processes


def test_ingest_takes_in_and_hands_over(metadata: AirflowProcesses, settings: Settings, tmp_path: Path) -> None:
    streams = tmp_path / "streams"
    streams.mkdir()
    (streams / "letters.yaml").write_text(STREAM)
    here = settings.model_copy(update={"streams": streams})
    uploaded = upload(here, "letters/", 0, 4)
    endpoint, access_key, secret_key = here.require_store()
    environment = {
        "TIDEMARK_STREAMS": str(streams),
        "TIDEMARK_HOME": str(here.home),
        "TIDEMARK_DATABASE_URL": here.require_database(),
        "TIDEMARK_S3_ENDPOINT": endpoint,
        "TIDEMARK_S3_ACCESS_KEY": access_key,
        "TIDEMARK_S3_SECRET_KEY": secret_key,
        "TIDEMARK_IMAGE_BUCKET": here.image_bucket,
        "TIDEMARK_ARTIFACT_BUCKET": here.artifact_bucket,
    }

    def run() -> dict[str, str]:
        return metadata.python(HERE / "run_dag.py", str(ROOT / "dags"), "letters_ingest", **environment)

    assert run() == {
        "run": "success",
        "ingest": "success",
        "hand_over_batch": "success",
        "hand_over_alarm": "skipped",
    }
    with workplace(here, "letters") as place:
        (batch,) = place.catalog.batches("letters")
        assert (batch.status, batch.accepted) == ("closed", uploaded)
