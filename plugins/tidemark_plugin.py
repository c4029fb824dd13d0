"""Tidemark's pages inside Airflow. Every Airflow process loads this file, so it imports next to nothing."""

from __future__ import annotations

from typing import Any

from airflow.plugins_manager import AirflowPlugin

from tidemark_airflow.addresses import PREFIX, base


async def pages(scope: Any, receive: Any, send: Any) -> None:
    """The pages as an ASGI application that is imported with its first request, in the API server alone."""
    from tidemark_airflow.views import app

    await app(scope, receive, send)


class TidemarkPlugin(AirflowPlugin):
    """Pages under ``/tidemark``, with an entry in Airflow's navigation and a tab on the pages of runs."""

    name = "tidemark"
    fastapi_apps = [{"app": pages, "url_prefix": PREFIX, "name": "Tidemark"}]  # noqa: RUF012 Airflow's own form
    external_views = [  # noqa: RUF012
        {"name": "Tidemark", "href": f"{base()}/", "destination": "nav", "url_route": "tidemark"},
        # A tab on the page of every run; Airflow fills in which one.
        {
            "name": "Drift",
            "href": f"{base()}/runs/{{DAG_ID}}/{{RUN_ID}}",
            "destination": "dag_run",
            "url_route": "tidemark_run",
        },
    ]
