"""How the command talks to people: log lines on stderr, results as tables on stdout."""

from __future__ import annotations

import logging
import sys
import warnings
from typing import Any

from rich.console import Console
from rich.table import Table

# Libraries that speak at length of what only their developers want to know.
CHATTY = ("alembic", "boto3", "botocore", "git", "httpx", "lightning", "matplotlib", "mlflow", "onnxscript", "onnx_ir",
          "PIL", "s3transfer", "torch", "urllib3")  # fmt: skip


def set_up_logging(*, debug: bool) -> None:
    """Log lines go to stderr with their level first, so that Airflow's task log can keep it."""
    logging.basicConfig(
        level=logging.DEBUG if debug else logging.INFO,
        stream=sys.stderr,
        format="%(levelname)s %(name)s: %(message)s" if debug else "%(levelname)s %(message)s",
        force=True,
    )
    for name in CHATTY:
        logging.getLogger(name).setLevel(logging.INFO if debug else logging.ERROR)
    if not debug:
        warnings.simplefilter("ignore")  # a person can act on errors; libraries' warnings are for --debug


def show_result(result: dict[str, Any]) -> None:
    """A small result as two columns."""
    table = Table(show_header=False, box=None)
    for key, value in result.items():
        if key in {"stage", "shards", "checks"}:
            continue
        shown = "; ".join(str(item) for item in value) if isinstance(value, list) else "–" if value is None else value
        table.add_row(key.replace("_", " "), _text(shown))
    Console().print(table)


def show_models(result: dict[str, Any]) -> None:
    """Model versions, one a row."""
    table = Table("version", "alias", "created", "reason", "gate", "accuracy new", "accuracy old", "in charge since")
    for model in result["models"]:
        table.add_row(
            str(model["version"]),
            ", ".join(model["aliases"]),
            model["created"],
            _text(model["reason"]),
            model["gate"] or "–",
            _share(model["accuracy_new"]),
            _share(model["accuracy_old"]),
            ", ".join(model["in_charge_since"]) or "–",
        )
    Console().print(table if result["models"] else f"stream {result['stream']} has no model yet")


def show_stack(result: dict[str, Any]) -> None:
    """The four services, and how to log in."""
    table = Table("service", "state", "where", "since", "process")
    for service in result.get("services", []):
        table.add_row(*(_text(service.get(key) or "–") for key in ("title", "state", "address", "since", "pid")))
    console = Console()
    console.print(table)
    login = result.get("login")
    if login:
        console.print(f"Airflow: {login['url']}  user {login['user']}  password {login['password']}", markup=False)


def show_demo(result: dict[str, Any]) -> None:
    """The demo has printed its story already; its exit status says whether it happened."""


def _share(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _text(value: Any) -> str:
    """Text that rich does not take for markup: reasons and keys come from outside."""
    from rich.markup import escape

    return escape(str(value))
