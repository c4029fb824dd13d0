"""The command that tells people what happened."""

from __future__ import annotations

from typing import Annotated

import typer

from pipeline.cli.running import Debug, Json, Name, run_stage

app = typer.Typer()


@app.command()
def notify(
    stream: Name,
    failure: Annotated[str | None, typer.Option(help="One line about a run that has just failed.")] = None,
    task: Annotated[str | None, typer.Option(help="The task of that run which failed.")] = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Tell people what has happened, by the channels of the stream's `notify`."""
    from pipeline.stages.notifying import notify as stage

    run_stage(stream, lambda place: stage(place, failure or None, task or None), as_json=as_json, debug=debug)
