"""The command `tidemark`: a thin shell over the stages. One line for an expected error, JSON where machines ask."""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from pipeline import console
from pipeline.errors import ConfigurationError, TidemarkError
from pipeline.settings import Settings

log = logging.getLogger(__name__)

app = typer.Typer(
    name="tidemark",
    help="Keeps an image classifier fit while the images drift.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    rich_markup_mode=None,
)

Name = Annotated[str, typer.Argument(metavar="STREAM", help="Name of the stream: its file in streams/ without .yaml.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout and nothing else there.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show tracebacks and debug lines.")]
Limit = Annotated[int | None, typer.Option(min=1, help="At most this many images; the next run goes on.")]


def _run(work: Callable[[Settings], Any], show: Callable[[Any], None], *, as_json: bool, debug: bool) -> None:
    """Set up logging, do the work, print its result; every failure becomes one line and an exit status."""
    console.set_up_logging(debug=debug)
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
    sys.stderr.write(f"error: {line}\n")
    raise SystemExit(status)


def _stage(
    name: str, work: Callable[[Any], Any], *, as_json: bool, debug: bool, overrides: dict[str, Any] | None = None
) -> None:
    def run(settings: Settings) -> Any:
        from pipeline.stages.workplace import workplace

        with workplace(settings, name, overrides) as place:
            return work(place)

    _run(run, console.show_result, as_json=as_json, debug=debug)


# -- the stages


@app.command()
def ingest(stream: Name, limit: Limit = None, as_json: Json = False, debug: Debug = False) -> None:
    """Take in the images that are new in the store."""
    from pipeline.stages.ingest import ingest as stage

    _stage(stream, lambda place: stage(place, limit), as_json=as_json, debug=debug)


@app.command()
def check(
    stream: Name,
    batch: Annotated[int | None, typer.Option(help="One batch; without it, all that wait for a check.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Check again what was checked already.")] = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Test new batches for drift against the champion's reference, decide, report."""
    from pipeline.stages.check import check as stage

    if force and batch is None:
        _run(lambda _: _raise("--force needs --batch"), console.show_result, as_json=as_json, debug=debug)
    _stage(stream, lambda place: stage(place, batch, force=force), as_json=as_json, debug=debug)


@app.command()
def retrain(
    stream: Name,
    reason: Annotated[str | None, typer.Option(help="Why; kept with the model.")] = None,
    check_id: Annotated[str | None, typer.Option("--check", help="The check whose alarm this answers.")] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Replace a value of the stream file, e.g. train.epochs=5."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Train also where nothing has changed.")] = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Train a challenger, judge it, and let it take over only if it is better."""
    from pipeline.stages.retrain import retrain as stage

    def run(settings: Settings) -> Any:
        from pipeline.stages.workplace import workplace

        with workplace(settings, stream, parse_overrides(overrides or [])) as place:
            return stage(place, reason=reason or None, check_id=check_id or None, force=force)

    _run(run, console.show_result, as_json=as_json, debug=debug)


@app.command()
def score(
    stream: Name,
    limit: Limit = None,
    plan: Annotated[bool, typer.Option("--plan", help="Only divide the work into shards.")] = False,
    shard: Annotated[str | None, typer.Option(metavar="FIRST-LAST", help="Only one shard of a plan.")] = None,
    finish: Annotated[bool, typer.Option("--finish", help="Only prove that nothing is missing.")] = False,
    model: Annotated[int | None, typer.Option(help="Model version that the plan named.")] = None,
    up_to: Annotated[int | None, typer.Option(help="With --finish: the last image that the plan was for.")] = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Predict every image that the champion has not predicted yet."""
    from pipeline.stages import score as stage

    def work(place: Any) -> Any:
        if plan + finish + (shard is not None) > 1:
            _raise("--plan, --shard and --finish are steps of one run: give one of them")
        if plan:
            return stage.plan(place, limit)
        if shard is None and not finish:
            return stage.score(place, limit)
        version = model if model is not None else place.registry.require_champion(stream).version
        return stage.finish(place, version, up_to) if shard is None else stage.score_shard(place, shard, version)

    _stage(stream, work, as_json=as_json, debug=debug)


