"""For whoever keeps an installation running."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from pipeline import console
from pipeline.cli.running import Debug, Json, Name, run_command
from pipeline.settings import Settings

app = typer.Typer()


@app.command()
def doctor(
    seconds: Annotated[float, typer.Option("--timeout", min=1, help="Seconds after which a check is given up.")] = 30,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Look at store, database, MLflow, Airflow, clocks, folders and versions; say what to do."""
    found: dict[str, Any] = {}

    def run(settings: Settings) -> Any:
        from pipeline.doctor.examination import examine, summary

        found.update({"stage": "doctor", **summary(examine(settings, seconds))})
        return found

    run_command(run, console.show_findings, as_json=as_json, debug=debug)
    if found["problems"]:
        raise SystemExit(1)


@app.command()
def prune(
    stream: Name,
    keep_days: Annotated[
        int | None, typer.Option(min=1, help="What is younger stays; else as the stream's file says.")
    ] = None,
    predictions: Annotated[
        bool | None,
        typer.Option("--predictions/--no-predictions", help="Also rows by versions out of use, or not."),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Delete; without it, only say what would go.")] = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Say which old reports, embeddings and model files nobody needs any more; with --yes, delete them."""

    def run(settings: Settings) -> Any:
        from pipeline.stages.prune import prune as stage
        from pipeline.stages.workplace import workplace

        with workplace(settings, stream) as place:
            return stage(place, keep_days=keep_days, predictions=predictions, delete=yes)

    run_command(run, console.show_pruned, as_json=as_json, debug=debug, stream=stream)
