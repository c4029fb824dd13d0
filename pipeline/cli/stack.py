"""The embedded stack and the demo."""

from __future__ import annotations

import logging
from typing import Annotated, Any

import typer

from pipeline import console
from pipeline.cli.running import Debug, Json, run_command, run_stage
from pipeline.settings import Settings

app = typer.Typer()


@app.command()
def up(as_json: Json = False, debug: Debug = False) -> None:
    """Start the embedded stack: PostgreSQL, S3, MLflow and Airflow on this machine."""

    def run(settings: Settings) -> Any:
        from pipeline.local.stack import up as start

        return start(settings).to_dict()

    run_command(run, console.show_stack, as_json=as_json, debug=debug)


@app.command()
def down(as_json: Json = False, debug: Debug = False) -> None:
    """Stop what `tidemark up` started; the data stays."""

    def run(settings: Settings) -> Any:
        from pipeline.local.stack import down as stop

        return stop(settings).to_dict()

    run_command(run, console.show_ended, as_json=as_json, debug=debug)


@app.command()
def status(
    stream: Annotated[str | None, typer.Argument(metavar="[STREAM]", help="A stream; else the stack.")] = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Say what runs, where and since when; or what is known of a stream."""
    if stream is not None:
        from pipeline.stages.overview import stream_status

        run_stage(stream, stream_status, as_json=as_json, debug=debug)
        return

    def run(settings: Settings) -> Any:
        from pipeline.local.stack import status as look

        return look(settings).to_dict()

    run_command(run, console.show_stack, as_json=as_json, debug=debug)


@app.command()
def migrate(as_json: Json = False, debug: Debug = False) -> None:
    """Bring the database's tables up to this version."""

    def run(settings: Settings) -> Any:
        from pipeline.storage.database import migrate as apply

        return {"applied": apply(settings.require_database())}

    run_command(run, console.show_result, as_json=as_json, debug=debug)


@app.command()
def demo(
    here: Annotated[
        bool, typer.Option("--here", help="On the servers that the environment names, not on the embedded stack.")
    ] = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Play three nights of a real stream through the embedded stack."""

    def run(settings: Settings) -> Any:
        from pipeline.local.demo import run_demo

        if not debug:
            logging.getLogger("pipeline").setLevel(logging.WARNING)  # the demo tells its story itself
        return run_demo(settings, embedded=not here)

    run_command(run, console.show_demo, as_json=as_json, debug=debug)
