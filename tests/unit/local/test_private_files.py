from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest

from pipeline.errors import StackError
from pipeline.local.credentials import FILE, Credentials
from pipeline.local.private_files import make_private_folder, write_private


def test_only_the_user_can_read_it_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        write_private(tmp_path / "secret", "one")
        make_private_folder(tmp_path / "folder")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "secret").stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "folder").stat().st_mode) == 0o700


def test_a_file_is_replaced_whole_and_no_draft_stays(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("old and open")
    (tmp_path / "secret").chmod(0o644)
    write_private(tmp_path / "secret", "new")
    assert (tmp_path / "secret").read_text() == "new"
    assert stat.S_IMODE((tmp_path / "secret").stat().st_mode) == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["secret"]


def test_a_folder_that_cannot_be_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StackError, match="TIDEMARK_HOME") as caught:
        make_private_folder(tmp_path / "file")
    assert "\n" not in str(caught.value)
    with pytest.raises(StackError, match="cannot write"):
        write_private(tmp_path / "file" / "secret", "x")


def test_credentials_are_made_once_and_kept(tmp_path: Path) -> None:
    first = Credentials.of(tmp_path)
    assert Credentials.of(tmp_path) == first
    assert stat.S_IMODE((tmp_path / FILE).stat().st_mode) == 0o600
    assert Credentials.of(_folder(tmp_path / "other")) != first


def test_credentials_of_an_older_version_keep_what_they_have(tmp_path: Path) -> None:
    first = Credentials.of(tmp_path)
    content = json.loads((tmp_path / FILE).read_text())
    del content["airflow_jwt_secret"]
    (tmp_path / FILE).write_text(json.dumps(content))
    again = Credentials.of(tmp_path)
    assert again.postgres_password == first.postgres_password
    assert again.airflow_jwt_secret
    assert Credentials.of(tmp_path) == again


@pytest.mark.parametrize("content", ["", "[]", "{", "null"])
def test_damaged_credentials_are_not_replaced(content: str, tmp_path: Path) -> None:
    (tmp_path / FILE).write_text(content)
    with pytest.raises(StackError, match="is damaged"):
        Credentials.of(tmp_path)
    assert (tmp_path / FILE).read_text() == content


def test_no_secret_shows_in_a_repr(tmp_path: Path) -> None:
    credentials = Credentials.of(tmp_path)
    content = json.loads((tmp_path / FILE).read_text())
    assert not [value for value in content.values() if value in repr(credentials)]


def _folder(path: Path) -> Path:
    path.mkdir()
    return path
