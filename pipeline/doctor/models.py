"""MLflow: reach, and for each stream the champion with all that its work needs."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.metadata import version

import requests

from pipeline.doctor.finding import Finding, ok, problem, warning
from pipeline.doctor.streams import readable
from pipeline.errors import TidemarkError
from pipeline.settings import Settings
from pipeline.storage import keys
from pipeline.storage.catalog import connect
from pipeline.storage.objects import ObjectStore
from pipeline.storage.registry import Registry

AREA = "models"
PATIENCE = 5.0  # seconds


def look(settings: Settings) -> Iterator[Finding]:
    """Ask the server for its health, then for each champion."""
    uri = settings.require_registry()
    if uri.startswith(("http://", "https://")):
        server = _server(uri)
        yield server
        if server.state == "problem":
            return
    registry = Registry.from_settings(settings)
    store = ObjectStore.from_settings(settings)
    noted = _noted(settings)
    for stream in readable(settings):
        try:
            yield _champion(registry, store, noted, stream.name)
        except TidemarkError as error:
            yield problem(AREA, f"{stream.name}: {error}")


def _server(uri: str) -> Finding:
    shown = uri.partition("://")[2].rpartition("@")[2]
    try:
        health = requests.get(f"{uri.rstrip('/')}/health", timeout=PATIENCE)
        said = requests.get(f"{uri.rstrip('/')}/version", timeout=PATIENCE)
    except requests.RequestException as error:
        return problem(
            AREA,
            f"MLflow at {shown} does not answer ({type(error).__name__}): start it (embedded stack: `tidemark up`) or "
            "correct MLFLOW_TRACKING_URI",
        )
    if not health.ok:
        return problem(
            AREA,
            f"MLflow at {shown} is not well (status {health.status_code}): its log says why; 403 is the name it is "
            "called by (MLFLOW_SERVER_ALLOWED_HOSTS)",
        )
    theirs, ours = said.text.strip()[:40] if said.ok else "unknown", version("mlflow")
    if said.ok and theirs.split(".")[0] != ours.split(".")[0]:
        return warning(AREA, f"MLflow at {shown} is {theirs} and the client here {ours}: bring them to one version")
    return ok(AREA, f"MLflow {theirs} at {shown} answers")


def _noted(settings: Settings) -> dict[str, int | None]:
    """The champion of each stream as the catalogue has it; nothing where the catalogue cannot be asked."""
    try:
        with connect(settings) as catalog:
            return {stream.name: catalog.noted_champion(stream.name) for stream in readable(settings)}
    except TidemarkError:  # told of by the look at the database
        return {}


def _champion(registry: Registry, store: ObjectStore, noted: dict[str, int | None], stream: str) -> Finding:
    champion = registry.champion(stream)
    if champion is None:
        return ok(AREA, f"{stream}: no champion yet")
    what = f"{stream}: version {champion.version} is the champion"
    again = f"put another in charge (`tidemark rollback {stream}`) or train one (`tidemark retrain {stream} --force`)"
    size = registry.model_bytes(champion)
    if not size:
        return problem(AREA, f"{what}, but MLflow has no model file of it: {again}")
    if not store.has_artifact(keys.reference(stream, champion.version)):
        return problem(AREA, f"{what}, but its reference is not in the store: {again}")
    if stream in noted and noted[stream] != champion.version:
        return warning(
            AREA,
            f"{what}, and the catalogue still says {noted[stream] or 'none'}: `tidemark score {stream}` brings it in "
            "line",
        )
    return ok(AREA, f"{what}, its model ({size / 1e6:.1f} MB) and its reference are there")
