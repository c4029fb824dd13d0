"""Labels that people give on a page: taken in by the same command that imports a queue somebody has filled in."""

from __future__ import annotations

import json
import logging
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import APIRouter, Form, HTTPException, Request, Response
from fastapi.responses import RedirectResponse
from pydantic import Field

from pipeline.stages.queues import QUEUE
from pipeline.stages.viewing_images import keys_of
from tidemark_airflow.addresses import base
from tidemark_airflow.assets import alarm
from tidemark_airflow.connections import settings
from tidemark_airflow.pages.access import Reader, require_editing, require_form, require_reading
from tidemark_airflow.pages.commands import hand_over, run_command

router = APIRouter()
log = logging.getLogger(__name__)

MOST_KEY = 1024  # bytes of a key in S3

ImageId = Annotated[int, Field(ge=1, le=2**63 - 1)]


def form_action(stream: str) -> str:
    """What the token of a form with labels is good for."""
    return f"label {stream}"


@router.post("/streams/{stream}/labels")
def give_labels(
    stream: str,
    request: Request,
    user: Reader,
    token: Annotated[str, Form(max_length=1000)] = "",
    image: Annotated[list[ImageId], Form(max_length=QUEUE)] = [],  # noqa: B006 FastAPI copies it
    label: Annotated[list[str], Form(max_length=QUEUE)] = [],  # noqa: B006
    key: Annotated[str, Form(max_length=MOST_KEY)] = "",
) -> Response:
    """Label images: one field ``label`` for each field ``image``; what is left empty stays as it is.

    With ``key`` the answer leads back to the page of that key, else to the queue.
    """
    require_reading(stream, request, user)
    require_editing(stream, request, user)
    require_form(token, request, user, form_action(stream))
    if len(image) != len(label):
        raise HTTPException(400, "Each image needs its own field for a label: open the page again.")
    given = {number: text for number, text in zip(image, label, strict=True) if text.strip()}
    labelled = _take_in(stream, given, user.get_name(), token) if given else 0
    where = f"key?key={quote(key, safe='')}&" if key else "queue?"
    return RedirectResponse(f"{base()}/streams/{stream}/{where}labelled={labelled}", 303)


def _take_in(stream: str, given: dict[int, str], author: str, form: str) -> int:
    """Import labels by image; how many images have a new one.

    Raises:
        HTTPException: 409, some of them could not be taken; the others are.
        CommandFailed: None could.
    """
    keys = keys_of(settings(), stream, list(given))
    log.info("%s labels %d images of %s", author, len(keys), stream)
    # The form makes it a file of its own: sent twice it counts once, but the same label may be given again later.
    rows = [{"key": keys[image], "label": given[image], "author": author, "form": form} for image in keys]
    result = _import(stream, rows) if rows else {}
    if result.get("next") == "retrain":
        hand_over(alarm(stream), {"check": result["check"]})
    labelled, refused = int(result.get("labelled", 0)), list(result.get("problems", []))
    if gone := len(given) - len(keys):
        refused.append(f"{gone} of the images are not in the store any more")
    if refused:
        raise HTTPException(409, f"{labelled} labelled, but not all: {'; '.join(refused)}.")
    return labelled


def _import(stream: str, rows: Iterable[dict[str, str]]) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="tidemark-labels-") as folder:
        path = Path(folder) / "pages.jsonl"
        path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
        return run_command("labels", stream, f"--import={path}")
