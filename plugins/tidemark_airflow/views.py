"""The pages as one application. Nobody sees anything without Airflow's leave."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Any

from airflow.api_fastapi.app import get_auth_manager
from airflow.api_fastapi.core_api.security import bearer_scheme
from fastapi import FastAPI, HTTPException, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, RedirectResponse
from starlette.datastructures import URL
from starlette.exceptions import HTTPException as AnyHTTPException

from pipeline.errors import TidemarkError
from tidemark_airflow.addresses import base
from tidemark_airflow.pages import checks, images, labels, metrics, models, streams
from tidemark_airflow.pages.access import LoginNeeded, Reader, is_browser, reader
from tidemark_airflow.pages.answers import HEADERS, STATIC, page, static_file
from tidemark_airflow.pages.commands import CommandFailed

log = logging.getLogger(__name__)

MOST_BODY = 256 * 1024  # bytes of a form
KEPT = {"Cache-Control": "private, max-age=31536000, immutable"}  # their address changes with their content

app = FastAPI(title="Tidemark", docs_url=None, redoc_url=None, openapi_url=None)
app.include_router(streams.router)
app.include_router(checks.router)
app.include_router(models.router)
app.include_router(images.router)
app.include_router(labels.router)
app.include_router(metrics.router)


@app.get("/static/{name}")
def static(name: str, user: Reader) -> Response:
    """The stylesheet and the script of the pages."""
    if name not in STATIC:
        raise HTTPException(404, "There is no such file.")
    return Response(static_file(name), headers={"Content-Type": STATIC[name], **KEPT})


@app.api_route("/{anything:path}", methods=["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
def nothing(anything: str, user: Reader) -> Response:
    """Whatever else is asked for: not even that it does not exist is said to strangers."""
    raise HTTPException(404, "There is no such page.")


@app.middleware("http")
async def guarded(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
    """Every answer tells the browser to load, run and remember nothing, unless it says what it may.

    FastAPI reads a form before any route has asked who sends it; so it is asked here, and of strangers nothing is read.
    """
    try:
        response = await _unread(request) or await call_next(request)
    except Exception:  # answered here: what lies outside would send it without our headers
        log.exception("%s", request.url.path)
        response = _plain(request, 500, "Something went wrong: the log of Airflow's API server says what.")
    for name, value in HEADERS.items():
        response.headers.setdefault(name, value)
    return response


async def _unread(request: Request) -> Response | None:
    """The answer to what is sent by nobody we know, or is more than a form may hold; None for what may be read."""
    said = request.headers.get("content-length", "0")
    endless = "transfer-encoding" in request.headers or not said.isdecimal()
    if request.method in {"GET", "HEAD"} and not endless and int(said) == 0:
        return None
    try:
        await reader(request, await bearer_scheme(request))
    except LoginNeeded as error:
        return await _to_login(request, error)
    except AnyHTTPException as error:
        return await _refusal(request, error)
    if endless or int(said) > MOST_BODY:
        return _plain(request, 413, f"A form here holds at most {MOST_BODY >> 10} KiB, and says so first.")
    return None


@app.exception_handler(LoginNeeded)
async def _to_login(request: Request, error: Exception) -> Response:
    return RedirectResponse(get_auth_manager().get_url_login(next_url=_back(request)), 303)


def _back(request: Request) -> str:
    """Where somebody goes on after the login: the page asked for, or the one whose form was sent; path and query."""
    if request.method in {"GET", "HEAD"}:
        here = request.url
    else:
        here = URL(request.headers.get("referer", ""))
        try:
            ours = here.hostname == request.url.hostname and here.path.startswith(f"{base()}/")
        except ValueError:  # no address at all
            ours = False
        if not ours:
            return f"{base()}/"
    return f"{here.path}?{here.query}" if here.query else here.path


@app.exception_handler(AnyHTTPException)
async def _refusal(request: Request, error: Any) -> Response:
    return _plain(request, error.status_code, str(error.detail), error.headers)


@app.exception_handler(RequestValidationError)
async def _no_such_question(request: Request, error: Exception) -> Response:
    return _plain(request, 404, "There is no such page.")


@app.exception_handler(CommandFailed)
async def _not_done(request: Request, error: Exception) -> Response:
    return _plain(request, 409, str(error))


@app.exception_handler(TidemarkError)
async def _out_of_order(request: Request, error: Exception) -> Response:
    log.warning("%s: %s", request.url.path, error)
    return _plain(request, 503, str(error))


def _plain(request: Request, status: int, sentence: str, headers: dict[str, str] | None = None) -> Response:
    if is_browser(request):
        return page("sentence.html", status, headers, sentence=sentence)
    return JSONResponse({"detail": sentence}, status, headers)
