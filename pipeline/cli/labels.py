"""Labels that people give: what there is, what to label next, what comes back."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from pipeline import console
from pipeline.cli.running import Debug, Json, Name, run_command, start, usage_error
from pipeline.naming import printable
from pipeline.settings import Settings

app = typer.Typer()


@app.command()
def labels(
    stream: Name,
    queue: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Export the N images that are most worth a label.")
    ] = None,
    out: Annotated[Path | None, typer.Option(metavar="FOLDER", help="With --queue: where to write it.")] = None,
    import_file: Annotated[
        Path | None,
        typer.Option("--import", metavar="FILE", help="Take labels from a filled queue or a Label Studio export."),
    ] = None,
    history: Annotated[str | None, typer.Option(metavar="KEY", help="Who labelled what this key leads to.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="Show at most so many problems.")] = 20,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Show labels and what is wrong with labels files; export what to label next; import labels."""

    def run(settings: Settings) -> Any:
        if sum(option is not None for option in (queue, import_file, history)) > 1:
            usage_error("--queue, --import and --history are different things: give one of them")
        if out is not None and queue is None:
            usage_error("--out says where --queue writes to: give it with --queue N")
        from pipeline.stages.workplace import workplace

        with workplace(settings, stream) as place:
            if queue is not None:
                from pipeline.stages.labelling_queue import export_queue

                return export_queue(place, queue, out or settings.home / "labelling" / stream)
            if import_file is not None:
                from pipeline.stages.labels import import_labels

                return _followed(settings, import_labels(place, import_file))
            from pipeline.stages.labels_overview import label_history, labels_overview

            return labels_overview(place, limit) if history is None else label_history(place, history)

    run_command(run, _show, as_json=as_json, debug=debug, stream=stream)


def _followed(settings: Settings, result: dict[str, Any]) -> dict[str, Any]:
    """Have the retraining begin that these labels make possible."""
    if result["next"] == "retrain":
        name = result["stream"]
        otherwise = f"the next ingest begins the retraining; `tidemark retrain {name}` does at once"
        start(settings, f"{name}_retrain", otherwise)
    return result


def _show(result: dict[str, Any]) -> None:
    console.show_result({name: _shown(name, value) for name, value in result.items()})


def _shown(name: str, value: Any) -> Any:
    """Lists and mappings as lines of text."""
    if name == "by_class":
        return [f"{label}: {images}" for label, images in value.items()] or None
    if name == "events":
        return [_event(event) for event in value] or None
    if name == "files":
        return [item if isinstance(item, str) else _file(item) for item in value] or None
    return value or None if isinstance(value, list) else value


def _file(row: dict[str, Any]) -> str:
    origin = printable(row["origin"])
    if row["unreadable"]:
        return f"{origin}: {row['unreadable']}"
    parts = [f"{row['rows']} rows", f"{row['refused']} refused", f"{row['waiting']} waiting for their image"]
    return f"{origin}: " + ", ".join(part for part in parts if not part.startswith("0 "))


def _event(event: dict[str, Any]) -> str:
    if "events" in event:
        return f"{event['events']} labels by {event['source']}, {event['corrections']} of them corrections"
    where = f" line {event['line']}" if event["line"] else ""
    author = f", {event['author']}" if event["author"] else ""
    before = f" instead of {event['previous']}" if event["previous"] else ""
    origin = f"{event['source']} {printable(event['origin'])}{where}{author}"
    return f"{event['labelled_at']} {event['label']}{before}: {origin}"
