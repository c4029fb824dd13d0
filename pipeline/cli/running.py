"""How every command runs: one line for an expected error, JSON where machines ask, an exit status."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable
from typing import Annotated, Any, NoReturn

import typer

from pipeline import console
from pipeline.errors import ConfigurationError, TidemarkError
from pipeline.settings import Settings

log = logging.getLogger(__name__)

Name = Annotated[str, typer.Argument(metavar="STREAM", help="Name of the stream: its file in streams/ without .yaml.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout and nothing else there.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show tracebacks and debug lines.")]
Limit = Annotated[int | None, typer.Option(min=1, help="At most this many images; the next run goes on.")]


def run_command(
    work: Callable[[Settings], Any],
    show: Callable[[Any], None],
    *,
    as_json: bool,
    debug: bool,
    stream: str | None = None,
) -> None:
    """Set up logging, do the work, print its result; every failure becomes one line and an exit status."""
    console.set_up_logging(debug=debug)
    if console.logs_json():
        console.log_as_json(next((part for part in sys.argv[1:] if not part.startswith("-")), None), stream)
    try:
        result = work(Settings.load())
    except TidemarkError as error:
        _fail(error, str(error), error.exit_status, as_json=as_json, debug=debug)
    except KeyboardInterrupt:
        _fail(None, "interrupted: run this again to go on", 130, as_json=as_json, debug=False)
    except MemoryError as error:
        _fail(error, "out of memory: lower batch sizes or workers in the stream file", 1, as_json=as_json, debug=debug)
    except Exception as error:  # noqa: BLE001 - the last line of defence: a user never meets a traceback unasked
        text = f"unexpected {type(error).__name__}: {' '.join(str(error).split())} (--debug shows where)"
        _fail(error, text, 1, as_json=as_json, debug=debug)
    if as_json:
        print(json.dumps(result, default=str, ensure_ascii=False))  # noqa: T201 - stdout is this command's product
    else:
        show(result)


def _fail(error: BaseException | None, text: str, status: int, *, as_json: bool, debug: bool) -> NoReturn:
    line = " ".join(text.split())
    if debug and error is not None:
        log.error("the traceback of what follows", exc_info=error)
    if as_json:
        print(json.dumps({"error": line, "exit_status": status}, ensure_ascii=False))  # noqa: T201
    if console.logs_json():
        log.error("%s", line)
    else:
        sys.stderr.write(f"error: {line}\n")
    raise SystemExit(status)


def run_stage(
    name: str, work: Callable[[Any], Any], *, as_json: bool, debug: bool, overrides: dict[str, Any] | None = None
) -> None:
    """Run one stage of one stream and show its result."""

    def run(settings: Settings) -> Any:
        from pipeline.stages.workplace import workplace

        with workplace(settings, name, overrides) as place:
            return work(place)

    run_command(run, console.show_result, as_json=as_json, debug=debug, stream=name)


def usage_error(text: str) -> NoReturn:
    """End the command as wrongly used."""
    raise ConfigurationError(text)


def start(settings: Settings, dag_id: str, otherwise: str) -> None:
    """Start a DAG of the embedded stack; where it does not run, say what happens otherwise.

    A command that Airflow itself runs starts nothing: there the DAG's own tasks hand over.
    """
    if settings.run is not None:
        return
    from pipeline.errors import StackError
    from pipeline.local.airflow_api import AirflowClient

    try:
        with AirflowClient.of(settings) as airflow:
            airflow.trigger(dag_id)
        log.info("Airflow starts %s", dag_id)
    except StackError:
        log.info("%s", otherwise)
