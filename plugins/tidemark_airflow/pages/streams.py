"""The overview of all streams, and the history of one."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from typing import Annotated
from urllib.parse import urlencode

from fastapi import APIRouter, HTTPException, Query, Request
from fastapi.responses import HTMLResponse

from pipeline.stages.viewing import check_history, standings
from tidemark_airflow.connections import settings
from tidemark_airflow.pages.access import Reader, readable_streams, require_reading
from tidemark_airflow.pages.answers import PageNumber, page
from tidemark_airflow.pages.chart import draw, sparks
from tidemark_airflow.pages.schedules import next_runs

router = APIRouter()

VERDICTS = ("clean", "watch", "alarm", "pending")
URGENT = ("alarm", "waiting", "watched", "answered", "pending", "new", "fits")  # what is shown first


@router.get("/", response_class=HTMLResponse)
def overview(user: Reader) -> HTMLResponse:
    """Every stream whose detect_drift DAG the user may read, those that need somebody first."""
    names = readable_streams(user)
    found = sorted(standings(settings(), names), key=lambda item: (URGENT.index(item.state), item.stream))
    pictures = {item.stream: sparks(item.sparks) for item in found}
    return page("overview.html", streams=found, pictures=pictures, runs=next_runs(names))


@router.get("/streams/{stream}", response_class=HTMLResponse)
def history(
    stream: str,
    request: Request,
    user: Reader,
    verdict: Annotated[str, Query(max_length=20)] = "",
    since: Annotated[str, Query(max_length=20)] = "",
    until: Annotated[str, Query(max_length=20)] = "",
    page_number: PageNumber = 1,
) -> HTMLResponse:
    """A stream's checks, as a drawing and as a table."""
    require_reading(stream, request, user)
    if verdict and verdict not in VERDICTS:
        raise HTTPException(404, f"There is no such verdict: there are {', '.join(VERDICTS)}.")
    first, last = _day(since), _day(until)
    here = settings()
    (standing,) = standings(here, [stream])
    found = check_history(
        here,
        stream,
        decision=verdict or None,
        since=first,
        until=last + timedelta(days=1) if last else None,
        page=page_number,
    )
    chosen = {name: text for name, text in (("verdict", verdict), ("since", since), ("until", until)) if text}
    return page(
        "stream.html",
        stream=stream,
        standing=standing,
        history=found,
        chart=draw(found.checks.rows[::-1], found.changes),
        verdicts=VERDICTS,
        chosen=chosen,
        query=urlencode(chosen),
        runs=next_runs([stream]),
    )


def _day(text: str) -> datetime | None:
    """Midnight, UTC, of a day that a form asks for."""
    if not text:
        return None
    try:
        day = date.fromisoformat(text)
        _ = day + timedelta(days=1)  # the last day of all has no next one
        return datetime.combine(day, time(), UTC)
    except (ValueError, OverflowError):
        raise HTTPException(404, "There is no such day: a day is written like 2026-11-21.") from None
