"""Airflow connections `tidemark_…`, where they exist, as the pipeline's environment."""

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
METRICS = "tidemark_metrics"
MAIL, SLACK, WEBHOOK = "tidemark_smtp", "tidemark_slack", "tidemark_webhook"

# Airflow's own configuration holds its secrets; the pipeline has no use for them.
WITHHELD = ("AIRFLOW__", "_AIRFLOW", "__AIRFLOW", "AIRFLOW_CONN_", "AIRFLOW_VAR_")

SECRETS = (
    "TIDEMARK_S3_SECRET_KEY",
    "TIDEMARK_AIRFLOW_PASSWORD",
    "TIDEMARK_SLACK_WEBHOOK",
    "TIDEMARK_WEBHOOK_SECRET",
    "TIDEMARK_METRICS_TOKEN",
    "MLFLOW_TRACKING_PASSWORD",
    "MLFLOW_TRACKING_TOKEN",
)


def environment(base: Mapping[str, str] | None = None, *, tells: bool = False) -> dict[str, str]:
    """The environment of a stage: the worker's without Airflow's secrets, with the connections on top.

    A connection replaces its whole group of variables, so that no credential travels to somebody else's server. Those
    of the channels that carry messages are looked up for a stage that ``tells`` only.
    """
    result = {name: value for name, value in (base or os.environ).items() if not name.startswith(WITHHELD)}
    for given in (_store(), _database(), *((_mail(), _slack(), _webhook()) if tells else ())):
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
    if (metrics := _connection(METRICS)) is not None:
        given["metrics_token"] = SecretStr(metrics.password) if metrics.password else None
    return Settings.load().model_copy(update=given)


def secrets(env: Mapping[str, str]) -> list[str]:
    """What must not show in a log, whatever prints it."""
    found = [env.get(name) for name in SECRETS]
    for name in ("TIDEMARK_DATABASE_URL", "TIDEMARK_SMTP_URL"):
        if password := urlsplit(env.get(name, "")).password:
            found += [unquote(password), password]
    return [value for value in found if value]


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


def _mail() -> dict[str, str]:
    """As Airflow's own SMTP hook reads a connection: TLS from the start unless it is disabled, then STARTTLS."""
    connection = _connection(MAIL)
    if connection is None:
        return {}
    extra = connection.extra_dejson
    login = quote(connection.login or "", safe="")
    password = f":{quote(connection.password, safe='')}" if connection.password else ""
    at = f"{login}{password}@" if login else ""
    later = _is_true(extra.get("disable_ssl"))
    options = {"from": str(extra.get("from_email") or connection.login or "")}
    if later and _is_true(extra.get("disable_tls")):
        options["tls"] = "no"
    port = f":{connection.port}" if connection.port else ""
    host = quote(connection.host or "localhost", safe="[]:")
    return {"TIDEMARK_SMTP_URL": f"{'smtp' if later else 'smtps'}://{at}{host}{port}?{urlencode(options)}"}


def _slack() -> dict[str, str]:
    """The webhook's address is itself the secret: it stands in the password, which Airflow keeps encrypted."""
    connection = _connection(SLACK)
    return {"TIDEMARK_SLACK_WEBHOOK": connection.password or ""} if connection else {}


def _webhook() -> dict[str, str]:
    connection = _connection(WEBHOOK)
    if connection is None:
        return {}
    address = str(connection.extra_dejson.get("url") or connection.host or "")
    return {"TIDEMARK_WEBHOOK_URL": address, "TIDEMARK_WEBHOOK_SECRET": connection.password or ""}


def _is_true(value: Any) -> bool:
    return str(value).lower() in {"true", "1"}


def _connection(name: str) -> Connection | None:
    try:
        return Connection.get(name)
    except AirflowNotFoundException:
        return None
