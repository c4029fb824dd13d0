"""MLflow: training runs, model versions, and the aliases that say who is in charge. Its errors as ours."""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

from pipeline.errors import ConfigurationError, NoChampion, RegistryError
from pipeline.records import ModelVersion
from pipeline.settings import Settings

log = logging.getLogger(__name__)

CHAMPION = "champion"
CHALLENGER = "challenger"
MODEL_FILE = "model/model.onnx"
MOST_METRICS = 500  # in one call; MLflow takes 1000
_SHA256 = "sha256"  # the tag that a version has as soon as its file is kept
KEPT_FILES = 3  # of a stream's models on the local disk: champion, challenger, the one to roll back to
KEPT_SECONDS = 24 * 3600.0  # and whatever was used since

# How MLflow's client behaves, unless the environment says otherwise.
_MANNERS = {
    # Patience with a server that does not answer: seconds, not the quarter of an hour of its own defaults.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "3",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "60",
    # Stdout belongs to the command's own result.
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
}


class Registry:
    """The models of all streams: a registered model has its stream's name, an experiment too."""

    def __init__(self, uri: str, cache: Path) -> None:
        for name, value in _MANNERS.items():
            os.environ.setdefault(name, value)
        from mlflow import MlflowClient

        self._place = _without_login(uri)
        self._cache = cache
        self._client = MlflowClient(tracking_uri=uri, registry_uri=uri)

    @classmethod
    def from_settings(cls, settings: Settings) -> Self:
        """A client for the configured server; raises ConfigurationError where there is none."""
        return cls(settings.require_registry(), settings.home / "cache" / "models")

    # -- runs

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

    # -- versions

    def reserve(self, stream: str, run_id: str, tags: Mapping[str, str]) -> int:
        """Take the next version's number for a run, so that its ONNX file can hold it; `keep_model` makes it a version.

        Until then nobody sees it. Reserved numbers whose retraining was killed are given back: call it with the
        stream's lock held.
        """
        with self._translated():
            self._make_model(stream)
            for item in self._every_version(stream):
                if _SHA256 not in item.tags:
                    self._client.delete_model_version(stream, item.version)
            version = self._client.create_model_version(
                stream,
                source=f"{self._client.get_run(run_id).info.artifact_uri}/{MODEL_FILE}",
                run_id=run_id,
                tags=dict(tags),
                await_creation_for=0,  # the source follows
            )
        return int(version.version)

    def register(self, stream: str, run_id: str, onnx: Path, tags: Mapping[str, str]) -> int:
        """Reserve and keep in one: a version of a file that need not hold its number."""
        version = self.reserve(stream, run_id, tags)
        self.keep_model(stream, version, run_id, onnx)
        return version

    def keep_model(self, stream: str, version: int, run_id: str, onnx: Path) -> None:
        """Keep the ONNX file of a reserved version with its run; from now on it is a version."""
        self.log_file(run_id, onnx, str(Path(MODEL_FILE).parent))
        digest = hashlib.sha256(onnx.read_bytes()).hexdigest()
        with self._translated():
            self._client.set_model_version_tag(stream, str(version), _SHA256, digest)

    def versions(self, stream: str) -> list[ModelVersion]:
        """Every version, oldest first."""
        with self._translated():
            # The search leaves aliases out, the model itself carries them.
            aliases = self._aliases(stream)
            found = [_version(item, aliases) for item in self._every_version(stream) if _SHA256 in item.tags]
        return sorted(found, key=lambda version: version.version)

    def version(self, stream: str, number: int) -> ModelVersion:
        """One version.

        Raises:
            ConfigurationError: The stream has no such version.
        """
        from mlflow.exceptions import MlflowException

        with self._translated():
            try:
                found = self._client.get_model_version(stream, str(number))
                if _SHA256 in found.tags:
                    return _version(found, {number: tuple(found.aliases)})
            except MlflowException as error:
                if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                    raise
        known = ", ".join(str(version.version) for version in self.versions(stream)) or "none yet"
        raise ConfigurationError(f"stream {stream} has no model version {number}; its versions: {known}")

    def champion(self, stream: str) -> ModelVersion | None:
        """The version in charge, or None."""
        number = None
        with self._translated():
            number = next((v for v, names in self._aliases(stream).items() if CHAMPION in names), None)
        return None if number is None else self.version(stream, number)

    def require_champion(self, stream: str) -> ModelVersion:
        """The version in charge.

        Raises:
            NoChampion: There is none yet.
        """
        champion = self.champion(stream)
        if champion is None:
            raise NoChampion(
                f"stream {stream} has no champion yet: take in labelled images (`tidemark ingest {stream}`), "
                f"then `tidemark retrain {stream}`"
            )
        return champion

    def set_alias(self, stream: str, alias: str, version: int) -> None:
        """Point an alias at a version; for the champion this is the moment of promotion."""
        with self._translated():
            self._client.set_registered_model_alias(stream, alias, str(version))

    def drop_alias(self, stream: str, alias: str, version: int | None = None) -> None:
        """Take an alias away, where a version is named only from that one; nothing happens where there is none."""
        with self._translated():
            aliases = self._aliases(stream)
            if any(alias in names for number, names in aliases.items() if version in (None, number)):
                self._client.delete_registered_model_alias(stream, alias)

    def tag_version(self, stream: str, version: int, tags: Mapping[str, str]) -> None:
        """Add tags to a version."""
        with self._translated():
            for key, value in tags.items():
                self._client.set_model_version_tag(stream, str(version), key, value)

    def model_file(self, version: ModelVersion) -> Path:
        """A version's ONNX file on the local disk, downloaded once and verified by its SHA-256.

        Raises:
            RegistryError: The file is missing or is not the one that was registered.
        """
        wanted = version.tags.get(_SHA256, "")
        target = self._cache / version.stream / f"{version.version}-{wanted[:16]}.onnx"
        if target.is_file() and hashlib.sha256(target.read_bytes()).hexdigest() == wanted:
            with suppress(OSError):  # a folder that may only be read serves as well
                os.utime(target)
            return target
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent) as folder:
            with self._translated():
                path = Path(self._client.download_artifacts(version.run_id, MODEL_FILE, folder))
            if hashlib.sha256(path.read_bytes()).hexdigest() != wanted:
                raise RegistryError(
                    f"the model file of {version.stream} version {version.version} is not the one that was registered: "
                    f"put another version in charge with `tidemark rollback {version.stream}`"
                )
            shutil.move(path, target)
        _prune(target.parent)
        return target

    def run_file(self, version: ModelVersion, name: str, folder: Path) -> Path | None:
        """Another file of a version's run, downloaded into a folder; None where the run has none of this name."""
        with self._translated():
            parent = name.rpartition("/")[0]
            if not any(item.path == name for item in self._client.list_artifacts(version.run_id, parent)):
                return None
            return Path(self._client.download_artifacts(version.run_id, name, str(folder)))

    def forget(self, stream: str) -> None:
        """Delete the stream's registered model; its runs are marked deleted and stay in MLflow."""
        with self._translated():
            if self._model(stream) is not None:
                self._client.delete_registered_model(stream)
            experiment = self._client.get_experiment_by_name(stream)
            if experiment is not None:
                for run in self._client.search_runs([experiment.experiment_id], max_results=1000):
                    self._client.delete_run(run.info.run_id)

    # -- MLflow's ways

    def _model(self, stream: str) -> Any:
        from mlflow.exceptions import MlflowException

        try:
            return self._client.get_registered_model(stream)
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                return None
            raise

    def _every_version(self, stream: str) -> list[Any]:
        """Versions as MLflow has them, reserved numbers included."""
        found: list[Any] = []
        token: str | None = None
        while True:
            page = self._client.search_model_versions(f"name='{stream}'", max_results=200, page_token=token)
            found += page
            token = page.token
            if not token:
                return found

    def _make_model(self, stream: str) -> None:
        from mlflow.exceptions import MlflowException

        try:
            self._client.create_registered_model(stream)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise

    def _aliases(self, stream: str) -> dict[int, tuple[str, ...]]:
        model = self._model(stream)
        by_version: dict[int, tuple[str, ...]] = {}
        for alias, number in (model.aliases if model else {}).items():
            by_version[int(number)] = (*by_version.get(int(number), ()), alias)
        return by_version

    @contextmanager
    def _translated(self) -> Iterator[None]:
        from mlflow.exceptions import MlflowException

        try:
            yield
        except MlflowException as error:
            text = " ".join(str(error).split())
            if "Max retries exceeded" in text or "Connection" in text or "timed out" in text:
                raise RegistryError(
                    f"MLflow at {self._place} does not answer: start it (embedded stack: `tidemark up`) "
                    "or correct MLFLOW_TRACKING_URI, then run this again"
                ) from error
            raise RegistryError(f"MLflow at {self._place} failed: {text[:300]}") from error
        except OSError as error:
            raise RegistryError(f"MLflow at {self._place} failed: {error}") from error


def _prune(folder: Path) -> None:
    """Delete the model files that were not used for longest, and what killed downloads left; nothing used lately."""
    before = time.time() - KEPT_SECONDS
    with suppress(OSError):  # another process may do the same
        used = sorted(((path.stat().st_mtime, path) for path in folder.iterdir()), reverse=True)
        files = [(when, path) for when, path in used if path.is_file()]
        for when, path in files[KEPT_FILES:]:
            if when < before:
                path.unlink()
        for when, path in used:
            if path.is_dir() and when < before:
                shutil.rmtree(path, ignore_errors=True)


def _without_login(uri: str) -> str:
    """An address for messages."""
    scheme, separator, rest = uri.partition("://")
    return f"{scheme}{separator}{rest.rpartition('@')[2]}"


def _version(item: Any, aliases: Mapping[int, tuple[str, ...]]) -> ModelVersion:
    number = int(item.version)
    return ModelVersion(
        stream=item.name,
        version=number,
        run_id=item.run_id,
        aliases=aliases.get(number, ()),
        tags=dict(item.tags),
        created_at=datetime.fromtimestamp(item.creation_timestamp / 1000, UTC),
    )
