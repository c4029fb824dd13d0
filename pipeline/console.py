"""How the command talks to people: log lines on stderr, results as tables on stdout."""

from __future__ import annotations

import logging
import os
import sys
import warnings
from typing import Any

from rich.box import SIMPLE
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from pipeline.json_log import JsonLines
from pipeline.naming import printable

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


def logs_json() -> bool:
    """Whether log lines are JSON. Asked before the settings are read: what is wrong with those is a line, too."""
    return os.environ.get("TIDEMARK_LOG") == "json"


def log_as_json(stage: str | None, stream: str | None) -> None:
    """From here on log lines are JSON and say what they belong to."""
    formatter = JsonLines(stage=stage, stream=stream, run=os.environ.get("TIDEMARK_RUN") or None)
    for handler in logging.getLogger().handlers:
        handler.setFormatter(formatter)


def show_result(result: dict[str, Any]) -> None:
    """A small result as two columns."""
    table = Table(show_header=False, box=None, padding=(0, 1))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for key, value in result.items():
        if key == "stage" or (key in {"shards", "checks"} and isinstance(value, list)):
            continue
        shown = "\n".join(str(item) for item in value) if isinstance(value, list) else "–" if value is None else value
        table.add_row(key.replace("_", " "), _text(shown))
    _stdout().print(table)


def show_models(result: dict[str, Any]) -> None:
    """Model versions, one a row."""
    table = Table(box=SIMPLE)
    for name in ("version", "alias", "created", "reason", "snapshot", "gate", "accuracy new", "old", "in charge"):
        table.add_column(name, overflow="fold")
    for model in result["models"]:
        table.add_row(
            str(model["version"]),
            ", ".join(model["aliases"]) or (f"pruned {model['pruned']}" if model["pruned"] else ""),
            _minute(model["created"]),
            _text(model["reason"]),
            _text(model["snapshot"][:12] or "–"),
            _text(model["gate"] or "–"),
            _share(model["accuracy_new"]),
            _share(model["accuracy_old"]),
            "\n".join(_span(span) for span in model["in_charge"]) or "–",
        )
    _stdout().print(table if result["models"] else f"stream {result['stream']} has no model yet")


def show_quarantine(result: dict[str, Any]) -> None:
    """Counts by reason, then the objects, one a row."""
    console = _stdout()
    if not result["quarantined"]:
        console.print(f"nothing of stream {result['stream']} is in quarantine", markup=False)
        return
    reasons = ", ".join(f"{count} {code}" for code, count in result["reasons"].items())
    console.print(f"{result['quarantined']} in quarantine: {reasons}", markup=False)
    table = Table(box=SIMPLE)
    for name in ("key", "code", "reason", "bytes", "batch", "seen"):
        table.add_column(name, overflow="fold")
    for row in result["objects"]:
        cells = (printable(row["key"]), row["code"], row["reason"], row["bytes"], row["batch"], _minute(row["seen"]))
        table.add_row(*(_text(cell) for cell in cells))
    console.print(table)
    if len(result["objects"]) < result["quarantined"]:
        console.print(f"{len(result['objects'])} of {result['quarantined']} shown (--limit, --reason)", markup=False)


def show_predictions(result: dict[str, Any]) -> None:
    """The best classes of each image, one image a row, then the images that have none, with reasons."""
    console = _stdout()
    table = Table(box=SIMPLE)
    for name in ("image", "prediction", "second", "third"):
        table.add_column(name, overflow="fold")
    for image in result["images"]:
        if image["top"]:
            best = [f"{printable(item['label'])} {item['probability']:.3f}" for item in image["top"]]
            table.add_row(_text(printable(image["image"])), *(_text(cell) for cell in best))
    if table.row_count:
        console.print(table)
    for image in result["images"]:
        if image["error"] is not None:
            console.print(f"{printable(image['image'])}: {image['error']}", markup=False, soft_wrap=True)
    if not result["images"]:
        console.print("no image is among what was named", markup=False)


def show_stack(result: dict[str, Any]) -> None:
    """The four services, and how to log in."""
    table = Table(box=SIMPLE)
    for name in ("service", "state", "where", "since", "process"):
        table.add_column(name, overflow="fold")
    for service in result["services"]:
        row = {**service, "since": _minute(service["since"]) if service.get("since") else None}
        table.add_row(*(_text(row.get(key) or "–") for key in ("title", "state", "address", "since", "pid")))
    console = _stdout()
    console.print(table)
    login = result.get("login")
    if login:
        line = f"Airflow  {login['url']}  user {login['user']}  password {login['password']}"
        console.print(line, markup=False, soft_wrap=True)


def show_findings(result: dict[str, Any]) -> None:
    """What `tidemark doctor` found, one line each."""
    styles = {"ok": "green", "warning": "yellow", "problem": "red"}
    console = _stdout()
    for finding in result["findings"]:
        line = Text.assemble((f"{finding['state']:<8}", styles[finding["state"]]), f" {finding['area']:<9} ")
        console.print(line + Text(printable(finding["says"])), soft_wrap=True)
    counts = [(result["problems"], "problem"), (result["warnings"], "warning")]
    said = " and ".join(f"{count} {what}{'' if count == 1 else 's'}" for count, what in counts if count)
    console.print(said or "all is well", markup=False)


def show_pruned(result: dict[str, Any]) -> None:
    """What goes, by kind; and how to have it go."""
    console = _stdout()
    table = Table(box=SIMPLE)
    for name in ("what", "things", "files", "rows", "size", "such as"):
        table.add_column(name, overflow="fold")
    for kind in result["kinds"]:
        size = f"{kind['bytes'] / 1e6:,.1f} MB" if kind["files"] else "–"
        counts = (f"{kind[name]:,}" if kind[name] else "–" for name in ("things", "files", "rows"))
        table.add_row(kind["what"], *counts, size, _text(", ".join(map(printable, kind["examples"])) or "–"))
    console.print(table)
    kept = ", ".join(str(number) for number in result["versions_kept"]) or "none yet"
    console.print(f"older than {result['keep_days']} days; model versions in use: {kept}", markup=False)
    if not result["deleted"]:
        console.print("nothing was deleted: --yes does it", markup=False)


def show_ended(result: dict[str, Any]) -> None:
    """What `tidemark down` did, in one line."""
    ended = [service["title"] for service in result["services"] if service["state"] == "ended"]
    _stdout().print(f"ended {', '.join(ended)}; the data stays" if ended else "nothing was running")


def show_demo(result: dict[str, Any]) -> None:
    """The demo has printed its story already; its exit status says whether it happened."""


def _stdout() -> Console:
    """As wide as the terminal; wide enough for a table where there is none."""
    return Console(width=None if sys.stdout.isatty() else 140, highlight=False)


def _minute(time: str) -> str:
    """``2026-11-21T05:30:37+00:00`` → ``2026-11-21 05:30``."""
    return time[:16].replace("T", " ")


def _span(span: dict[str, Any]) -> str:
    return f"{_minute(span['since'])} – {_minute(span['until']) if span['until'] else 'now'}"


def _share(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _text(value: Any) -> str:
    """Text that rich does not take for markup: reasons and keys come from outside."""
    return escape(str(value))
