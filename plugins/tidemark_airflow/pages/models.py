"""A stream's model versions side by side, each one's page, and the way back to an earlier one."""

from __future__ import annotations

import logging
from typing import Annotated

from fastapi import APIRouter, Form, HTTPException, Path, Query, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse

from pipeline.errors import ArtefactDamaged, ConfigurationError
from pipeline.stages.returning import require_able_to_return
from pipeline.stages.viewing_models import VersionStory, model_versions, version_story
from tidemark_airflow.addresses import base
from tidemark_airflow.assets import champion
from tidemark_airflow.connections import settings
from tidemark_airflow.pages.access import Reader, form_token, may_edit, require_editing, require_form, require_reading
from tidemark_airflow.pages.answers import PageNumber, page
from tidemark_airflow.pages.commands import hand_over, run_command

router = APIRouter()
log = logging.getLogger(__name__)

Number = Annotated[int, Path(ge=1, le=2**31 - 1)]


@router.get("/streams/{stream}/models", response_class=HTMLResponse)
def versions(
    stream: str,
    request: Request,
    user: Reader,
    page_number: PageNumber = 1,
    back: Annotated[int | None, Query(ge=1, le=2**31 - 1)] = None,
    scoring: Annotated[bool, Query()] = False,
) -> HTMLResponse:
    """Every version with its figures; ``back`` names the one that was just brought back."""
    require_reading(stream, request, user)
    found = model_versions(settings(), stream, page_number)
    done = back if back is not None and back == found.champion else None
    return page(
        "models.html", stream=stream, models=found, editor=may_edit(stream, request, user), done=done, scoring=scoring
    )


@router.get("/streams/{stream}/models/{version}", response_class=HTMLResponse)
def version_page(stream: str, version: Number, request: Request, user: Reader) -> HTMLResponse:
    """One version: figures, gate, confusion matrix."""
    require_reading(stream, request, user)
    story = _story(stream, version)
    return page("model.html", stream=stream, story=story, editor=may_edit(stream, request, user))


@router.get("/streams/{stream}/models/{version}/rollback", response_class=HTMLResponse)
def ask(stream: str, version: Number, request: Request, user: Reader) -> HTMLResponse:
    """Whether it is meant: what would happen, and a form; refused at once is what ``tidemark rollback`` refuses."""
    require_reading(stream, request, user)
    require_editing(stream, request, user)
    story = _story(stream, version)
    try:
        require_able_to_return(settings(), stream, version)
    except (ConfigurationError, ArtefactDamaged) as error:
        raise HTTPException(409, f"This cannot be done: {error}.") from None
    return page("rollback.html", stream=stream, story=story, token=form_token(user, _action(stream, version)))


@router.post("/streams/{stream}/models/{version}/rollback")
def roll_back(
    stream: str,
    version: Number,
    request: Request,
    user: Reader,
    token: Annotated[str, Form(max_length=1000)] = "",
) -> Response:
    """Put an earlier version in charge again; scoring follows."""
    require_reading(stream, request, user)
    require_editing(stream, request, user)
    require_form(token, request, user, _action(stream, version))
    _story(stream, version)
    who = user.get_name()
    log.info("%s rolls %s back to version %d", who, stream, version)
    run_command("rollback", stream, f"--to={version}", f"--by={who}"[:200])
    followed = hand_over(champion(stream), {"version": version})
    return RedirectResponse(f"{base()}/streams/{stream}/models?back={version}&scoring={str(followed).lower()}", 303)


def _action(stream: str, version: int) -> str:
    return f"rollback {stream} {version}"


def _story(stream: str, version: int) -> VersionStory:
    story = version_story(settings(), stream, version)
    if story is None:
        raise HTTPException(404, f"There is no such version of stream {stream}.")
    return story
