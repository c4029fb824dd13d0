"""The stages of a night: ingest, check, retrain, score."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

import typer

from pipeline import console
from pipeline.cli.running import Debug, Json, Limit, Name, run_command, run_stage, usage_error
from pipeline.errors import ConfigurationError
from pipeline.settings import Settings

app = typer.Typer()


@app.command()
def ingest(
    stream: Name,
    limit: Limit = None,
    full: Annotated[bool, typer.Option("--full", help="Compare the whole prefix, also with `listing: dated`.")] = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Take in the images that are new in the store."""
    from pipeline.stages.ingest import ingest as stage

    run_stage(stream, lambda place: stage(place, limit, full=full), as_json=as_json, debug=debug)


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
        run_command(
            lambda _: usage_error("--force needs --batch"),
            console.show_result,
            as_json=as_json,
            debug=debug,
            stream=stream,
        )
    run_stage(stream, lambda place: stage(place, batch, force=force), as_json=as_json, debug=debug)


@app.command()
def retrain(
    stream: Name,
    reason: Annotated[str | None, typer.Option(help="Why; kept with the model.")] = None,
    check_id: Annotated[str | None, typer.Option("--check", help="The check whose alarm this answers.")] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Replace a value of the stream file, e.g. train.epochs=5."),
    ] = None,
    from_run: Annotated[
        str | None,
        typer.Option("--from-run", metavar="RUN", help="Repeat a run of MLflow: same images, recipe and seed."),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Train also where nothing has changed, or labels lack.")
    ] = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Train a challenger, judge it, and let it take over only if it is better."""
    from pipeline.stages.retrain import retrain as stage

    def run(settings: Settings) -> Any:
        from pipeline.stages.workplace import workplace

        if from_run and (overrides or check_id):
            usage_error("--from-run repeats a run as it was: --set and --check do not go with it")
        with workplace(settings, stream, parse_overrides(overrides or [])) as place:
            return stage(
                place, reason=reason or None, check_id=check_id or None, force=force, from_run=from_run or None
            )

    run_command(run, console.show_result, as_json=as_json, debug=debug, stream=stream)


@app.command()
def score(
    stream: Name,
    limit: Limit = None,
    plan: Annotated[bool, typer.Option("--plan", help="Only divide the work into shards.")] = False,
    shard: Annotated[str | None, typer.Option(metavar="FIRST-LAST", help="Only one shard of a plan.")] = None,
    finish: Annotated[bool, typer.Option("--finish", help="Only prove that nothing is missing.")] = False,
    model: Annotated[int | None, typer.Option(help="Model version that the plan named.")] = None,
    up_to: Annotated[int | None, typer.Option(help="With --finish: the last image that the plan was for.")] = None,
    planned_at: Annotated[str | None, typer.Option(metavar="TIME", help="With --finish: when it was planned.")] = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Predict every image that the champion has not predicted yet."""
    from pipeline.stages import score as stage

    def work(place: Any) -> Any:
        if plan + finish + (shard is not None) > 1:
            usage_error("--plan, --shard and --finish are steps of one run: give one of them")
        try:
            planned = datetime.fromisoformat(planned_at) if planned_at else None
        except ValueError:
            planned = datetime.min  # noqa: DTZ901 - without an offset, as below
        if planned and (planned.tzinfo is None or not finish):
            usage_error("--planned-at goes with --finish, and is a time such as 2026-11-20T03:00:00+00:00")
        if plan:
            return stage.plan(place, limit)
        if shard is None and not finish:
            return stage.score(place, limit)
        version = model if model is not None else place.registry.require_champion(stream).version
        if shard is not None:
            return stage.score_shard(place, shard, version)
        return stage.finish(place, version, up_to, planned)

    run_stage(stream, work, as_json=as_json, debug=debug)


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
