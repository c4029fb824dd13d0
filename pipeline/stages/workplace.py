"""What every stage works with: one stream and the three edges, opened once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from pipeline.settings import Settings
from pipeline.storage.catalog import Catalog, connect
from pipeline.storage.objects import ObjectStore
from pipeline.storage.registry import Registry
from pipeline.stream import Stream, load_stream


@dataclass(frozen=True)
class Workplace:
    """A stream with its store, its catalogue and its models."""

    settings: Settings
    stream: Stream
    store: ObjectStore
    catalog: Catalog

    @cached_property
    def registry(self) -> Registry:
        """MLflow; opened where it is needed, since its client takes seconds to import."""
        return Registry.from_settings(self.settings)


@contextmanager
def workplace(settings: Settings, name: str, overrides: dict[str, Any] | None = None) -> Iterator[Workplace]:
    """Open everything for one stream.

    Raises:
        ConfigurationError: The stream or the settings are wrong; found before anything is opened.
        ServiceError: The database does not serve.
    """
    stream = load_stream(settings.streams, name)
    if overrides:
        stream = stream.with_overrides(overrides)
    store = ObjectStore.from_settings(settings)
    with connect(settings) as catalog:
        yield Workplace(settings, stream, store, catalog)
