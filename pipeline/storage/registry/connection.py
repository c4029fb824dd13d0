"""The way to MLflow: its client with our patience, its errors as ours."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager

from pipeline.errors import RegistryError

# How MLflow's client behaves, unless the environment says otherwise.
_MANNERS = {
    # Patience with a server that does not answer: seconds, not the quarter of an hour of its own defaults.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "3",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "60",
    # Stdout belongs to the command's own result.
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
}


class Connection:
    """A client of one MLflow server."""

    def __init__(self, uri: str) -> None:
        for name, value in _MANNERS.items():
            os.environ.setdefault(name, value)
        from mlflow import MlflowClient

        self._place = _without_login(uri)
        self._client = MlflowClient(tracking_uri=uri, registry_uri=uri)

    @contextmanager
    def _translated(self) -> Iterator[None]:
        from mlflow.exceptions import MlflowException

        try:
            yield
        except MlflowException as error:
            text = " ".join(str(error).split())
            if failing := re.search(r"too many (5\d\d) error responses", text):
                raise RegistryError(
                    f"MLflow at {self._place} answers but fails (status {failing[1]}): see that its artefact store has "
                    "room and its database is there – its log names which –, then run this again"
                ) from error
            if "Max retries exceeded" in text or "Connection" in text or "timed out" in text:
                raise RegistryError(
                    f"MLflow at {self._place} does not answer: start it (embedded stack: `tidemark up`) "
                    "or correct MLFLOW_TRACKING_URI, then run this again"
                ) from error
            raise RegistryError(f"MLflow at {self._place} failed: {text[:300]}") from error
        except OSError as error:
            raise RegistryError(f"MLflow at {self._place} failed: {error}") from error


def _without_login(uri: str) -> str:
    """An address for messages."""
    scheme, separator, rest = uri.partition("://")
    return f"{scheme}{separator}{rest.rpartition('@')[2]}"
