"""Predictions: all of them as a file, or of some images on the spot."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from pipeline import console
from pipeline.cli.running import Debug, Json, Name, run_command, run_stage
from pipeline.settings import Settings

app = typer.Typer()

Model = Annotated[int | None, typer.Option(min=1, metavar="VERSION", help="A model version; else the champion.")]


@app.command()
def export(
    stream: Name,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="To write: NAME.parquet or NAME.csv.")],
    model: Model = None,
    since: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="Only predictions made since, e.g. 2026-11-21 or 2026-11-21T05:30."),
    ] = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Write the predictions for all images of a stream to one file."""
    from pipeline.stages.exporting import export as stage

    run_stage(stream, lambda place: stage(place, file, model, since), as_json=as_json, debug=debug)


@app.command()
def predict(
    stream: Name,
    paths: Annotated[
        list[str], typer.Argument(metavar="PATH...", help="Files, folders, s3://BUCKET/KEY, or s3://BUCKET/PREFIX/.")
    ],
    model: Model = None,
    out: Annotated[bool, typer.Option("--out", help="Write a JSON file beside each image.")] = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Predict images on the spot; nothing is written to the catalogue."""
    failed = 0

    def run(settings: Settings) -> Any:
        nonlocal failed
        from pipeline.stages.predicting import predict as stage

        result = stage(settings, stream, paths, model, beside=out)
        failed = result["failed"]
        return result

    run_command(run, console.show_predictions, as_json=as_json, debug=debug, stream=stream)
    if failed:  # each has its line with the reason; whoever runs this in a script learns it from the status
        raise typer.Exit(1)
