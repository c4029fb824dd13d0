"""Asking a server of the stack once, quickly."""

from __future__ import annotations

import requests


def get(url: str, seconds: float = 2.0) -> int | None:
    """Status of a GET; None where nothing answers."""
    with requests.Session() as session:
        session.trust_env = False  # no proxy stands between us and loopback
        try:
            return session.get(url, timeout=seconds, allow_redirects=False).status_code
        except requests.RequestException:
            return None
