"""Who may see what, and who may change it: Airflow is asked every time."""

from __future__ import annotations

from typing import Annotated

from airflow.api_fastapi.app import get_auth_manager
from airflow.api_fastapi.auth.managers.models.base_user import BaseUser
from airflow.api_fastapi.core_api.security import bearer_scheme, get_user, requires_access_dag
from airflow.configuration import conf
from fastapi import Depends, HTTPException, Request
from fastapi.security import HTTPAuthorizationCredentials
from itsdangerous import BadSignature, URLSafeTimedSerializer

from pipeline.stream import NAME

DETECT = "_detect_drift"
STAGES = ("_ingest", DETECT, "_retrain", "_score")
FORM_SECONDS = 8 * 3600  # how long a page with a form may lie open


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
        if is_browser(request) and bearer is None:
            raise LoginNeeded from None
        raise HTTPException(401, "Log in to Airflow first.", {"WWW-Authenticate": "Bearer"}) from error


Reader = Annotated[BaseUser, Depends(reader)]


def is_browser(request: Request) -> bool:
    """Whether a page is wanted, not data."""
    return "text/html" in request.headers.get("accept", "")


def readable_streams(user: BaseUser) -> list[str]:
    """Names of the streams whose detect_drift DAG the user may read, sorted."""
    permitted = get_auth_manager().get_authorized_dag_ids(user=user, method="GET")
    names = sorted(dag_id.removesuffix(DETECT) for dag_id in permitted if dag_id.endswith(DETECT))
    return [name for name in names if NAME.fullmatch(name)]


def require_reading(stream: str, request: Request, user: BaseUser) -> None:
    """Let through who may read the stream's checks.

    Raises:
        HTTPException: 404, no stream has such a name; 403, it is not for this user.
    """
    if not NAME.fullmatch(stream):
        raise HTTPException(404, "There is no such stream.")
    requires_access_dag("GET", param_dag_id=f"{stream}{DETECT}")(request, user)


def may_edit(stream: str, request: Request, user: BaseUser) -> bool:
    """Whether the user may change all of the stream's DAGs, and with them the stream."""
    try:
        for stage in STAGES:
            requires_access_dag("PUT", param_dag_id=f"{stream}{stage}")(request, user)
    except HTTPException:
        return False
    return True


def require_editing(stream: str, request: Request, user: BaseUser) -> None:
    """Let through who may change the stream.

    Raises:
        HTTPException: 403, this user may not.
    """
    if not may_edit(stream, request, user):
        raise HTTPException(403, f"You may look at stream {stream}, not change it: its DAGs' edit right is needed.")


def form_token(user: BaseUser, action: str) -> str:
    """What a form carries, so that no other site can send it in this user's name.

    Signed with the API server's secret key for one user and one action; a copy of it is worth nothing to another user.
    """
    return _signer().dumps([str(user.get_id()), action])


def require_form(token: str, request: Request, user: BaseUser, action: str) -> None:
    """Let through a form that this server gave to this user for this action.

    Raises:
        HTTPException: 403, it comes from elsewhere, is for somebody or something else, or is too old.
    """
    if request.headers.get("sec-fetch-site", "same-origin") not in {"same-origin", "none"}:
        raise HTTPException(403, "This form was sent by another site: open the page here and send it again.")
    try:
        whose = _signer().loads(token, max_age=FORM_SECONDS)
    except BadSignature:
        whose = None
    if whose != [str(user.get_id()), action]:
        raise HTTPException(403, "This form is too old or not yours: open the page again and repeat it.")


def _signer() -> URLSafeTimedSerializer:
    return URLSafeTimedSerializer(conf.get("api", "secret_key"), salt="tidemark-form")
