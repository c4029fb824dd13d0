"""How a page becomes an answer: templates, the rules a browser keeps, numbers and times as people read them."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import Query
from fastapi.responses import HTMLResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from pipeline.stages.paging import MOST_PAGES
from tidemark_airflow.addresses import base, check_page
from tidemark_airflow.pages.chart import chance

HERE = Path(__file__).parents[1]

# Reports carry their style and pictures inside them; nothing is loaded, run, sent or framed by strangers.
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'self'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cache-Control": "no-store",
}

# Our own pages have one stylesheet and one script, both files of this plugin; nothing written into a page is run.
PAGE_POLICY = (
    "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; frame-src 'self'; base-uri 'none'; "
    "form-action 'self'; frame-ancestors 'self'"
)

# Which page of a long list.
PageNumber = Annotated[int, Query(alias="page", ge=1, le=MOST_PAGES)]

# Figures of an evaluation as people call them.
NAMES = {
    "new": "new holdout",
    "old": "older holdout",
    "footprint": "cost",
    "count": "images",
    "unknown": "images of unknown classes",
    "roc_auc": "ROC AUC",
    "macro_f1": "macro F1",
    "latency_ms": "one image, ms",
    "batch_ms": "one batch, ms",
    "megabytes": "ONNX file, MB",
}

STATIC = {
    "style.css": "text/css; charset=utf-8",
    "pages.js": "text/javascript; charset=utf-8",
    "icon.svg": "image/svg+xml",
}


def page(template: str, status: int = 200, headers: dict[str, str] | None = None, **values: Any) -> HTMLResponse:
    """A template as an answer."""
    text = _templates().get_template(template).render(base=base(), version=static_version(), **values)
    return HTMLResponse(text, status, {"Content-Security-Policy": PAGE_POLICY} | (headers or {}))


@cache
def static_file(name: str) -> bytes:
    """The stylesheet or the script."""
    return (HERE / "static" / name).read_bytes()


@cache
def static_version() -> str:
    """Changes with their content, so that a browser may keep what it has."""
    return hashlib.sha256(b"".join(static_file(name) for name in STATIC)).hexdigest()[:12]


@cache
def _templates() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "time": time_of,
        "day": lambda value: time_of(value, "%Y-%m-%d"),
        "ago": ago,
        "duration": lambda value: _spoken((datetime.now(UTC) - value).total_seconds()),
        "count": lambda value: f"{value:,}",
        "figure": figure,
        "chance": lambda value: "–" if value is None else chance(value).removeprefix("= "),
        "share": lambda value: "–" if value is None else f"{100 * value:.1f} %",
        "words": lambda value: NAMES.get(value, str(value).replace("_", " ")),
        "measure": measure,
        "part": lambda value: quote(str(value), safe=""),
    }
    environment.globals |= {"check_page": check_page, "run_page": run_page}
    return environment


def measure(value: float | None) -> str:
    """A figure of an evaluation: a count as it is, anything else with its leading digits."""
    if value is None:
        return "–"
    if isinstance(value, int) or (float(value).is_integer() and abs(value) >= 2):
        return f"{value:,.0f}"
    return f"{value:.4f}" if abs(value) < 2 else f"{value:.4g}"


def figure(value: float | None, digits: int = 4) -> str:
    """A measured number; a dash where there is none."""
    return "–" if value is None else f"{value:.{digits}f}"


def time_of(value: datetime | str | None, form: str = "%Y-%m-%d %H:%M") -> Markup | str:
    """A moment, UTC."""
    if value is None:
        return "–"
    utc = (datetime.fromisoformat(value) if isinstance(value, str) else value).astimezone(UTC)
    return Markup('<time datetime="{}">{}</time>').format(utc.isoformat(timespec="seconds"), utc.strftime(form))


def ago(value: datetime | None, now: datetime | None = None) -> str:
    """How long ago, or how soon, in one number."""
    if value is None:
        return "never"
    seconds = ((now or datetime.now(UTC)) - value).total_seconds()
    if abs(seconds) < 60:
        return "just now" if seconds >= 0 else "any moment"
    return f"{_spoken(seconds)} ago" if seconds >= 0 else f"in {_spoken(-seconds)}"


def _spoken(seconds: float) -> str:
    count, unit = int(seconds // 86_400), "day"
    if seconds < 60:
        return "less than a minute"
    if seconds < 3600:
        count, unit = int(seconds // 60), "minute"
    elif seconds < 2 * 86_400:
        count, unit = int(seconds // 3600), "hour"
    return f"{count} {unit}{'' if count == 1 else 's'}"


def run_page(run: str | None) -> str | None:
    """Path of an Airflow run's page; ``run`` is what a stage notes of it: dag_id/run_id/try."""
    parts = (run or "").split("/")
    if len(parts) < 3:
        return None
    dag_id, run_id = parts[0], "/".join(parts[1:-1])
    above = base().rpartition("/")[0]
    return f"{above}/dags/{quote(dag_id, safe='')}/runs/{quote(run_id, safe='')}"
