"""Where things are: one settings class, read from the environment or from the embedded stack of this folder."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from pipeline.errors import ConfigurationError

ENVIRONMENT_FILE = "environment.json"  # written by `tidemark up` under TIDEMARK_HOME, readable by its user only

# Settings that only make sense together. The embedded stack fills a group only where the environment sets none of it,
# so that its credentials never travel to somebody else's server.
GROUPS: tuple[tuple[str, ...], ...] = (
    ("TIDEMARK_DATABASE_URL",),
    ("TIDEMARK_S3_ENDPOINT", "TIDEMARK_S3_ACCESS_KEY", "TIDEMARK_S3_SECRET_KEY", "TIDEMARK_S3_REGION"),
    ("MLFLOW_TRACKING_URI",),
    ("TIDEMARK_AIRFLOW_URL", "TIDEMARK_AIRFLOW_API", "TIDEMARK_AIRFLOW_USER", "TIDEMARK_AIRFLOW_PASSWORD"),
    ("TIDEMARK_SMTP_URL",),
    ("TIDEMARK_SLACK_WEBHOOK",),
    ("TIDEMARK_WEBHOOK_URL", "TIDEMARK_WEBHOOK_SECRET"),
    ("TIDEMARK_METRICS_TOKEN",),
    ("TIDEMARK_IMAGE_BUCKET",),
    ("TIDEMARK_ARTIFACT_BUCKET",),
    ("TIDEMARK_STREAMS",),
)


class Settings(BaseSettings):
    """Addresses, credentials and folders of one Tidemark installation."""

    model_config = SettingsConfigDict(
        env_prefix="TIDEMARK_",
        env_ignore_empty=True,  # as a compose file hands on what nobody has set: an empty token must let nobody in
        extra="ignore",
        frozen=True,
        populate_by_name=True,
    )

    home: Path = Path(".tidemark")
    database_url: SecretStr | None = None
    s3_endpoint: str | None = None
    s3_access_key: SecretStr | None = None
    s3_secret_key: SecretStr | None = None
    s3_region: str = "us-east-1"
    s3_timeout: float = Field(default=60, gt=0, allow_inf_nan=False)  # seconds of silence before a read is tried again
    image_cache_mb: int = Field(default=4096, ge=0)  # MiB of decoded images on the local disk; 0 for none
    image_bucket: str = "images"
    artifact_bucket: str = "tidemark"
    streams: Path = Path("streams")
    mlflow_tracking_uri: str | None = Field(default=None, validation_alias="MLFLOW_TRACKING_URI")
    airflow_url: str | None = None  # base address of Airflow's pages, for links
    airflow_api: str | None = None  # where its API is asked, if that is another address
    airflow_user: str = "admin"
    airflow_password: SecretStr | None = None
    smtp_url: SecretStr | None = None  # mail server that messages go through, with login
    slack_webhook: SecretStr | None = None
    webhook_url: SecretStr | None = None
    webhook_secret: SecretStr | None = None  # signs what is posted there
    metrics_token: SecretStr | None = None  # lets a monitoring system read the figures; without it nobody may
    log: Literal["text", "json"] = "text"  # how log lines are written
    run: str | None = None  # the Airflow run this process serves, for the catalogue's trace

    @classmethod
    def load(cls) -> Self:
        """Read the environment, then the embedded stack's file for whatever group the environment leaves out.

        Raises:
            ConfigurationError: A variable does not parse, or the stack's file cannot be read.
        """
        home = Path(os.environ.get("TIDEMARK_HOME") or ".tidemark")
        embedded = _embedded(home / ENVIRONMENT_FILE)
        values: dict[str, Any] = {}
        for group in GROUPS:
            if not any(os.environ.get(name) for name in group):
                values |= {_field(name): embedded[name] for name in group if name in embedded}
        try:
            return cls(**values)
        except ValidationError as error:
            first = error.errors()[0]
            name = ".".join(str(part) for part in first["loc"])
            raise ConfigurationError(f"setting {name} is not valid: {first['msg']}") from None

    def require_database(self) -> str:
        """The database's URL, or an error that says how to get one."""
        if self.database_url is None:
            raise ConfigurationError(_missing("no database is configured", "TIDEMARK_DATABASE_URL"))
        return self.database_url.get_secret_value()

    def require_registry(self) -> str:
        """MLflow's address, or an error that says how to get one."""
        if self.mlflow_tracking_uri is None:
            raise ConfigurationError(_missing("no model registry is configured", "MLFLOW_TRACKING_URI"))
        return self.mlflow_tracking_uri

    def require_store(self) -> tuple[str, str, str]:
        """Endpoint, access key and secret key of the store, or an error that says how to get them."""
        if self.s3_endpoint is None or self.s3_access_key is None or self.s3_secret_key is None:
            raise ConfigurationError(
                _missing(
                    "no object store is configured",
                    "TIDEMARK_S3_ENDPOINT, TIDEMARK_S3_ACCESS_KEY and TIDEMARK_S3_SECRET_KEY",
                )
            )
        return self.s3_endpoint, self.s3_access_key.get_secret_value(), self.s3_secret_key.get_secret_value()


def _missing(what: str, names: str) -> str:
    return f"{what}: start the embedded stack with `tidemark up`, or set {names}"


def _field(name: str) -> str:
    return "mlflow_tracking_uri" if name == "MLFLOW_TRACKING_URI" else name.removeprefix("TIDEMARK_").lower()


def _embedded(path: Path) -> dict[str, str]:
    try:
        content = json.loads(path.read_text())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"cannot read {path} ({error}): run `tidemark up` again") from None
    if not isinstance(content, dict):
        raise ConfigurationError(f"{path} is damaged: run `tidemark up` again")
    return {str(key): str(value) for key, value in content.items()}
