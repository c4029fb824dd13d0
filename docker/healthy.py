"""Whether a service of docker-compose.yaml is well: ``healthy.py URL``, ``dag_processor``, ``triggerer`` or ``worker``.

Exit status 0 means yes. Standard library, but for a worker, so that asking every minute costs next to nothing.
"""

from __future__ import annotations

import json
import os
import socket
import sys
from urllib.request import ProxyHandler, build_opener

API = os.environ.get("AIRFLOW__CORE__EXECUTION_API_SERVER_URL", "http://airflow:8080/execution/")
SECONDS = 8.0


def healthy(what: str) -> bool:
    """Whether a URL answers 200, a part of Airflow has sent its heartbeat, or the worker of this container answers."""
    if what == "worker":
        return _worker()
    if what.startswith(("http://", "https://")):
        _fetch(what)
        return True
    health = json.loads(_fetch(API.removesuffix("/execution/") + "/api/v2/monitor/health"))
    return bool(health[what]["status"] == "healthy")


def _fetch(url: str) -> bytes:
    """The body of an answer 200; raises OSError for anything else."""
    with build_opener(ProxyHandler({})).open(url, timeout=SECONDS) as answer:
        return bytes(answer.read())


def _worker() -> bool:
    from celery import Celery

    app = Celery(broker=os.environ["AIRFLOW__CELERY__BROKER_URL"])
    name = f"celery@{socket.gethostname()}"
    return name in (app.control.inspect([name], timeout=SECONDS).ping() or {})


if __name__ == "__main__":
    try:
        sys.exit(0 if healthy(sys.argv[1]) else 1)
    except (OSError, LookupError, ValueError) as error:
        sys.exit(f"{sys.argv[1:]}: {error}")
