"""Who is let through to the figures: whoever has the token, and nobody where none is set, be it missing or empty."""

from __future__ import annotations

import pytest

from tests.dags.conftest import AirflowProcesses

CODE = """
import json, sys
sys.path.insert(0, "plugins")
from fastapi import HTTPException
from fastapi.security import HTTPAuthorizationCredentials
from tidemark_airflow.pages.metrics import token_bearer
found = []
for given in (None, "", "wrong", "right"):
    bearer = None if given is None else HTTPAuthorizationCredentials(scheme="Bearer", credentials=given)
    try:
        token_bearer(bearer)
        found.append(200)
    except HTTPException as error:
        found.append(error.status_code)
print(json.dumps(found))
"""


@pytest.mark.parametrize(("token", "answers"), [("", [401] * 4), ("right", [401, 401, 401, 200])])
def test_the_figures_need_a_token(airflow_processes: AirflowProcesses, token: str, answers: list[int]) -> None:
    assert airflow_processes.python(CODE, TIDEMARK_METRICS_TOKEN=token) == answers
