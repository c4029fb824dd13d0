"""What a page changes it has a command change, as a person would: in a process of its own, with an end in sight."""

from __future__ import annotations

import logging
import sys
import threading
from typing import Any

from airflow.models.asset import AssetModel
from airflow.sdk import Asset
from airflow.utils.session import create_session
from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError

from pipeline.errors import TidemarkError
from tidemark_airflow import PROJECT
from tidemark_airflow.child import Child
from tidemark_airflow.connections import environment
from tidemark_airflow.protocol import ended, result_of

log = logging.getLogger(__name__)

SECONDS = 240.0  # for a model file to be fetched and tried


class CommandFailed(TidemarkError):
    """A command that a page has started did not do its work."""


def run_command(*arguments: str) -> dict[str, Any]:
    """Run ``tidemark …`` and return its result. It starts no DAG by itself: that is for Airflow, which is here.

    Raises:
        CommandFailed: It ended with an error, whose sentence this is, or took too long.
    """
    command = [sys.executable, "-m", "pipeline", *arguments, "--json"]
    env = {**environment(), "TIDEMARK_RUN": "pages", "PYTHONUNBUFFERED": "1"}
    try:
        child = Child(command, env=env, cwd=PROJECT)
    except (OSError, ValueError) as error:
        raise CommandFailed(f"the command cannot be run: {error}") from None
    late = threading.Event()

    def give_up() -> None:
        late.set()
        child.end()

    clock = threading.Timer(SECONDS, give_up)
    clock.start()
    last = ""
    try:
        for line in child.lines():
            last = line
            log.info("%s: %s", arguments[0], line)
        status, output = child.wait(), child.stdout
    finally:
        clock.cancel()
        child.close()
    if late.is_set():
        raise CommandFailed(f"`tidemark {arguments[0]}` took longer than {SECONDS:.0f} seconds and was ended")
    try:
        result = result_of(output)
    except ValueError:
        result = {}
    if status == 0:
        return result
    raise CommandFailed(str(result.get("error") or ended(status, last)))


def hand_over(what: Asset, extra: dict[str, Any]) -> bool:
    """Let the DAGs that follow an asset start; False where Airflow does not know it or its database fails.

    What is handed over is done by then, so a failure here must not make it look undone.
    """
    from airflow.assets.manager import asset_manager

    try:
        with create_session() as session:
            asset = session.scalar(select(AssetModel).where(AssetModel.uri == what.uri))
            if asset is None:
                return False
            event = asset_manager.register_asset_change(
                asset=asset, extra=extra, source_is_api=True, api_user_teams=set(), session=session
            )
            return event is not None
    except SQLAlchemyError:
        log.exception("nobody was told of %s", what.uri)
        return False
