from __future__ import annotations

import json
from pathlib import Path

import pytest

from pipeline.errors import ConfigurationError
from pipeline.settings import ENVIRONMENT_FILE, Settings

EMBEDDED = {
    "TIDEMARK_DATABASE_URL": "postgresql://u:secret@127.0.0.1:5439/tidemark",
    "TIDEMARK_S3_ENDPOINT": "http://127.0.0.1:9005",
    "TIDEMARK_S3_ACCESS_KEY": "embedded-key",
    "TIDEMARK_S3_SECRET_KEY": "embedded-secret",
    "TIDEMARK_S3_REGION": "us-east-1",
    "MLFLOW_TRACKING_URI": "http://127.0.0.1:5005",
}


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in [*EMBEDDED, "TIDEMARK_HOME", "TIDEMARK_STREAMS"]:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TIDEMARK_HOME", str(tmp_path))
    return tmp_path


def test_the_embedded_stack_is_found_without_any_variable(home: Path) -> None:
    (home / ENVIRONMENT_FILE).write_text(json.dumps(EMBEDDED))
    settings = Settings.load()
    assert settings.require_database() == EMBEDDED["TIDEMARK_DATABASE_URL"]
    assert settings.require_store() == ("http://127.0.0.1:9005", "embedded-key", "embedded-secret")
    assert settings.require_registry() == "http://127.0.0.1:5005"


def test_the_environment_wins_group_by_group_and_embedded_keys_never_leave(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (home / ENVIRONMENT_FILE).write_text(json.dumps(EMBEDDED))
    monkeypatch.setenv("TIDEMARK_S3_ENDPOINT", "https://s3.example.com")
    settings = Settings.load()
    assert settings.s3_secret_key is None
    with pytest.raises(ConfigurationError, match="TIDEMARK_S3_ACCESS_KEY"):
        settings.require_store()
    assert settings.require_database() == EMBEDDED["TIDEMARK_DATABASE_URL"]


def test_without_anything_each_edge_says_what_to_do(home: Path) -> None:
    settings = Settings.load()
    for ask in (settings.require_database, settings.require_store, settings.require_registry):
        with pytest.raises(ConfigurationError, match="tidemark up"):
            ask()


@pytest.mark.parametrize("value", ["inf", "nan", "0"])
def test_a_timeout_that_is_none_is_named(home: Path, monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("TIDEMARK_S3_TIMEOUT", value)
    with pytest.raises(ConfigurationError, match="s3_timeout is not valid"):
        Settings.load()


def test_a_damaged_environment_file_is_one_line(home: Path) -> None:
    for content in ("{", "[]", "\x00"):
        (home / ENVIRONMENT_FILE).write_text(content)
        with pytest.raises(ConfigurationError, match="tidemark up"):
            Settings.load()


def test_secrets_do_not_show_when_settings_are_printed(home: Path) -> None:
    (home / ENVIRONMENT_FILE).write_text(json.dumps(EMBEDDED))
    shown = repr(Settings.load()) + str(Settings.load())
    assert "secret@" not in shown
    assert "embedded-secret" not in shown


def test_an_empty_variable_is_none(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("TIDEMARK_METRICS_TOKEN", "TIDEMARK_SMTP_URL", "TIDEMARK_WEBHOOK_SECRET", "MLFLOW_TRACKING_URI"):
        monkeypatch.setenv(name, "")
    found = Settings.load()
    assert (found.metrics_token, found.smtp_url, found.webhook_secret, found.mlflow_tracking_uri) == (None,) * 4
