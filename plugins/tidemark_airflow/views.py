"""The pages: recent checks, and the report of each. Nobody sees anything without Airflow's leave."""

from __future__ import annotations

import logging
import re
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from airflow.api_fastapi.app import get_auth_manager
from airflow.api_fastapi.auth.managers.models.base_user import BaseUser
from airflow.api_fastapi.core_api.security import bearer_scheme, get_user, requires_access_dag
from fastapi import Depends, FastAPI, HTTPException, Request, Response
from fastapi.responses import HTMLResponse, JSONResponse, RedirectResponse
from fastapi.security import HTTPAuthorizationCredentials
from jinja2 import Environment, FileSystemLoader
from starlette.exceptions import HTTPException as AnyHTTPException

from pipeline.errors import ObjectMissing, TidemarkError
from pipeline.stream import NAME
from tidemark_airflow.addresses import base, check_page
from tidemark_airflow.connections import settings

if TYPE_CHECKING:
    from pipeline.records import Check

log = logging.getLogger(__name__)

CHECK_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,119}")
RECENT = 50  # checks a stream
DETECT = "_detect_drift"

# Reports carry their style and pictures inside them; nothing is loaded, run, sent or framed by strangers.
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'self'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cache-Control": "no-store",
}

# Evidently's page draws with scripts of its own. They run in a page without an origin: without this site's cookies,
# without its other pages, and without any address to send to.
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

templates = Environment(loader=FileSystemLoader(Path(__file__).with_name("templates")), autoescape=True)
app = FastAPI(title="Tidemark", docs_url=None, redoc_url=None, openapi_url=None)


class LoginNeeded(Exception):
    """A browser without a valid login asks for a page."""


async def reader(
    request: Request, bearer: Annotated[HTTPAuthorizationCredentials | None, Depends(bearer_scheme)]
) -> BaseUser:
    """Whoever Airflow says is asking.

    Raises:
        LoginNeeded: Nobody, in a browser.
        HTTPException: Nobody, in a program: 401.
    """
    try:
        return await get_user(request, None, bearer)
    except HTTPException as error:
        if _is_browser(request) and bearer is None:
            raise LoginNeeded from None
        raise HTTPException(401, "Log in to Airflow first.", {"WWW-Authenticate": "Bearer"}) from error


Reader = Annotated[BaseUser, Depends(reader)]


@app.get("/", response_class=HTMLResponse)
def recent_checks(user: Reader) -> HTMLResponse:
    """The latest checks of every stream whose detect_drift DAG the user may read."""
    permitted = get_auth_manager().get_authorized_dag_ids(user=user, method="GET")
    streams = sorted(dag_id.removesuffix(DETECT) for dag_id in permitted if dag_id.endswith(DETECT))
    checks = _latest([name for name in streams if NAME.fullmatch(name)])
    return _page("checks.html", checks=checks, base=base())


@app.get("/checks/{stream}/{check}")
def report(stream: str, check: str, request: Request, user: Reader) -> Response:
    """Where a check's report is."""
    _find(stream, check, request, user)
    return RedirectResponse(f"{check_page(stream, check)}/report.html", 307)


@app.get("/checks/{stream}/{check}/{file}")
def report_file(stream: str, check: str, file: str, request: Request, user: Reader) -> Response:
    """A check's report, its twin for machines or its page on image properties, as it lies in the store."""
    found = _find(stream, check, request, user)
    if file not in FILES:
        raise HTTPException(404, f"There is no such page of check {check}.")
    return Response(_artefact(found, file), headers=FILES[file])


@app.api_route("/{anything:path}", methods=["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
def nothing(anything: str, user: Reader) -> Response:
    """Whatever else is asked for: not even that it does not exist is said to strangers."""
    raise HTTPException(404, "There is no such page.")


def _latest(streams: list[str]) -> list[Check]:
    from pipeline.storage.catalog import connect

    with connect(settings()) as catalog:
        checks = [check for stream in streams for check in catalog.checks(stream, limit=RECENT)]
    return sorted(checks, key=lambda check: str(check.created_at), reverse=True)[: 4 * RECENT]


def _find(stream: str, check: str, request: Request, user: BaseUser) -> Check:
    """A check that the user may see.

    Raises:
        HTTPException: 404, the catalogue does not have it; 403, it is not for this user.
        ServiceError: The database does not serve.
    """
    from pipeline.storage.catalog import connect

    if not (NAME.fullmatch(stream) and CHECK_ID.fullmatch(check)):
        raise HTTPException(404, "There is no such check.")
    requires_access_dag("GET", param_dag_id=f"{stream}{DETECT}")(request, user)
    with connect(settings()) as catalog:
        found = catalog.check(check)
    if found is None or found.stream != stream:
        raise HTTPException(404, f"Stream {stream} has no check {check}.")
    return found


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
        raise HTTPException(404, f"The file {file} of check {check.id} is no longer in the store.") from None


@app.middleware("http")
async def guarded(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
    """Every answer tells the browser to load, run and remember nothing, unless it says what it may."""
    response = await call_next(request)
    for name, value in HEADERS.items():
        response.headers.setdefault(name, value)
    return response


@app.exception_handler(LoginNeeded)
async def _to_login(request: Request, error: Exception) -> Response:
    return RedirectResponse(get_auth_manager().get_url_login(next_url=request.url.path), 303)


@app.exception_handler(AnyHTTPException)
async def _refusal(request: Request, error: Any) -> Response:
    return _plain(request, error.status_code, str(error.detail), error.headers)


@app.exception_handler(TidemarkError)
async def _out_of_order(request: Request, error: Exception) -> Response:
    log.warning("%s: %s", request.url.path, error)
    return _plain(request, 503, str(error))


def _plain(request: Request, status: int, sentence: str, headers: dict[str, str] | None = None) -> Response:
    if _is_browser(request):
        return _page("sentence.html", status, headers, sentence=sentence, base=base())
    return JSONResponse({"detail": sentence}, status, headers)


def _page(template: str, status: int = 200, headers: dict[str, str] | None = None, **values: Any) -> HTMLResponse:
    return HTMLResponse(templates.get_template(template).render(**values), status, headers)


def _is_browser(request: Request) -> bool:
    return "text/html" in request.headers.get("accept", "")
