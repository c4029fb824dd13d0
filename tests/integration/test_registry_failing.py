"""An MLflow that answers and fails, as it does when its artefact store is full, is told apart from one that is away."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import RegistryError
from pipeline.storage.registry import Registry


class Failing(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(500)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *said: Any) -> None:
        pass


def test_a_server_that_fails_is_not_said_to_be_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR", "0")
    server = ThreadingHTTPServer(("127.0.0.1", 0), Failing)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}"
    with pytest.raises(RegistryError, match=r"answers but fails \(status 500\): see that its artefact store has room"):
        Registry(address, tmp_path).versions("digits")
    server.shutdown()
    server.server_close()
    with pytest.raises(RegistryError, match="does not answer: start it"):
        Registry(address, tmp_path).versions("digits")
