"""The archive of a backup: every artefact comes back as it was, and what is there stays."""

from __future__ import annotations

import io

import pytest
from minio import Minio

from pipeline.settings import Settings
from pipeline.storage.objects import ObjectStore
from tests.integration.test_installation import load

archive = load("store_archive")


@pytest.fixture
def store(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Minio:
    endpoint, access_key, secret_key = settings.require_store()
    monkeypatch.setenv("TIDEMARK_S3_ENDPOINT", endpoint)
    monkeypatch.setenv("TIDEMARK_S3_ACCESS_KEY", access_key)
    monkeypatch.setenv("TIDEMARK_S3_SECRET_KEY", secret_key)
    monkeypatch.setenv("TIDEMARK_S3_REGION", settings.s3_region)
    monkeypatch.setattr(archive, "IN_MEMORY", 1000)  # the large one goes through a file
    client: Minio = archive.client()
    return client


def test_what_was_lost_comes_back_and_what_is_there_stays(settings: Settings, store: Minio) -> None:
    place = ObjectStore.from_settings(settings)
    content = {"a/ß é.json": b"{}", "mlflow/1/model.onnx": bytes(range(256)) * 5000, "empty": b""}
    for key, data in content.items():
        place.put_artifact(key, data)
    saved = io.BytesIO()
    assert archive.save(store, [settings.artifact_bucket], saved) == len(content)
    place.delete_artifacts("mlflow/")
    assert archive.load(store, io.BytesIO(saved.getvalue())) == 1
    assert {key: place.get_artifact(key) for key in content} == content
    assert archive.load(store, io.BytesIO(saved.getvalue())) == 0


def test_a_damaged_archive_is_an_error(store: Minio) -> None:
    with pytest.raises(archive.tarfile.TarError):
        archive.load(store, io.BytesIO(b"no archive" * 100))
