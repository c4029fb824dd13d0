"""`make env`: generated secrets for one owner only, and never a second time."""

from __future__ import annotations

import base64
import re
import stat
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[3] / "docker" / "make-env.sh"


def make(file: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["sh", str(SCRIPT), str(file)], capture_output=True, text=True, timeout=60)


def read(file: Path) -> dict[str, str]:
    lines = [line for line in file.read_text().splitlines() if line and not line.startswith("#")]
    return dict(line.split("=", 1) for line in lines)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("made") / ".env"
    assert make(file).returncode == 0
    return file


def test_only_the_owner_can_read_it(made: Path) -> None:
    assert stat.S_IMODE(made.stat().st_mode) == 0o600


def test_secrets_are_long_and_differ(made: Path, tmp_path: Path) -> None:
    other = tmp_path / ".env"
    make(other)
    secrets, others = (
        {name: value for name, value in read(file).items() if re.search("PASSWORD|SECRET|KEY", name)}
        for file in (made, other)
    )
    assert len(secrets) >= 13
    assert len(set(secrets.values())) == len(secrets)
    for name, value in secrets.items():
        assert value != others[name]
        assert len(value) >= (15 if name.endswith("ACCESS_KEY") else 20), name


def test_passwords_may_stand_in_urls(made: Path) -> None:
    for name, value in read(made).items():
        if name.endswith(("PASSWORD", "SECRET_KEY")):
            assert re.fullmatch("[A-Za-z0-9]+", value), name


def test_the_fernet_key_is_one(made: Path) -> None:
    assert len(base64.urlsafe_b64decode(read(made)["AIRFLOW_FERNET_KEY"])) == 32


def test_what_is_there_stays(made: Path) -> None:
    before = made.read_bytes()
    again = make(made)
    assert again.returncode == 1
    assert "stays" in again.stderr
    assert made.read_bytes() == before
