"""A check: its page, its report as it lies in the store, and the way there from a run of Airflow."""

from __future__ import annotations

import re

from airflow.api_fastapi.auth.managers.models.base_user import BaseUser
from fastapi import APIRouter, HTTPException, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse

from pipeline.errors import ObjectMissing
from pipeline.records import Check
from pipeline.stages.viewing import check_story, find_check, left_by_run, report_pruned
from pipeline.stream import NAME, stream_names
from tidemark_airflow import PROJECT
from tidemark_airflow.addresses import check_page
from tidemark_airflow.connections import settings
from tidemark_airflow.pages.access import STAGES, Reader, require_reading
from tidemark_airflow.pages.answers import page

router = APIRouter()

CHECK_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,119}")

# Evidently's page draws with scripts of its own. They run in a page without an origin, so that they have neither this
# site's cookies nor its other pages, and can load nothing and send no request. No policy keeps a script from leading
# its own page to another address, with what it knows in it: the figures of this one page, and nothing besides.
SANDBOX = (
    "sandbox allow-scripts; default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; "
    "img-src data: blob:; font-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
)

# What lies beside each other in the store, with the headers it is sent with. Links between them are relative.
FILES = {
    "report.html": {"Content-Type": "text/html; charset=utf-8"},
    "report.json": {"Content-Type": "application/json"},
    "properties.html": {"Content-Type": "text/html; charset=utf-8", "Content-Security-Policy": SANDBOX},
}


@router.get("/checks/{stream}/{check}", response_class=HTMLResponse)
def story(stream: str, check: str, request: Request, user: Reader) -> HTMLResponse:
    """A check's report, with what led to it and what it led to."""
    _require_check(stream, check, request, user)
    found = check_story(settings(), stream, check)
    if found is None:
        raise _missing(stream, check)
    return page("check.html", stream=stream, story=found)


@router.get("/checks/{stream}/{check}/{file}")
def report_file(stream: str, check: str, file: str, request: Request, user: Reader) -> Response:
    """A check's report, its twin for machines or its page on image properties, as it lies in the store."""
    _require_check(stream, check, request, user)
    found = find_check(settings(), stream, check)
    if found is None:
        raise _missing(stream, check)
    if file not in FILES:
        raise HTTPException(404, f"There is no such page of check {check}.")
    return Response(_artefact(found, file), headers=FILES[file])


@router.get("/runs/{dag_id}/{run_id:path}", response_class=HTMLResponse)
def run(dag_id: str, run_id: str, request: Request, user: Reader) -> Response:
    """What a run of Airflow did here; where it made one check and no more, that check."""
    if "\0" in run_id:  # no text of PostgreSQL's
        raise HTTPException(404, "There is no such run.")
    stream = next((dag_id.removesuffix(stage) for stage in STAGES if dag_id.endswith(stage)), "")
    # The tab is on the runs of every DAG, and others may be called something_ingest as well.
    if not NAME.fullmatch(stream) or stream not in stream_names(PROJECT / settings().streams):
        return page("run.html", stream=None, left=[], run_id=run_id)
    require_reading(stream, request, user)
    left = left_by_run(settings(), stream, dag_id, run_id)
    if [row["kind"] for row in left] == ["check"]:
        return RedirectResponse(check_page(stream, left[0]["id"]), 307)
    return page("run.html", stream=stream, left=left, run_id=run_id)


def _require_check(stream: str, check: str, request: Request, user: BaseUser) -> None:
    if not (NAME.fullmatch(stream) and CHECK_ID.fullmatch(check)):
        raise HTTPException(404, "There is no such check.")
    require_reading(stream, request, user)


def _missing(stream: str, check: str) -> HTTPException:
    return HTTPException(404, f"Stream {stream} has no check {check}.")


def _artefact(check: Check, file: str) -> bytes:
    """One of the files of a check.

    Raises:
        HTTPException: 404, the store does not have it.
        ServiceError: The store does not serve.
    """
    from pipeline.storage.objects import ObjectStore

    folder = check.report_key.rpartition("/")[0]
    try:
        return ObjectStore.from_settings(settings()).get_artifact(f"{folder}/{file}")
    except ObjectMissing:
        if gone := report_pruned(settings(), check.stream, check.id):
            raise HTTPException(404, f"The report of check {check.id} was pruned on {gone:%Y-%m-%d}.") from None
        raise HTTPException(404, f"The file {file} of check {check.id} is no longer in the store.") from None
