"""A stream's images: quarantine, labelling queue, all that is known of one key, and small pictures of them."""

from __future__ import annotations

import io
from typing import Annotated

from airflow.api_fastapi.auth.managers.models.base_user import BaseUser
from fastapi import APIRouter, HTTPException, Path, Query, Request, Response
from fastapi.responses import HTMLResponse

from pipeline.errors import StreamInvalid, StreamNotFound
from pipeline.stages.pictures import NoPicture, Pictures, is_too_large
from pipeline.stages.queues import Queues
from pipeline.stages.viewing_images import look_up, quarantine_page, write_queue_file
from pipeline.stream import Stream, load_stream
from tidemark_airflow import PROJECT
from tidemark_airflow.connections import settings
from tidemark_airflow.pages.access import Reader, form_token, may_edit, require_editing, require_reading
from tidemark_airflow.pages.answers import PageNumber, page
from tidemark_airflow.pages.labels import MOST_KEY, form_action

router = APIRouter()

FILE_IMAGES = 500  # of the queue's file

# Shown where there is no picture: no code of a stranger's, and nothing that a browser could take for one.
SIGN = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 96 96">{}</svg>'
CROSS = '<path d="M24 24l48 48M72 24l-48 48" stroke="#8a949c" stroke-width="11"/>'
WORDS = '<text x="48" y="52" font-size="11" font-family="sans-serif" text-anchor="middle" fill="#757c83">{}</text>'
PICTURE = {"Content-Type": "image/jpeg", "Cache-Control": "private, max-age=3600"}
NO_PICTURE = {"Content-Type": "image/svg+xml", "Content-Security-Policy": "default-src 'none'; sandbox"}

pictures, queues = Pictures(), Queues()

Key = Annotated[str, Query(max_length=MOST_KEY)]
Labelled = Annotated[int | None, Query(ge=0, le=2**31 - 1)]


@router.get("/streams/{stream}/images", response_class=HTMLResponse)
def quarantine(
    stream: str,
    request: Request,
    user: Reader,
    reason: Annotated[str, Query(max_length=100)] = "",
    page_number: PageNumber = 1,
) -> HTMLResponse:
    """What was not let in, why, and what it looks like."""
    require_reading(stream, request, user)
    if "\0" in reason:  # no text of PostgreSQL's
        raise HTTPException(404, "There is no such reason.")
    found = quarantine_page(settings(), stream, reason or None, page_number)
    return page("images.html", stream=stream, quarantine=found, reason=reason)


@router.get("/streams/{stream}/queue", response_class=HTMLResponse)
def queue(stream: str, request: Request, user: Reader, labelled: Labelled = None) -> HTMLResponse:
    """The images whose labels are worth most; ``labelled`` says how many have just got one."""
    require_reading(stream, request, user)
    here = _stream(stream)  # first: nothing is sorted or kept for a stream that there is not
    found = queues.of(settings(), stream)
    classes = here.classes or found.classes
    token = _token(stream, request, user)
    return page(
        "queue.html", stream=stream, queue=found, classes=classes, token=token, most=FILE_IMAGES, labelled=labelled
    )


@router.get("/streams/{stream}/queue.csv")
def queue_file(stream: str, request: Request, user: Reader) -> Response:
    """The queue's file as ``tidemark labels --queue`` writes it; its links are as good as keys to the images."""
    require_reading(stream, request, user)
    require_editing(stream, request, user)
    _stream(stream)
    text = io.StringIO(newline="")
    write_queue_file(settings().model_copy(update={"streams": PROJECT / settings().streams}), stream, FILE_IMAGES, text)
    headers = {"Content-Type": "text/csv; charset=utf-8", "Content-Disposition": 'attachment; filename="queue.csv"'}
    return Response(text.getvalue().encode("utf-8-sig"), headers=headers)


@router.get("/streams/{stream}/key", response_class=HTMLResponse)
def known_key(stream: str, request: Request, user: Reader, key: Key = "", labelled: Labelled = None) -> HTMLResponse:
    """All that is known of one key: what it leads to, its predictions by version, its labels and checks."""
    require_reading(stream, request, user)
    here, usable = _stream(stream), key and "\0" not in key
    story = look_up(settings(), here, key) if usable else None
    # Without classes in the stream's file: what the versions hold possible.
    told = {name for item in (story.predictions if story else ()) for name, _ in item["top_k"]}
    return page(
        "key.html",
        200 if story or not key else 404,
        stream=stream,
        key=key,
        story=story,
        classes=here.classes or sorted(told),
        token=_token(stream, request, user) if story else None,
        too_large=story is not None and is_too_large(story.row),
        labelled=labelled,
    )


@router.get("/streams/{stream}/pictures/{image}")
def picture(stream: str, image: Annotated[int, Path(ge=1, le=2**63 - 1)], request: Request, user: Reader) -> Response:
    """A small picture of an accepted image."""
    require_reading(stream, request, user)
    return _sent(pictures.of_image(settings(), _stream(stream), image))


@router.get("/streams/{stream}/quarantined")
def quarantined_picture(stream: str, request: Request, user: Reader, key: Key = "") -> Response:
    """A small picture of what was not let in."""
    require_reading(stream, request, user)
    return _sent(NoPicture.NOTHING if "\0" in key else pictures.of_quarantined(settings(), _stream(stream), key))


def _token(stream: str, request: Request, user: BaseUser) -> str | None:
    """For a form with labels, where the user may give any."""
    return form_token(user, form_action(stream)) if may_edit(stream, request, user) else None


def _sent(picture: bytes | NoPicture) -> Response:
    if not isinstance(picture, NoPicture):
        return Response(picture, headers=PICTURE)
    what = CROSS if picture is NoPicture.NOTHING else WORDS.format(picture.value)
    return Response(SIGN.format(what), headers=NO_PICTURE)


def _stream(name: str) -> Stream:
    """The stream as its file has it; the defaults where the file is broken, since what was taken in is still there.

    Raises:
        HTTPException: 404, there is no such file.
    """
    try:
        return load_stream(PROJECT / settings().streams, name)
    except StreamNotFound:
        raise HTTPException(404, "There is no such stream.") from None
    except StreamInvalid:
        return Stream(name=name, prefix=f"{name}/")
