"""Training runs: their parameters, metrics and files."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from pipeline.errors import ConfigurationError, RegistryError
from pipeline.storage.registry.connection import Connection

MOST_METRICS = 500  # in one call; MLflow takes 1000


class Runs(Connection):
    """The runs of all streams: an experiment has its stream's name."""

    def start_run(self, stream: str, name: str, tags: Mapping[str, str], params: Mapping[str, Any]) -> str:
        """Begin a training run in the stream's experiment and return its id."""
        with self._translated():
            experiment = self._client.get_experiment_by_name(stream)
            experiment_id = experiment.experiment_id if experiment else self._client.create_experiment(stream)
            run = self._client.create_run(experiment_id, tags=dict(tags), run_name=name)
            for key, value in params.items():
                self._client.log_param(run.info.run_id, key, value)
        return str(run.info.run_id)

    def log_metrics(self, run_id: str, metrics: Mapping[str, float], step: int = 0) -> None:
        """Add metrics to a run."""
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        entries = [Metric(key, float(value), now, step) for key, value in metrics.items()]
        with self._translated():
            for start in range(0, len(entries), MOST_METRICS):
                self._client.log_batch(run_id, metrics=entries[start : start + MOST_METRICS])

    def log_file(self, run_id: str, path: Path, folder: str = "") -> None:
        """Keep a file with a run."""
        with self._translated():
            self._client.log_artifact(run_id, str(path), folder or None)

    def log_folder(self, run_id: str, folder: Path, into: str) -> None:
        """Keep all files of a folder with a run."""
        with self._translated():
            self._client.log_artifacts(run_id, str(folder), into)

    def log_text(self, run_id: str, text: str, path: str) -> None:
        """Keep a text with a run, as a file."""
        with self._translated():
            self._client.log_text(run_id, text, path)

    def read_text(self, run_id: str, path: str) -> str:
        """The inverse of log_text.

        Raises:
            RegistryError: The run has no such file.
        """
        with self._translated(), tempfile.TemporaryDirectory() as folder:
            return Path(self._client.download_artifacts(run_id, path, folder)).read_text(encoding="utf-8")

    def run_tags(self, stream: str, run_id: str) -> dict[str, str]:
        """The tags of one of a stream's runs.

        Raises:
            ConfigurationError: The stream has no such run.
        """
        from mlflow.exceptions import MlflowException

        with self._translated():
            experiment = self._client.get_experiment_by_name(stream)
            try:
                run = self._client.get_run(run_id)
            except MlflowException as error:
                if error.error_code not in {"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"}:
                    raise
                run = None
        if run is None or experiment is None or run.info.experiment_id != experiment.experiment_id:
            raise ConfigurationError(f"stream {stream} has no run {run_id!r}: `tidemark models {stream}` lists them")
        return dict(run.data.tags)

    def run_params(self, run_id: str) -> dict[str, str]:
        """The parameters that a run was started with."""
        with self._translated():
            return dict(self._client.get_run(run_id).data.params)

    def end_run(self, run_id: str, *, failed: bool = False) -> None:
        """Close a run."""
        with self._translated():
            self._client.set_terminated(run_id, "FAILED" if failed else "FINISHED")

    def try_end_run(self, run_id: str, *, failed: bool) -> None:
        """Close a run on the way out of a failure, which must not be hidden by a second one."""
        with suppress(RegistryError):
            self.end_run(run_id, failed=failed)

    def folder_files(self, run_id: str, folder: str) -> dict[str, int]:
        """Files right below a folder of a run → their bytes; nothing is downloaded."""
        with self._translated():
            listed = self._client.list_artifacts(run_id, folder)
        return {item.path: int(item.file_size or 0) for item in listed if not item.is_dir}

    def delete_file(self, run_id: str, path: str) -> None:
        """Delete a file of a run; nothing happens where it is gone."""
        from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

        with self._translated():
            where = self._client.get_run(run_id).info.artifact_uri
            get_artifact_repository(where, tracking_uri=self._client.tracking_uri).delete_artifacts(path)

    def run_file(self, run_id: str, name: str, folder: Path) -> Path | None:
        """A file of a run, downloaded into a folder; None where the run has none of this name."""
        with self._translated():
            parent = name.rpartition("/")[0]
            if not any(item.path == name for item in self._client.list_artifacts(run_id, parent)):
                return None
            return Path(self._client.download_artifacts(run_id, name, str(folder)))
