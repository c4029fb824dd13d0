"""The command `tidemark`: a thin shell over the stages. A file holds a group of commands."""

from __future__ import annotations

import os
import signal
import sys
from typing import Any

import typer

from pipeline.cli import intake, labels, messages, nightly, operations, predictions, stack, streams
from pipeline.cli.nightly import parse_overrides
from pipeline.model.processors import wait_asleep

__all__ = ["app", "main", "parse_overrides"]

app = typer.Typer(
    name="tidemark",
    help="Keeps an image classifier fit while the images drift.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    rich_markup_mode=None,
)
for group in (nightly, predictions, intake, labels, messages, streams, operations, stack):
    app.add_typer(group.app)


def _terminated(signum: int, frame: Any) -> None:
    """SIGTERM ends a stage as Ctrl-C does: locks, temporary files and child processes are cleaned up on the way."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # a second one must not disturb the cleaning up
    raise KeyboardInterrupt


def main() -> None:
    """Entry point of the command and of ``python -m pipeline``."""
    signal.signal(signal.SIGTERM, _terminated)
    wait_asleep()
    # A closed pipe on the other side (`tidemark models x | head`) is no error of ours.
    try:
        app()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(1) from None
