"""Airflow itself runs the loop: only ingest is triggered, everything else follows by assets."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from rich.console import Console

from pipeline.local import stack
from pipeline.local.airflow_api import AirflowClient
from pipeline.local.demo_watch import Teller, Watch
from pipeline.settings import ENVIRONMENT_FILE, Settings
from pipeline.stages.workplace import Workplace, workplace
from tests.free_ports import free_ports
from tests.integration.scans import STREAM, upload

pytestmark = pytest.mark.stack


@pytest.fixture(scope="module")
def running() -> Iterator[Settings]:
    """The embedded stack with one small stream."""
    with tempfile.TemporaryDirectory(prefix="tidemark-e2e-") as folder:
        root = Path(folder)
        (root / "streams").mkdir()
        (root / "streams" / "letters.yaml").write_text(STREAM)
        settings = Settings(home=root / "home", streams=root / "streams")
        try:
            stack.up(settings, ports=free_ports())
            found = stack.settings_of(json.loads((settings.home / ENVIRONMENT_FILE).read_text()))
            yield found.model_copy(update={"home": settings.home, "streams": settings.streams})
        finally:
            stack.down(settings)


@pytest.fixture
def airflow(running: Settings) -> Iterator[AirflowClient]:
    with AirflowClient.of(running) as client:
        yield client


@pytest.fixture
def watch(airflow: AirflowClient) -> Watch:
    made = Watch(airflow, "letters", Teller(Console(stderr=True)))
    made.await_dags()
    return made


@pytest.fixture
def place(running: Settings) -> Iterator[Workplace]:
    with workplace(running, "letters") as opened:
        yield opened


@pytest.mark.timeout(1500)
def test_three_nights_follow_from_ingest_alone(
    running: Settings, place: Workplace, watch: Watch, airflow: AirflowClient
) -> None:
    catalog, registry = place.catalog, place.registry

    # A model is born.
    upload(running, "letters/night-1/", 0, 60)
    first = watch.ingest()
    watch.next("detect_drift", first)
    watch.next("retrain", first)
    watch.next("score", first)
    assert registry.require_champion("letters").version == 1
    assert catalog.completeness("letters", 1).predictions == 180

    # A quiet night: nothing is trained, only the new images are scored.
    upload(running, "letters/night-2/", 60, 90)
    second = watch.ingest()
    watch.next("detect_drift", second)
    watch.next("score", second)
    watch.await_quiet()
    assert catalog.checks("letters")[0].decision == "clean"
    assert len(catalog.retrainings("letters")) == 1
    assert catalog.completeness("letters", 1).predictions == 270

    # A changed scanner: alarm, a better model, everything is scored anew.
    upload(running, "letters/night-3/", 90, 150, changed=True)
    third = watch.ingest()
    watch.next("detect_drift", third)
    watch.next("retrain", third)
    watch.next("score", third)
    alarm = catalog.checks("letters")[0]
    assert alarm.decision == "alarm"
    assert alarm.run is not None
    assert alarm.run.startswith("letters_detect_drift/")  # the row knows the run that made it
    assert registry.require_champion("letters").version == 2
    assert catalog.completeness("letters", 2).predictions == 450
    assert [item.status for item in catalog.retrainings("letters")] == ["promoted", "promoted"]
    assert catalog.retrainings("letters")[1].check_id == alarm.id

    # Nothing new: the night ends after ingest.
    fourth = watch.ingest()
    watch.await_quiet()
    assert fourth.state == "success"
    assert len(catalog.checks("letters")) == 3

    # The report is behind Airflow's login.
    page = f"{airflow.address}/tidemark/checks/letters/{alarm.id}"
    assert requests.get(page, timeout=10, headers={"Accept": "application/json"}).status_code == 401
