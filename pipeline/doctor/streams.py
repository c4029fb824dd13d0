"""The stream files: each must parse."""

from __future__ import annotations

from collections.abc import Iterator

from pipeline.doctor.finding import Finding, ok, problem, warning
from pipeline.errors import ConfigurationError
from pipeline.settings import Settings
from pipeline.stream import Stream, load_stream, stream_names

AREA = "streams"


def look(settings: Settings) -> Iterator[Finding]:
    """Read each stream's file."""
    names = stream_names(settings.streams)
    if not names:
        yield warning(AREA, f"{settings.streams}/ has no stream: write a file there, docs/streams.md says how")
    for name in names:
        try:
            stream = load_stream(settings.streams, name)
        except ConfigurationError as error:
            yield problem(AREA, str(error))
        else:
            when = f"schedule {stream.schedule}" if stream.schedule else "by hand only"
            yield ok(AREA, f"{name}: prefix {stream.prefix}, {when}")


def readable(settings: Settings) -> list[Stream]:
    """The streams whose files parse; the others are told of by `look`."""
    found = []
    try:
        names = stream_names(settings.streams)
    except ConfigurationError:
        return []
    for name in names:
        try:
            found.append(load_stream(settings.streams, name))
        except ConfigurationError:
            continue
    return found