# -- streams, models, reports


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

    _run(run, console.show_result, as_json=as_json, debug=debug)


@app.command()
def models(stream: Name, as_json: Json = False, debug: Debug = False) -> None:
    """List the model versions: what each came of, how it was judged, when it was in charge."""

    def run(settings: Settings) -> Any:
        from pipeline.stages.overview import models as stage
        from pipeline.stages.workplace import workplace

        with workplace(settings, stream) as place:
            return {"stream": stream, "models": stage(place)}

    _run(run, console.show_models, as_json=as_json, debug=debug)


@app.command()
def rollback(
    stream: Name,
    to: Annotated[int | None, typer.Option(help="Version to bring back; without it, the champion before.")] = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Put an earlier model version in charge again."""
    from pipeline.stages.promotion import rollback as stage

    _stage(stream, lambda place: stage(place, to), as_json=as_json, debug=debug)


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

    _run(run, console.show_result, as_json=as_json, debug=debug)


# -- the embedded stack


@app.command()
def up(as_json: Json = False, debug: Debug = False) -> None:
    """Start the embedded stack: PostgreSQL, S3, MLflow and Airflow on this machine."""

    def run(settings: Settings) -> Any:
        from pipeline.local.stack import up as start

        return start(settings).to_dict()

    _run(run, console.show_stack, as_json=as_json, debug=debug)


@app.command()
def down(as_json: Json = False, debug: Debug = False) -> None:
    """Stop what `tidemark up` started; the data stays."""

    def run(settings: Settings) -> Any:
        from pipeline.local.stack import down as stop

        return stop(settings).to_dict()

    _run(run, console.show_ended, as_json=as_json, debug=debug)


@app.command()
def status(
    stream: Annotated[str | None, typer.Argument(metavar="[STREAM]", help="A stream; else the stack.")] = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Say what runs, where and since when; or what is known of a stream."""
    if stream is not None:
        from pipeline.stages.overview import stream_status

        _stage(stream, stream_status, as_json=as_json, debug=debug)
        return

    def run(settings: Settings) -> Any:
        from pipeline.local.stack import status as look

        return look(settings).to_dict()

    _run(run, console.show_stack, as_json=as_json, debug=debug)


@app.command()
def migrate(as_json: Json = False, debug: Debug = False) -> None:
    """Bring the database's tables up to this version."""

    def run(settings: Settings) -> Any:
        from pipeline.storage.database import migrate as apply

        return {"applied": apply(settings.require_database())}

    _run(run, console.show_result, as_json=as_json, debug=debug)


@app.command()
def demo(as_json: Json = False, debug: Debug = False) -> None:
    """Play three nights of a real stream through the embedded stack."""

    def run(settings: Settings) -> Any:
        from pipeline.local.demo import run_demo

        if not debug:
            logging.getLogger("pipeline").setLevel(logging.WARNING)  # the demo tells its story itself
        return run_demo(settings)

    _run(run, console.show_demo, as_json=as_json, debug=debug)


# -- words


def parse_overrides(pairs: list[str]) -> dict[str, Any]:
    """``train.epochs=5`` → ``{"train.epochs": 5}``; values are read as YAML, as in the stream file.

    Raises:
        ConfigurationError: There is no ``=`` or the value is not YAML.
    """
    import yaml

    found: dict[str, Any] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key.strip():
            raise ConfigurationError(f"--set takes KEY=VALUE such as train.epochs=5, not {pair!r}")
        try:
            found[key.strip()] = yaml.safe_load(value)
        except yaml.YAMLError:
            raise ConfigurationError(f"--set {key.strip()}: {value!r} is not a YAML value") from None
    return found


def _raise(text: str) -> NoReturn:
    raise ConfigurationError(text)


def _terminated(signum: int, frame: Any) -> None:
    """SIGTERM ends a stage as Ctrl-C does: locks, temporary files and child processes are cleaned up on the way."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # a second one must not disturb the cleaning up
    raise KeyboardInterrupt


def main() -> None:
    """Entry point of the command and of ``python -m pipeline``."""
    signal.signal(signal.SIGTERM, _terminated)
    # A closed pipe on the other side (`tidemark models x | head`) is no error of ours.
    try:
        app()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(1) from None
