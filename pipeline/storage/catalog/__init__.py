"""The catalogue: what the store holds, what was tested, trained and predicted. All SQL lies in ``sql/*.sql``."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from pipeline.settings import Settings
from pipeline.storage.catalog.checks import Checks
from pipeline.storage.catalog.intake import Intakes
from pipeline.storage.catalog.labelling import Labelling
from pipeline.storage.catalog.messages import Messages
from pipeline.storage.catalog.pages import Pages
from pipeline.storage.catalog.pruning import Pruning
from pipeline.storage.catalog.reports import Reports
from pipeline.storage.catalog.scoring import Scoring
from pipeline.storage.catalog.training import Training
from pipeline.storage.database import connection, migrate, require_current_schema

__all__ = ["Catalog", "connect", "migrate"]


@contextmanager
def connect(settings: Settings) -> Iterator[Catalog]:
    """The catalogue, on a connection of its own.

    Raises:
        ConfigurationError: No database is configured.
        DatabaseError: It does not answer, refuses the login, or has other tables than this code needs.
    """
    url = settings.require_database()
    with connection(url) as opened:
        require_current_schema(opened, url)
        yield Catalog(opened, settings.run)


class Catalog(Intakes, Labelling, Checks, Reports, Training, Scoring, Messages, Pages, Pruning):
    """Reads and writes the tables of the schema ``tidemark``. Every write can be repeated without harm."""

    def summary(self, stream: str) -> dict[str, int]:
        """Counts of a stream."""
        return {key: int(value) for key, value in self._one("stream", "summary", stream=stream).items()}

    def forget_stream(self, stream: str) -> None:
        """Delete every row of one stream."""
        with self.transaction():
            self._run_sql("stream", "forget", stream=stream)
