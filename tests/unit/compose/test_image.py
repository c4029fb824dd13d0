"""docker/Dockerfile and .dockerignore: what may be in the image."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[3]
DOCKERFILE = (ROOT / "docker" / "Dockerfile").read_text(encoding="utf-8")


def test_nothing_enters_unnamed() -> None:
    lines = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and line[0] != "#"]
    assert lines[0] == "*"
    entering = {line[1:] for line in lines if line.startswith("!")}
    assert all((ROOT / name).exists() for name in entering)
    assert not entering & {".", ".env", ".git", ".venv", "tests", ".tidemark"}


def test_it_is_not_root_and_builds_from_the_lock() -> None:
    *_, final = DOCKERFILE.split("\nFROM ")
    assert re.search(r"^USER 10001:10001$", final, re.MULTILINE)
    assert "requirements.lock" in DOCKERFILE
    assert DOCKERFILE.count("python:3.11-slim-bookworm") == 1
    assert "HEALTHCHECK" in final
    assert "org.opencontainers.image.version" in final


def test_no_layer_takes_a_secret() -> None:
    assert not re.search(r"^(ARG|ENV).*(PASSWORD|SECRET|TOKEN|KEY)", DOCKERFILE, re.MULTILINE | re.IGNORECASE)
    assert not re.search(r"^ADD ", DOCKERFILE, re.MULTILINE)
    assert "apt-get" not in DOCKERFILE  # no compiler could have come
