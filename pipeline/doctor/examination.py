"""Look at everything at once; nothing that hangs or fails keeps the rest from being looked at."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote, urlsplit

from pydantic import SecretStr

from pipeline.doctor import airflow, clock, database, files, models, store, streams, versions
from pipeline.doctor.finding import Finding, problem
from pipeline.errors import TidemarkError
from pipeline.settings import Settings

Look = Callable[[Settings], Iterator[Finding]]

# Area → how it is looked at, and what to do where that does not come to an end. In the order they are told.
AREAS: dict[str, tuple[Look, str]] = {
    "streams": (streams.look, "the folder TIDEMARK_STREAMS lies on a disk that does not answer"),
    "store": (store.look, "is the network up, and TIDEMARK_S3_ENDPOINT right?"),
    "database": (database.look, "is the network up, and TIDEMARK_DATABASE_URL right? Who holds its locks?"),
    "models": (models.look, "is MLflow overloaded, and MLFLOW_TRACKING_URI right? Its log says more"),
    "Airflow": (airflow.look, "is its API server overloaded? Its log says more"),
    "clock": (clock.look, "store or database do not say what time it is"),
    "files": (files.look, "TIDEMARK_HOME or TMPDIR lie on a disk that does not answer"),
    "versions": (versions.look, "the disk of the installation does not answer"),
}


@dataclass
class _Work:
    """One area that is being looked at."""

    area: str
    look: Look
    advice: str
    findings: list[Finding] = field(default_factory=list)
    ended: bool = False

    def run(self, settings: Settings) -> None:
        try:
            for finding in self.look(settings):
                self.findings.append(finding)
        except TidemarkError as error:
            self.findings.append(problem(self.area, str(error)))
        except Exception as error:  # noqa: BLE001 - whatever it is, the other areas are still to be told
            text = " ".join(str(error).split())[:300]
            self.findings.append(problem(self.area, f"unexpected {type(error).__name__}: {text}"))
        self.ended = True


def examine(settings: Settings, seconds: float, areas: dict[str, tuple[Look, str]] = AREAS) -> list[Finding]:
    """Every finding of every area, after so many seconds at most; none of them holds a secret."""
    works = [_Work(area, look, advice) for area, (look, advice) in areas.items()]
    # Daemons: one that hangs for good must not keep the command from ending.
    threads = [threading.Thread(target=work.run, args=(settings,), daemon=True) for work in works]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + seconds
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    found = []
    for work in works:
        ended = work.ended  # asked first: what it finds from now on is not told
        found += list(work.findings)
        if not ended:
            found.append(problem(work.area, f"no answer within {seconds:g} s: {work.advice}"))
    hidden = _secrets(settings)
    return [Finding(area=each.area, state=each.state, says=_without(each.says, hidden)) for each in found]


def _secrets(settings: Settings) -> list[str]:
    """Whatever must not be shown, the longest first."""
    values = [value for _, value in settings if isinstance(value, SecretStr)]
    texts = [value.get_secret_value() for value in values] + [settings.mlflow_tracking_uri or ""]
    found = set(texts) - {settings.mlflow_tracking_uri}
    for text in texts:
        try:
            password = urlsplit(text).password or ""
        except ValueError:
            continue
        found |= {password, unquote(password)}
    return sorted(filter(None, found), key=len, reverse=True)


def _without(text: str, secrets: list[str]) -> str:
    for secret in secrets:
        text = text.replace(secret, "***")
    return " ".join(text.split())


def summary(findings: list[Finding]) -> dict[str, Any]:
    """For JSON and for the exit status."""
    counts = {state: sum(each.state == state for each in findings) for state in ("problem", "warning", "ok")}
    worst = next((state for state, count in counts.items() if count), "ok")
    return {
        "state": worst,
        "problems": counts["problem"],
        "warnings": counts["warning"],
        "findings": [each.to_dict() for each in findings],
    }
