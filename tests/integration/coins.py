"""A stream of scans, `coins`, for tests of what ingest does over several nights."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from pipeline.settings import Settings
from pipeline.stages.workplace import Workplace, workplace


def open_stream(settings: Settings, tmp_path: Path, text: str) -> Settings:
    streams = tmp_path / "streams"
    streams.mkdir(exist_ok=True)
    (streams / "coins.yaml").write_text(text)
    return settings.model_copy(update={"streams": streams})


@pytest.fixture
def place(settings: Settings, tmp_path: Path) -> Iterator[Workplace]:
    with workplace(open_stream(settings, tmp_path, "classes: [0, 1, 4]\n"), "coins") as opened:
        yield opened


def rows(place: Workplace, query: str) -> list[dict[str, Any]]:
    with place.catalog._cursor() as cursor:
        cursor.execute(query)
        return [dict(row) for row in cursor.fetchall()]


def delete(place: Workplace, key: str) -> None:
    place.store._client.delete_object(Bucket=place.store.image_bucket, Key=key)


@pytest.fixture
def command(place: Workplace, monkeypatch: pytest.MonkeyPatch) -> CliRunner:
    """The command line, in the environment of the stream `coins`."""
    here = place.settings
    for name in type(here).model_fields:
        value = getattr(here, name)
        if value is not None and name != "mlflow_tracking_uri":
            text = value.get_secret_value() if hasattr(value, "get_secret_value") else str(value)
            monkeypatch.setenv(f"TIDEMARK_{name.upper()}", text)
    monkeypatch.setattr("pipeline.console.set_up_logging", lambda *, debug: None)
    return CliRunner()
