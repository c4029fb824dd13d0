"""What ingest did not let in."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from pipeline import console
from pipeline.cli.running import Debug, Json, Name, run_command, run_stage, usage_error
from pipeline.settings import Settings

app = typer.Typer()

SHOWN = 100  # objects, unless asked for more


@app.command()
def quarantine(
    stream: Name,
    reason: Annotated[str | None, typer.Option(metavar="CODE", help="Only those with this reason code.")] = None,
    retry: Annotated[bool, typer.Option("--retry", help="Take them up again, in an ingest.")] = False,
    limit: Annotated[int | None, typer.Option(min=1, help="Show at most so many; without it, 100.")] = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """List what was not let in, with reasons, or take it up again."""
    from pipeline.stages import quarantine as stage

    if retry and limit is not None:
        run_command(
            lambda _: usage_error("--limit is for the list"),
            console.show_result,
            as_json=as_json,
            debug=debug,
            stream=stream,
        )
    if retry:
        run_stage(stream, lambda place: stage.retry(place, reason), as_json=as_json, debug=debug)
        return

    def run(settings: Settings) -> Any:
        from pipeline.stages.workplace import workplace

        with workplace(settings, stream) as place:
            return stage.quarantine(place, reason, limit or SHOWN)

    run_command(run, console.show_quarantine, as_json=as_json, debug=debug, stream=stream)
