"""Connections become the stages' environment; Airflow's own secrets do not."""

from __future__ import annotations

import json

from tests.dags.conftest import ROOT, AirflowProcesses

CODE = f"""
import json, os, sys
sys.path.insert(0, {str(ROOT / "plugins")!r})
from tidemark_airflow.connections import environment, secrets, settings
env, here = environment(), settings()
print(json.dumps({{
    "env": {{k: v for k, v in env.items() if k.startswith(("TIDEMARK", "AIRFLOW", "MLFLOW"))}},
    "secrets": secrets(env), "database": here.require_database(), "store": here.require_store(),
}}))
"""
WORKER = {
    "TIDEMARK_DATABASE_URL": "postgresql://worker:worker-password@old/db",
    "TIDEMARK_S3_ENDPOINT": "http://old:9000",
    "TIDEMARK_S3_ACCESS_KEY": "old-key",
    "TIDEMARK_S3_SECRET_KEY": "old-secret",
    "TIDEMARK_S3_REGION": "old-region",
    "MLFLOW_TRACKING_URI": "http://mlflow:5000",
}
STORE = {
    "conn_type": "aws",
    "login": "new-key",
    "password": "new-secret",
    "extra": {"endpoint_url": "https://s3.example.org", "region_name": "eu-west-1"},
}
DATABASE = {
    "conn_type": "postgres",
    "host": "db.example.org",
    "port": 5433,
    "login": "user@org",
    "password": "p@ss/w:rd?",
    "schema": "tidemark",
    "extra": {"sslmode": "require", "cursor": "dictcursor"},
}


def test_without_connections_the_workers_environment_serves(airflow_processes: AirflowProcesses) -> None:
    found = airflow_processes.python(CODE, **WORKER)
    assert found["env"] == {**WORKER, "AIRFLOW_HOME": airflow_processes.environment["AIRFLOW_HOME"]}
    assert found["database"] == WORKER["TIDEMARK_DATABASE_URL"]
    assert found["secrets"] == ["old-secret", "worker-password", "worker-password"]


def test_connections_replace_what_they_speak_of(airflow_processes: AirflowProcesses) -> None:
    connections = {
        "AIRFLOW_CONN_TIDEMARK_STORE": json.dumps(STORE),
        "AIRFLOW_CONN_TIDEMARK_DB": json.dumps(DATABASE),
        "AIRFLOW__CORE__FERNET_KEY": "not-for-the-pipeline",
    }
    found = airflow_processes.python(CODE, **WORKER, **connections)
    url = "postgresql://user%40org:p%40ss%2Fw%3Ard%3F@db.example.org:5433/tidemark?sslmode=require"
    assert found["env"] == {
        "AIRFLOW_HOME": airflow_processes.environment["AIRFLOW_HOME"],
        "MLFLOW_TRACKING_URI": "http://mlflow:5000",
        "TIDEMARK_DATABASE_URL": url,
        "TIDEMARK_S3_ENDPOINT": "https://s3.example.org",
        "TIDEMARK_S3_ACCESS_KEY": "new-key",
        "TIDEMARK_S3_SECRET_KEY": "new-secret",
        "TIDEMARK_S3_REGION": "eu-west-1",
    }
    assert found["database"] == url
    assert found["store"] == ["https://s3.example.org", "new-key", "new-secret"]
    assert {"new-secret", "p@ss/w:rd?", "p%40ss%2Fw%3Ard%3F"} == set(found["secrets"])


def test_a_connection_without_an_endpoint_is_amazons(airflow_processes: AirflowProcesses) -> None:
    store = json.dumps({**STORE, "extra": {"region_name": "eu-west-1"}})
    found = airflow_processes.python(CODE, **WORKER, AIRFLOW_CONN_TIDEMARK_STORE=store)
    assert found["store"] == ["https://s3.eu-west-1.amazonaws.com", "new-key", "new-secret"]


def test_the_channels_of_messages_come_from_connections_where_a_stage_tells(
    airflow_processes: AirflowProcesses,
) -> None:
    mail = {"conn_type": "smtp", "host": "mail.example.org", "port": 587, "login": "me@example.org", "password": "p/w",
            "extra": {"disable_ssl": True, "from_email": "tidemark@example.org"}}  # fmt: skip
    connections = {
        "AIRFLOW_CONN_TIDEMARK_SMTP": json.dumps(mail),
        "AIRFLOW_CONN_TIDEMARK_SLACK": json.dumps({"conn_type": "http", "password": "https://slack.example.org/T0/x"}),
        "AIRFLOW_CONN_TIDEMARK_WEBHOOK": json.dumps(
            {"conn_type": "http", "password": "hush", "extra": {"url": "https://hooks.example.org/in"}}
        ),
    }
    stage = airflow_processes.python(CODE, **WORKER, **connections)["env"]
    assert not any(name.startswith(("TIDEMARK_SMTP", "TIDEMARK_SLACK", "TIDEMARK_WEBHOOK")) for name in stage)
    found = airflow_processes.python(CODE.replace("environment()", "environment(tells=True)"), **WORKER, **connections)
    assert found["env"]["TIDEMARK_SMTP_URL"] == (
        "smtp://me%40example.org:p%2Fw@mail.example.org:587?from=tidemark%40example.org"
    )
    assert found["env"]["TIDEMARK_SLACK_WEBHOOK"] == "https://slack.example.org/T0/x"
    assert found["env"]["TIDEMARK_WEBHOOK_URL"] == "https://hooks.example.org/in"
    assert {"p/w", "p%2Fw", "https://slack.example.org/T0/x", "hush"} <= set(found["secrets"])
