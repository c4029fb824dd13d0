"""What people ask of a stream: upload, models, reports, the way back."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from pipeline import console
from pipeline.cli.running import Debug, Json, Name, run_command, run_stage, start
from pipeline.settings import Settings

app = typer.Typer()


@app.command()
def push(
    stream: Name,
    folder: Annotated[Path, typer.Argument(help="A folder with a subfolder for each class.")],
    into: Annotated[str, typer.Option(help="Subfolder of the stream's prefix.")] = "",
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Upload a folder of images to the stream's prefix."""

    def run(settings: Settings) -> Any:
        from pipeline.stages.push import push as stage

        return stage(settings, stream, folder, into)

    run_command(run, console.show_result, as_json=as_json, debug=debug, stream=stream)


@app.command()
def models(stream: Name, as_json: Json = False, debug: Debug = False) -> None:
    """List the model versions: what each came of, how it was judged, when it was in charge."""

    def run(settings: Settings) -> Any:
        from pipeline.stages.overview import models as stage
        from pipeline.stages.workplace import workplace

        with workplace(settings, stream) as place:
            return {"stream": stream, "models": stage(place)}

    run_command(run, console.show_models, as_json=as_json, debug=debug, stream=stream)


@app.command()
def rollback(
    stream: Name,
    to: Annotated[int | None, typer.Option(help="Version to bring back; without it, the champion before.")] = None,
    by: Annotated[str | None, typer.Option(help="Who decides; kept on record.")] = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Put an earlier model version in charge again."""
    from pipeline.stages.promotion import rollback as stage

    def work(place: Any) -> Any:
        return _scored(place.settings, stage(place, to, by))

    run_stage(stream, work, as_json=as_json, debug=debug)


@app.command()
def approve(
    stream: Name,
    version: Annotated[int | None, typer.Option(help="The version that is meant; else the one that waits.")] = None,
    decline: Annotated[bool, typer.Option("--decline", help="Turn it down: the champion stays.")] = False,
    by: Annotated[str | None, typer.Option(help="Who decides; kept on record.")] = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Let a challenger that awaits approval take over, or turn it down."""
    from pipeline.stages.approval import approve as stage

    def work(place: Any) -> Any:
        done = stage(place, version, decline=decline, by=by)
        return _scored(place.settings, done) if done["outcome"] == "promoted" else done

    run_stage(stream, work, as_json=as_json, debug=debug)


def _scored(settings: Settings, result: dict[str, Any]) -> dict[str, Any]:
    """Have scoring follow a change of champion."""
    name = result["stream"]
    start(settings, f"{name}_score", f"scoring follows by its schedule, or at once with `tidemark score {name}`")
    return result


@app.command()
def report(
    stream: Name,
    check_id: Annotated[str | None, typer.Argument(metavar="[CHECK]", help="Id of a check; else the newest.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder to write the report to.")] = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Fetch a check's report and say where it lies."""

    def run(settings: Settings) -> Any:
        from pipeline.stages.overview import fetch_report
        from pipeline.stages.workplace import workplace

        with workplace(settings, stream) as place:
            return fetch_report(place, check_id, out or settings.home / "reports")

    run_command(run, console.show_result, as_json=as_json, debug=debug, stream=stream)
