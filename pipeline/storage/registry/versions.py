"""Model versions, and the aliases that say who is in charge."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

from pipeline.errors import ConfigurationError, NoChampion, RegistryError
from pipeline.records import ModelVersion
from pipeline.settings import Settings
from pipeline.storage.registry.model_cache import prune
from pipeline.storage.registry.runs import Runs

CHAMPION = "champion"
CHALLENGER = "challenger"
MODEL_FILE = "model/model.onnx"
_SHA256 = "sha256"  # the tag that a version has as soon as its file is kept
_PRUNED = "pruned"  # the tag of a version whose files retention has taken away: the day


class Registry(Runs):
    """The models of all streams: a registered model has its stream's name, an experiment too."""

    def __init__(self, uri: str, cache: Path) -> None:
        super().__init__(uri)
        self._cache = cache

    @classmethod
    def from_settings(cls, settings: Settings) -> Self:
        """A client for the configured server; raises ConfigurationError where there is none."""
        return cls(settings.require_registry(), settings.home / "cache" / "models")

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
            ConfigurationError: Retention has taken the version's files away.
            RegistryError: The file is missing or is not the one that was registered.
        """
        if day := self.pruned_on(version):
            raise ConfigurationError(
                f"version {version.version} of stream {version.stream} was pruned on {day}, its files are gone: "
                f"name another (`tidemark models {version.stream}`)"
            )
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
        prune(target.parent)
        return target

    def model_bytes(self, version: ModelVersion) -> int | None:
        """How large a version's ONNX file is where MLflow keeps it; None where it is gone. Nothing is downloaded."""
        return self.folder_files(version.run_id, str(Path(MODEL_FILE).parent)).get(MODEL_FILE)

    def pruned_on(self, version: ModelVersion) -> str | None:
        """The day on which retention has taken a version's files away, such as ``2026-11-22``; else None."""
        return version.tags.get(_PRUNED) or None

    def note_pruned(self, version: ModelVersion) -> None:
        """Say that a version's files go; it stays as a record. Call it with the stream's lock held, before they go."""
        if self.pruned_on(version) is None:
            self.tag_version(version.stream, version.version, {_PRUNED: datetime.now(UTC).date().isoformat()})

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
