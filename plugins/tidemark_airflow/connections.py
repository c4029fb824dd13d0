"""Airflow connections `tidemark_store` and `tidemark_db`, where they exist, as the pipeline's environment."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote, urlencode, urlsplit

from airflow.sdk import Connection
from airflow.sdk.exceptions import AirflowNotFoundException
from pydantic import SecretStr

from pipeline.settings import GROUPS, Settings

if TYPE_CHECKING:
    from collections.abc import Mapping

STORE = "tidemark_store"
DATABASE = "tidemark_db"

# Airflow's own configuration holds its secrets; the pipeline has no use for them.
WITHHELD = ("AIRFLOW__", "_AIRFLOW", "__AIRFLOW", "AIRFLOW_CONN_", "AIRFLOW_VAR_")


def environment(base: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment of a stage: the worker's without Airflow's secrets, with the connections on top.

    A connection replaces its whole group of variables, so that no credential travels to somebody else's server.
    """
    result = {name: value for name, value in (base or os.environ).items() if not name.startswith(WITHHELD)}
    for given in (_store(), _database()):
        for group in GROUPS:
            if given.keys() & set(group):
                for name in group:
                    result.pop(name, None)
        result |= given
    return result


def settings() -> Settings:
    """Where things are, for a page that Airflow's own process serves."""
    store, database = _store(), _database()
    given: dict[str, Any] = {}
    if store:
        given = {
            "s3_endpoint": store["TIDEMARK_S3_ENDPOINT"],
            "s3_access_key": SecretStr(store["TIDEMARK_S3_ACCESS_KEY"]),
            "s3_secret_key": SecretStr(store["TIDEMARK_S3_SECRET_KEY"]),
            "s3_region": store["TIDEMARK_S3_REGION"],
        }
    if database:
        given["database_url"] = SecretStr(database["TIDEMARK_DATABASE_URL"])
    return Settings.load().model_copy(update=given)


def secrets(env: Mapping[str, str]) -> list[str]:
    """What must not show in a log, whatever prints it."""
    password = urlsplit(env.get("TIDEMARK_DATABASE_URL", "")).password
    return [value for value in (env.get("TIDEMARK_S3_SECRET_KEY"), password and unquote(password), password) if value]


def _store() -> dict[str, str]:
    connection = _connection(STORE)
    if connection is None:
        return {}
    extra = connection.extra_dejson
    region = str(extra.get("region_name") or "us-east-1")
    endpoint = extra.get("endpoint_url") or (extra.get("service_config") or {}).get("s3", {}).get("endpoint_url")
    return {
        "TIDEMARK_S3_ENDPOINT": str(endpoint or f"https://s3.{region}.amazonaws.com"),
        "TIDEMARK_S3_ACCESS_KEY": connection.login or "",
        "TIDEMARK_S3_SECRET_KEY": connection.password or "",
        "TIDEMARK_S3_REGION": region,
    }


def _database() -> dict[str, str]:
    connection = _connection(DATABASE)
    if connection is None:
        return {}
    login = quote(connection.login or "", safe="")
    password = f":{quote(connection.password, safe='')}" if connection.password else ""
    port = f":{connection.port}" if connection.port else ""
    # libpq parameters such as sslmode; other extras are meant for Airflow's own hook
    options = {name: value for name, value in connection.extra_dejson.items() if name.startswith("ssl")}
    query = f"?{urlencode(options)}" if options else ""
    host = quote(connection.host or "localhost", safe="[]:")
    return {
        "TIDEMARK_DATABASE_URL": f"postgresql://{login}{password}@{host}{port}/{quote(connection.schema or '')}{query}"
    }


def _connection(name: str) -> Connection | None:
    try:
        return Connection.get(name)
    except AirflowNotFoundException:
        return None
