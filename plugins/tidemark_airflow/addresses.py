"""Where Tidemark's pages are inside Airflow."""

from __future__ import annotations

from functools import cache
from urllib.parse import quote, urlsplit

from airflow.sdk.configuration import conf

PREFIX = "/tidemark"  # under Airflow's own base path


@cache  # a page asks a hundred times, and configuration takes longer than all else about it
def base() -> str:
    """Path of Tidemark's pages, without a slash at its end."""
    return urlsplit(conf.get("api", "base_url", fallback="") or "").path.rstrip("/") + PREFIX


def check_page(stream: str, check: str) -> str:
    """Path of a check's report."""
    return f"{base()}/checks/{quote(stream, safe='')}/{quote(check, safe='')}"
